//! Dehydrated devices: keys that a user leaves here while no device of theirs is logged in.
//! [Proposal](https://github.com/matrix-org/matrix-spec-proposals/pull/3814)

use std::collections::BTreeMap;

use axum::{
    Router,
    extract::State,
    routing::{post, put},
};
use rooms::Position;
use ruma::{
    OwnedDeviceId, OwnedOneTimeKeyId,
    encryption::{DeviceKeys, OneTimeKey},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue, json};
use syncing::Syncing;
use users::{NewDehydrated, NewDeviceKeys, Users};

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{JsonBody, PathArgs},
    state::ApiState,
};

/// Messages that are given at once.
const EVENTS_MAX: usize = 100;

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route(PATH, put(put_device).get(get_device).delete(delete_device))
        .route(&format!("{PATH}/{{device_id}}/events"), post(events))
}

/// What a client leaves here.
#[derive(Deserialize)]
struct DeviceBody {
    device_id: OwnedDeviceId,
    device_data: Map<String, JsonValue>,
    #[serde(default)]
    initial_device_display_name: Option<String>,
    #[serde(default)]
    device_keys: Option<Raw<DeviceKeys>>,
    #[serde(default)]
    one_time_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
    #[serde(default)]
    fallback_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
}

/// Keeps a dehydrated device.
async fn put_device(
    State(users): State<Users>,
    session: ActiveSession,
    JsonBody(body): JsonBody<DeviceBody>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let device_id = body.device_id.clone();
    let device = NewDehydrated {
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        data: body.device_data,
        keys: NewDeviceKeys {
            device_keys: body.device_keys,
            one_time_keys: body.one_time_keys,
            fallback_keys: body.fallback_keys,
        },
    };
    users.put_dehydrated_device(&session.user_id, device).await?;
    Ok(axum::Json(json!({ "device_id": device_id })))
}

/// Gives the dehydrated device back.
async fn get_device(
    State(users): State<Users>,
    session: ActiveSession,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let (device_id, data) = users.dehydrated_device(&session.user_id).await?;
    Ok(axum::Json(json!({ "device_id": device_id, "device_data": data })))
}

/// Removes the dehydrated device.
async fn delete_device(
    State(users): State<Users>,
    session: ActiveSession,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let device_id = users.delete_dehydrated_device(&session.user_id).await?;
    Ok(axum::Json(json!({ "device_id": device_id })))
}

/// Where a client stands that reads the messages.
#[derive(Deserialize)]
struct EventsBody {
    #[serde(default)]
    next_batch: Option<String>,
}

/// Gives the messages that came for the dehydrated device, some at a time.
async fn events(
    State(users): State<Users>,
    State(syncing): State<Syncing>,
    session: ActiveSession,
    PathArgs([device_id]): PathArgs<1>,
    JsonBody(body): JsonBody<EventsBody>,
) -> Result<axum::Json<JsonValue>, ApiError> {
    let user_id = &session.user_id;
    let (dehydrated, _) = users.dehydrated_device(user_id).await?;
    if dehydrated.as_str() != device_id {
        return Err(ApiError::forbidden("this is not your dehydrated device"));
    }
    let after = match body.next_batch {
        Some(text) => {
            let number = text.parse().map_err(|_| ApiError::invalid_param("no such next_batch"))?;
            Position::new(number)
        }
        None => Position::ZERO,
    };
    users.acknowledge_inbox(user_id, &dehydrated, after).await?;
    let upto = syncing.position().await;
    let inbox = users.inbox(user_id, &dehydrated, after, upto, EVENTS_MAX).await?;
    Ok(axum::Json(json!({
        "events": inbox.events,
        "next_batch": inbox.upto.get().to_string(),
    })))
}

//! `POST /createRoom`.

use axum::{Router, extract::State};
use rooms::{NewRoom, RoomPreset, Rooms};
use ruma::{
    api::client::room::create_room::v3::{Request, Response, RoomPreset as WantedPreset},
    events::StateEventType,
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;
use users::Users;

use crate::{
    ApiState,
    auth::ActiveSession,
    directory::visibility,
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    route::<Request, _, _>(Router::new(), create_room)
}

/// Creates a room with its first events, invites and alias.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom)
async fn create_room(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<Request>,
) -> Result<Ruma<Response>, ApiError> {
    if !request.invite_3pid.is_empty() {
        return Err(super::moderation::no_identity_server());
    }
    let mut invites = Vec::with_capacity(request.invite.len());
    for user_id in request.invite {
        let profile = super::member_profile(&users, &user_id).await?;
        invites.push((user_id, profile));
    }
    let room = NewRoom {
        version: request.room_version,
        preset: request.preset.map(preset).transpose()?,
        visibility: visibility(&request.visibility)?,
        alias_localpart: request.room_alias_name,
        name: request.name,
        topic: request.topic,
        invites,
        is_direct: request.is_direct,
        initial_state: request.initial_state.iter().map(initial_state).collect::<Result<_, _>>()?,
        power_level_override: request.power_level_content_override.map(Raw::into_json),
        creation_content: request.creation_content.map(Raw::into_json),
        creator_profile: super::member_profile(&users, &session.user_id).await?,
    };
    let room_id = rooms.create(&session.user_id, room).await?;
    Ok(Ruma(Response::new(room_id)))
}

fn preset(wanted: WantedPreset) -> Result<RoomPreset, ApiError> {
    match wanted {
        WantedPreset::PrivateChat => Ok(RoomPreset::PrivateChat),
        WantedPreset::TrustedPrivateChat => Ok(RoomPreset::TrustedPrivateChat),
        WantedPreset::PublicChat => Ok(RoomPreset::PublicChat),
        other => Err(ApiError::invalid_param(format!("unknown preset {:?}", other.as_str()))),
    }
}

/// Type, key and content of one entry of `initial_state`.
fn initial_state<T>(
    event: &Raw<T>,
) -> Result<(StateEventType, String, Box<RawJsonValue>), ApiError> {
    #[derive(Deserialize)]
    struct Parts {
        #[serde(rename = "type")]
        kind: StateEventType,
        #[serde(default)]
        state_key: String,
        content: Box<RawJsonValue>,
    }
    let parts: Parts = serde_json::from_str(event.json().get())
        .map_err(|error| ApiError::bad_json(format!("initial_state: {error}")))?;
    Ok((parts.kind, parts.state_key, parts.content))
}

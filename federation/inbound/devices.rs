//! Devices of our users and their keys.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#device-management)

use std::collections::BTreeMap;

use axum::{extract::State, response::Response};
use ruma::{OwnedDeviceId, OwnedUserId};
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue, json};
use users::KeyClaims;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, ok},
        extract::Args,
        origin::Signed,
    },
};

/// Whose keys are wanted: of some devices, or of all where none is named.
#[derive(Deserialize)]
struct KeysQuery {
    device_keys: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
}

/// Which one-time keys are wanted.
#[derive(Deserialize)]
struct KeysClaim {
    one_time_keys: KeyClaims,
}

/// Gives the devices of a user.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1userdevicesuserid)
pub(crate) async fn get_devices(
    State(door): State<Door>,
    Args(user_id): Args<OwnedUserId>,
    _: Signed,
) -> Result<Response> {
    if !door.users.is_local(&user_id) {
        return Err(Refusal::invalid_param("the user is not on this server"));
    }
    let unknown = || Refusal::not_found("there is no such user");
    let found = door.users.devices_for(&user_id).await?.ok_or_else(unknown)?;
    let devices: Vec<JsonValue> = found
        .devices
        .into_iter()
        .map(|(device_id, keys, name)| {
            let mut device = Map::from_iter([("device_id".to_owned(), json!(device_id))]);
            device.extend(keys.map(|keys| ("keys".to_owned(), json!(keys))));
            device.extend(name.map(|name| ("device_display_name".to_owned(), json!(name))));
            device.into()
        })
        .collect();
    let mut answer = json!({
        "user_id": user_id,
        "stream_id": found.stream_id,
        "devices": devices,
    });
    if let Some(fields) = answer.as_object_mut() {
        fields.extend(found.master_key.map(|key| ("master_key".to_owned(), json!(key))));
        let self_signing = found.self_signing_key;
        fields.extend(self_signing.map(|key| ("self_signing_key".to_owned(), json!(key))));
    }
    Ok(ok(&answer))
}

/// Gives the keys of users.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysquery)
pub(crate) async fn query_keys(State(door): State<Door>, request: Signed) -> Result<Response> {
    let KeysQuery { device_keys } = request.json()?;
    let keys = door.users.query_keys_for(&request.origin, &device_keys).await?;
    Ok(ok(&json!({
        "device_keys": keys.device_keys,
        "master_keys": keys.master_keys,
        "self_signing_keys": keys.self_signing_keys,
    })))
}

/// Hands out one-time keys of users.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim)
pub(crate) async fn claim_keys(State(door): State<Door>, request: Signed) -> Result<Response> {
    let KeysClaim { one_time_keys } = request.json()?;
    let claimed = door.users.claim_keys_for(&request.origin, &one_time_keys).await?;
    Ok(ok(&json!({ "one_time_keys": claimed })))
}

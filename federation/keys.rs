//! The keys of this server, as it publishes them.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use ruma::{MilliSecondsSinceUnixEpoch, UInt};

use crate::{
    door::Door,
    inbound::error::{Refusal, Result, json_text},
};

/// How long others may rely on the keys that we give them, in milliseconds: a day.
pub(crate) const KEYS_VALID_MS: u64 = 24 * 60 * 60 * 1_000;

/// Publishes the keys with which this server signs.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server)
pub(crate) async fn server_keys(State(door): State<Door>) -> Response {
    own_document(&door).map(json_text).into_response()
}

/// The signed document with our keys.
pub(crate) fn own_document(door: &Door) -> Result<String> {
    let valid_until_ms = door.clock.now_ms().saturating_add(KEYS_VALID_MS);
    let valid_until_ts = MilliSecondsSinceUnixEpoch(UInt::new_saturating(valid_until_ms));
    let keys = &door.keys;
    event::key_document(&door.server_name, &keys.current(), keys.old(), valid_until_ts)
        .map_err(|cause| Refusal::internal(&cause))
}

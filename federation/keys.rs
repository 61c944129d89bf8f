//! The keys of this server, as it publishes them.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use ruma::MilliSecondsSinceUnixEpoch;

use crate::door::{Door, error};

/// How long others may rely on the keys that we give them, in milliseconds: a day.
const KEYS_VALID_MS: u64 = 24 * 60 * 60 * 1_000;

/// Publishes the keys with which this server signs.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server)
pub(crate) async fn server_keys(State(door): State<Door>) -> Response {
    let valid_until_ms = door.clock.now_ms().saturating_add(KEYS_VALID_MS);
    let valid_until_ts = ruma::UInt::new(valid_until_ms)
        .map_or_else(|| MilliSecondsSinceUnixEpoch(ruma::UInt::MAX), MilliSecondsSinceUnixEpoch);
    match event::key_document(&door.server_name, &door.key, &[], valid_until_ts) {
        Ok(document) => ([(header::CONTENT_TYPE, "application/json")], document).into_response(),
        Err(cause) => {
            tracing::error!(error = %cause, "the server's keys could not be signed");
            error(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "internal server error")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::to_bytes;
    use clock::ManualClock;
    use event::ServerKey;
    use http::Request;
    use ruma::{server_name, signatures::verify_json};
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn the_published_keys_verify_with_themselves() {
        let name = server_name!("example.org");
        let key = Arc::new(ServerKey::generate("a_1").unwrap());
        let clock = Arc::new(ManualClock::new(1_000));
        let door =
            Door { server_name: name.to_owned(), key: Arc::clone(&key), clock, version: "1" };
        let request = Request::get("/_matrix/key/v2/server").body(axum::body::Body::empty());
        let response = crate::router(door).oneshot(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        let document: ruma::CanonicalJsonObject = serde_json::from_slice(&body).unwrap();
        verify_json(&key.public_keys(name), &document).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["valid_until_ts"], 1_000 + KEYS_VALID_MS);
        assert_eq!(json["server_name"], "example.org");
    }
}

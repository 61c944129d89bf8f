//! Which path leads to which answer.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use clock::Clock;
use event::ServerKey;
use http::StatusCode;
use ruma::OwnedServerName;
use serde_json::json;

use crate::keys;

/// What the door needs to answer other servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// The key that it signs with.
    pub key: Arc<ServerKey>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The version of this program.
    pub version: &'static str,
}

/// Everything that other servers may ask.
pub fn router(door: Door) -> Router {
    Router::new()
        .route("/_matrix/federation/v1/version", get(version))
        .route("/_matrix/key/v2/server", get(keys::server_keys))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(door)
}

/// Tells the name and version of this program.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version)
async fn version(State(door): State<Door>) -> Response {
    Json(json!({ "server": { "name": "Natterjack", "version": door.version } })).into_response()
}

/// Answers a request for a path that nobody knows.
async fn unknown_path() -> Response {
    error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "unrecognized request")
}

/// Answers a request with a method that the path does not have.
async fn wrong_method() -> Response {
    let message = "unrecognized request: wrong method for this path";
    error(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", message)
}

/// An error as the specification writes it.
pub(crate) fn error(status: StatusCode, errcode: &str, message: &str) -> Response {
    (status, Json(json!({ "errcode": errcode, "error": message }))).into_response()
}

//! What a client is told when other servers could not help.

use http::StatusCode;
use rooms::RemoteError;

use super::ApiError;

/// Error codes of other servers that mean the same to our client.
const PASSED_ON: [&str; 5] = [
    "M_INCOMPATIBLE_ROOM_VERSION",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_INVITE_BLOCKED",
    "M_FORBIDDEN",
];

/// The answer for what several servers said: the most telling of it.
pub(super) fn servers(failures: &[RemoteError], message: String) -> ApiError {
    let refused = |wanted: &str| {
        failures.iter().find_map(|failure| match failure {
            RemoteError::Refused { errcode, status, room_version, .. } if errcode == wanted => {
                Some((*status, room_version.clone()))
            }
            _ => None,
        })
    };
    for code in PASSED_ON {
        if let Some((status, version)) = refused(code) {
            let status =
                if status == 403 { StatusCode::FORBIDDEN } else { StatusCode::BAD_REQUEST };
            let error = ApiError::new(status, code, message);
            return match version {
                Some(version) => error.with("room_version", version.as_str()),
                None => error,
            };
        }
    }
    let all = |is: fn(&RemoteError) -> bool| failures.iter().all(is);
    if all(|failure| matches!(failure, RemoteError::Refused { status: 404, .. })) {
        return ApiError::not_found(message);
    }
    if all(|failure| matches!(failure, RemoteError::Denied { .. })) {
        return ApiError::forbidden(message);
    }
    let status = if all(|failure| matches!(failure, RemoteError::Unreachable { .. })) {
        StatusCode::GATEWAY_TIMEOUT
    } else {
        StatusCode::BAD_GATEWAY
    };
    ApiError::new(status, "M_UNKNOWN", message)
}

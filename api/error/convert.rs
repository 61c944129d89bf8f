//! From the domain's words to statuses and error codes.

use http::StatusCode;
use media::MediaError;
use rooms::RoomsError;
use syncing::SyncError;
use users::UsersError;

use super::{ApiError, servers::servers};

/// How long a client waits that met a busy server, in milliseconds.
const BUSY_RETRY_MS: u64 = 2_000;

impl From<RoomsError> for ApiError {
    fn from(error: RoomsError) -> Self {
        let bad = |code| Self::new(StatusCode::BAD_REQUEST, code, error.to_string());
        match &error {
            RoomsError::NotFound { .. } => Self::not_found(error.to_string()),
            RoomsError::Forbidden { .. } | RoomsError::NotJoined { .. } => {
                Self::forbidden(error.to_string())
            }
            RoomsError::Invalid { .. } => bad("M_BAD_JSON"),
            RoomsError::InvalidParam { .. } => bad("M_INVALID_PARAM"),
            RoomsError::InvalidRoomState { .. } => bad("M_INVALID_ROOM_STATE"),
            RoomsError::UnsupportedVersion { .. } => bad("M_UNSUPPORTED_ROOM_VERSION"),
            RoomsError::TooLarge { .. } => Self::too_large(error.to_string()),
            RoomsError::AliasTaken { .. } => bad("M_ROOM_IN_USE"),
            RoomsError::BadAlias { .. } => bad("M_BAD_ALIAS"),
            RoomsError::BadState { .. } => {
                Self::new(StatusCode::FORBIDDEN, "M_BAD_STATE", error.to_string())
            }
            RoomsError::Remote { .. } => bad("M_UNKNOWN"),
            RoomsError::IncompatibleVersion { version } => {
                bad("M_INCOMPATIBLE_ROOM_VERSION").with("room_version", version.as_str())
            }
            RoomsError::UnableToAuthorise => bad("M_UNABLE_TO_AUTHORISE_JOIN"),
            RoomsError::UnableToGrant => bad("M_UNABLE_TO_GRANT_JOIN"),
            RoomsError::Servers { failures } => servers(failures, error.to_string()),
            RoomsError::Partial => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                Self::new(status, "M_UNABLE_DUE_TO_PARTIAL_STATE", error.to_string())
            }
            RoomsError::Event(_) => bad("M_BAD_JSON"),
            RoomsError::Stopping => stopping(),
            RoomsError::Damaged { .. }
            | RoomsError::BadRow { .. }
            | RoomsError::MissingEvent { .. }
            | RoomsError::Store(_) => Self::internal(&error),
            other => Self::internal(other),
        }
    }
}

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        let text = error.to_string();
        match &error {
            MediaError::NotFound => Self::not_found(text),
            MediaError::NotYetUploaded => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "M_NOT_YET_UPLOADED", text)
            }
            MediaError::Taken => Self::new(StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA", text),
            MediaError::Forbidden { .. } => Self::forbidden(text),
            MediaError::TooManyPromises => Self::limit_exceeded(BUSY_RETRY_MS),
            MediaError::Invalid { .. } => Self::invalid_param(text),
            MediaError::TooLarge { .. } => Self::too_large(text),
            MediaError::RemoteTooLarge { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "M_TOO_LARGE", text)
            }
            MediaError::NoPicture { .. } | MediaError::Interrupted { .. } => Self::unknown(text),
            MediaError::Remote(_) => Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", text),
            other => Self::internal(other),
        }
    }
}

impl From<UsersError> for ApiError {
    fn from(error: UsersError) -> Self {
        let bad = |code| Self::new(StatusCode::BAD_REQUEST, code, error.to_string());
        match &error {
            UsersError::InvalidUsername { .. } => bad("M_INVALID_USERNAME"),
            UsersError::Taken { .. } => bad("M_USER_IN_USE"),
            UsersError::NotFound { .. } => Self::not_found(error.to_string()),
            UsersError::WrongPassword => Self::forbidden(error.to_string()),
            UsersError::Deactivated => {
                Self::new(StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", error.to_string())
            }
            UsersError::Invalid { .. } => bad("M_INVALID_PARAM"),
            UsersError::BadJson { .. } => bad("M_BAD_JSON"),
            UsersError::TooLarge { .. } => Self::too_large(error.to_string()),
            UsersError::KeyTooLarge => bad("M_KEY_TOO_LARGE"),
            UsersError::ProfileTooLarge => bad("M_PROFILE_TOO_LARGE"),
            UsersError::InvalidSignature { .. } => bad("M_INVALID_SIGNATURE"),
            UsersError::Missing { .. } => bad("M_MISSING_PARAM"),
            UsersError::Forbidden { .. } => Self::forbidden(error.to_string()),
            UsersError::WrongBackup { current } => {
                let code = "M_WRONG_ROOM_KEYS_VERSION";
                let wrong = Self::new(StatusCode::FORBIDDEN, code, error.to_string());
                wrong.with("current_version", current.to_string())
            }
            UsersError::Remote(_) => {
                Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", error.to_string())
            }
            UsersError::Stopping => stopping(),
            UsersError::Busy | UsersError::Contended => Self::limit_exceeded(BUSY_RETRY_MS),
            UsersError::BadConfig { .. }
            | UsersError::BadRow { .. }
            | UsersError::Hashing { .. }
            | UsersError::NoRandomness { .. }
            | UsersError::Store(_) => Self::internal(&error),
            other => Self::internal(other),
        }
    }
}

impl From<SyncError> for ApiError {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::BadToken { .. } => Self::invalid_param(error.to_string()),
            SyncError::Rooms(error) => error.into(),
            SyncError::Users(error) => error.into(),
            SyncError::Encode(_) | SyncError::Store(_) => Self::internal(&error),
            other => Self::internal(&other),
        }
    }
}

/// 503 for those who ask while the server stops.
fn stopping() -> ApiError {
    let message = "the server is stopping";
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message)
}

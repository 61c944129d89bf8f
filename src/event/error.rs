//! What can be wrong with an event.

use ruma::{
    OwnedEventId,
    canonical_json::CanonicalJsonFieldError,
    signatures::{JsonError, VerificationError},
};

/// Why an event cannot be read, made, trusted or allowed.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The JSON is malformed, not canonical (a float, a huge integer), or not shaped like an event.
    #[error("malformed event: {0}")]
    BadJson(String),

    /// The event or one of its fields is longer than allowed.
    #[error("event too large: {0}")]
    TooLarge(String),

    /// The authorisation rules of the room version do not allow the event.
    #[error("{0}")]
    Forbidden(String),

    /// A signature that the event needs is missing or wrong.
    #[error("event not verified: {0}")]
    Unverified(String),

    /// The sender belongs to another server than the one that makes the event.
    #[error("the sender's server is not {0}")]
    WrongServer(String),

    /// Room versions 1 and 2 want the hash of each event that an event refers to.
    #[error("the reference hash of {0} is not known")]
    NoReferenceHash(OwnedEventId),

    /// The signing key or its name is unusable.
    #[error("bad signing key: {0}")]
    BadKey(String),

    /// State resolution lacks an event that it needs, or met a malformed one.
    #[error("state resolution failed: {0}")]
    Unresolved(String),
}

impl From<serde_json::Error> for EventError {
    fn from(error: serde_json::Error) -> Self {
        Self::BadJson(error.to_string())
    }
}

impl From<CanonicalJsonFieldError> for EventError {
    fn from(error: CanonicalJsonFieldError) -> Self {
        Self::BadJson(error.to_string())
    }
}

impl From<JsonError> for EventError {
    fn from(error: JsonError) -> Self {
        match error {
            JsonError::PduTooLarge => Self::TooLarge(error.to_string()),
            other => Self::BadJson(other.to_string()),
        }
    }
}

impl From<VerificationError> for EventError {
    fn from(error: VerificationError) -> Self {
        match error {
            VerificationError::Json(error) => error.into(),
            other => Self::Unverified(other.to_string()),
        }
    }
}

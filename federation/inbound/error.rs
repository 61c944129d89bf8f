//! How refusals and failures are told to other servers: the one place of this crate that knows
//! statuses and error codes.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#standard-error-response)

use std::{borrow::Cow, error::Error};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rooms::RoomsError;
use ruma::RoomVersionId;
use serde_json::{Map, Value as JsonValue, json};
use store::StoreError;
use users::UsersError;

/// What handlers give.
pub(crate) type Result<T, E = Refusal> = std::result::Result<T, E>;

/// A request that is not done as asked. Becomes an answer with `errcode` and `error`.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Answer>);

/// What is sent.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    errcode: &'static str,
    message: Cow<'static, str>,
    extra: Map<String, JsonValue>,
}

impl Refusal {
    /// Makes an error of any status and code.
    pub(crate) fn new(
        status: StatusCode,
        errcode: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Answer { status, errcode, message: message.into(), extra: Map::new() }))
    }

    /// 400 `M_BAD_JSON`: JSON, but of the wrong shape.
    pub(crate) fn bad_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_NOT_JSON`.
    pub(crate) fn not_json(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", message)
    }

    /// 400 `M_INVALID_PARAM`.
    pub(crate) fn invalid_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`.
    pub(crate) fn missing_param(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 401 `M_UNAUTHORIZED`: nobody has signed the request.
    pub(crate) fn unauthorized(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message)
    }

    /// 403 `M_FORBIDDEN`.
    pub(crate) fn forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`.
    pub(crate) fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 413 `M_TOO_LARGE`.
    pub(crate) fn too_large(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 400 `M_INCOMPATIBLE_ROOM_VERSION`: one of both servers does not know the room's version.
    pub(crate) fn incompatible(version: &RoomVersionId) -> Self {
        let message = "the room's version is none that both servers support";
        Self::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message)
            .with("room_version", version.as_str())
    }

    /// 429 `M_LIMIT_EXCEEDED`: try again in `retry_after_ms` milliseconds.
    pub(crate) fn limit_exceeded(retry_after_ms: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests")
            .with("retry_after_ms", retry_after_ms)
    }

    /// 500 `M_UNKNOWN`. The cause goes to the log, not to the other server.
    pub(crate) fn internal(cause: &dyn Error) -> Self {
        tracing::error!(error = %cause, "a request of another server failed inside this one");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "internal server error")
    }

    /// Adds a field to the body.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<JsonValue>) -> Self {
        self.0.extra.insert(key.to_owned(), value.into());
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Answer { status, errcode, message, mut extra } = *self.0;
        let retry_after_ms = extra.get("retry_after_ms").and_then(JsonValue::as_u64);
        extra.insert("errcode".to_owned(), errcode.into());
        extra.insert("error".to_owned(), message.into());
        let body = JsonValue::Object(extra).to_string();
        let json = HeaderValue::from_static("application/json");
        let mut response = (status, [(header::CONTENT_TYPE, json)], body).into_response();
        if let Some(ms) = retry_after_ms {
            let seconds = HeaderValue::from(ms.div_ceil(1_000));
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

impl From<RoomsError> for Refusal {
    fn from(error: RoomsError) -> Self {
        let message = error.to_string();
        let bad = |errcode| Self::new(StatusCode::BAD_REQUEST, errcode, error.to_string());
        match error {
            RoomsError::NotFound { .. } => Self::not_found(message),
            RoomsError::Forbidden { .. }
            | RoomsError::NotJoined { .. }
            | RoomsError::BadState { .. } => Self::forbidden(message),
            RoomsError::InvalidParam { .. } => Self::invalid_param(message),
            RoomsError::UnsupportedVersion { version }
            | RoomsError::IncompatibleVersion { version } => Self::incompatible(&version),
            RoomsError::UnableToAuthorise => bad("M_UNABLE_TO_AUTHORISE_JOIN"),
            RoomsError::UnableToGrant => bad("M_UNABLE_TO_GRANT_JOIN"),
            RoomsError::Servers { .. } | RoomsError::Incomplete { .. } => {
                Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
            }
            // Another server may know the whole room.
            RoomsError::Partial => Self::not_found(message),
            RoomsError::TooLarge { .. } => Self::too_large(message),
            RoomsError::Invalid { .. } | RoomsError::Event(_) => Self::bad_json(message),
            RoomsError::MissingEvent { .. } => Self::not_found(message),
            other => Self::internal(&other),
        }
    }
}

impl From<UsersError> for Refusal {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::NotFound { .. } => Self::not_found(error.to_string()),
            UsersError::Invalid { .. } | UsersError::BadJson { .. } => {
                Self::bad_json(error.to_string())
            }
            UsersError::TooLarge { .. } => Self::too_large(error.to_string()),
            UsersError::Forbidden { .. } => Self::forbidden(error.to_string()),
            other => Self::internal(&other),
        }
    }
}

/// A JSON body with status 200.
pub(crate) fn ok(body: &JsonValue) -> Response {
    json_text(body.to_string())
}

/// An empty JSON object with status 200.
pub(crate) fn ok_empty() -> Response {
    ok(&json!({}))
}

/// A JSON text with status 200.
pub(crate) fn json_text(text: String) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], text).into_response()
}

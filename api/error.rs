//! How refusals and failures are told to clients: the one place that knows statuses and error
//! codes.

mod convert;
mod servers;

use std::borrow::Cow;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use ruma::api::client::uiaa::UiaaInfo;
use serde_json::{Map, Value as JsonValue};

/// A request that is not done as asked. Becomes an answer with `errcode` and `error`.
#[derive(Debug)]
pub struct ApiError(Box<Answer>);

/// What is sent.
#[derive(Debug)]
enum Answer {
    /// A standard error.
    Error {
        status: StatusCode,
        errcode: &'static str,
        message: Cow<'static, str>,
        extra: Map<String, JsonValue>,
        retry_after_ms: Option<u64>,
    },
    /// More interactive authentication is needed.
    Uia(UiaaInfo),
}

impl ApiError {
    /// Makes an error of any status and code.
    pub(crate) fn new(
        status: StatusCode,
        errcode: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let message = message.into();
        let extra = Map::new();
        Self(Box::new(Answer::Error { status, errcode, message, extra, retry_after_ms: None }))
    }

    /// Adds a field to the body.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<JsonValue>) -> Self {
        if let Answer::Error { extra, .. } = &mut *self.0 {
            extra.insert(key.to_owned(), value.into());
        }
        self
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

    /// 400 `M_UNKNOWN`.
    pub(crate) fn unknown(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)
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

    /// 404 `M_UNRECOGNIZED`: there is no such path.
    pub(crate) fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "unrecognized request")
    }

    /// 405 `M_UNRECOGNIZED`: the path is known, but not with this method.
    pub(crate) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "M_UNRECOGNIZED",
            "unrecognized request: wrong method for this path",
        )
    }

    /// 429 `M_LIMIT_EXCEEDED`: try again in `retry_after_ms` milliseconds.
    pub(crate) fn limit_exceeded(retry_after_ms: u64) -> Self {
        let mut error =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests");
        if let Answer::Error { retry_after_ms: slot, .. } = &mut *error.0 {
            *slot = Some(retry_after_ms);
        }
        error.with("retry_after_ms", retry_after_ms)
    }

    /// 401 with what interactive authentication still needs.
    pub(crate) fn uia(info: UiaaInfo) -> Self {
        Self(Box::new(Answer::Uia(info)))
    }

    /// 500 `M_UNKNOWN`. The cause goes to the log, not to the client.
    pub(crate) fn internal(cause: &dyn std::error::Error) -> Self {
        tracing::error!(error = %cause, "a request failed inside the server");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "internal server error")
    }

    /// The error code in the body.
    #[must_use]
    pub fn errcode(&self) -> &'static str {
        match &*self.0 {
            Answer::Error { errcode, .. } => errcode,
            Answer::Uia(_) => "M_FORBIDDEN",
        }
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            Answer::Error { message, .. } => f.write_str(message),
            Answer::Uia(_) => f.write_str("more authentication is needed"),
        }
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, body, retry_after_ms) = match *self.0 {
            Answer::Error { status, errcode, message, mut extra, retry_after_ms } => {
                extra.insert("errcode".to_owned(), errcode.into());
                extra.insert("error".to_owned(), message.into());
                (status, JsonValue::Object(extra).to_string(), retry_after_ms)
            }
            Answer::Uia(info) => match serde_json::to_string(&info) {
                Ok(body) => (StatusCode::UNAUTHORIZED, body, None),
                Err(error) => return Self::internal(&error).into_response(),
            },
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(ms) = retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
        }
        response
    }
}

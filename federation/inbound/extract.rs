//! What handlers take from a request: variables of the path and of the query, and JSON.

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, FromRequestParts, Path, Request},
};
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::inbound::error::Refusal;

/// The variables of the path, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Args<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Args<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(args)) => Ok(Self(args)),
            Err(error) => Err(Refusal::invalid_param(error.body_text())),
        }
    }
}

/// The variables of the query, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryArgs<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for QueryArgs<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let query = parts.uri.query().unwrap_or_default();
        serde_html_form::from_str(query).map(Self).map_err(|error| {
            let message = format!("the query is not as it should be: {error}");
            // serde tells of a missing field in these words only.
            if message.contains("missing field") {
                Refusal::missing_param(message)
            } else {
                Refusal::invalid_param(message)
            }
        })
    }
}

/// Largest body of a request that nobody has signed, in bytes.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// The JSON body of a request that nobody has signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let body = read_body(request.into_body(), BODY_BYTES_MAX).await?;
        read_object(json_text(&body)?).map(Self)
    }
}

/// Reads a body of bounded length.
pub(crate) async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::too_large("the body is too large"))
        }
        Err(_) => Err(Refusal::not_json("the body could not be read")),
    }
}

/// A body as text, which is JSON.
pub(crate) fn json_text(body: &[u8]) -> Result<&str, Refusal> {
    let text =
        str::from_utf8(body).map_err(|_| Refusal::not_json("the body is not valid UTF-8"))?;
    serde_json::from_str::<IgnoredAny>(text)
        .map_err(|error| Refusal::not_json(format!("the body is not valid JSON: {error}")))?;
    Ok(text)
}

/// A JSON object, read as the given type.
pub(crate) fn read_object<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    // Structures are read from lists, too.
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Refusal::bad_json("the body must be a JSON object"));
    }
    serde_json::from_str(text)
        .map_err(|error| Refusal::bad_json(format!("the body has the wrong shape: {error}")))
}

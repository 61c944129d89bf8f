//! Between HTTP and ruma's endpoint types.

use axum::{
    Router,
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
    handler::Handler,
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use bytes::{Bytes, BytesMut};
use http::{Method, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use ruma::api::{
    IncomingRequest, IncomingRequestExt, OutgoingResponse, OutgoingResponseExt,
    error::{DeserializationError, FromHttpRequestError},
    path_builder::PathBuilder,
};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::{error::ApiError, state::ApiState};

/// Deepest nesting of arrays and objects in a request's JSON.
pub(crate) const JSON_DEPTH_MAX: usize = 100;

/// A request read by ruma, or a response that ruma writes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ruma<T>(pub(crate) T);

impl<T: IncomingRequest> FromRequest<ApiState> for Ruma<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let params = path_params(&mut parts).await?;
        let mut body = read_json(body, state.settings.json_body_bytes_max).await?;
        if body.is_empty() && parts.method != Method::GET && parts.method != Method::HEAD {
            // Clients leave out a body in which nothing is required.
            body = Bytes::from_static(b"{}");
        }
        let args: Vec<&str> = params.iter().map(String::as_str).collect();
        let request = http::Request::from_parts(parts, body.as_ref());
        T::try_from_http_request(request, &args).map(Self).map_err(|error| refusal(&error))
    }
}

impl<T: OutgoingResponse> IntoResponse for Ruma<T> {
    fn into_response(self) -> Response {
        match self.0.try_into_http_response::<BytesMut>() {
            Ok(response) => response.map(|body| Body::from(body.freeze())),
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}

/// A JSON body of an endpoint that ruma does not read as clients write it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ApiState> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, ApiError> {
        let body = read_json(request.into_body(), state.settings.json_body_bytes_max).await?;
        let text = if body.is_empty() { b"{}" } else { body.as_ref() };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| ApiError::bad_json(format!("the body has the wrong shape: {error}")))
    }
}

/// The variables of a path, for endpoints that ruma does not read as clients write them.
#[derive(Clone, Debug)]
pub(crate) struct PathArgs<const N: usize>(pub(crate) [String; N]);

impl<const N: usize> FromRequestParts<ApiState> for PathArgs<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let params = path_params(parts).await?;
        params.try_into().map(Self).map_err(|_| ApiError::unrecognized())
    }
}

/// The query of a request, for endpoints that ruma does not read as clients write them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueryArgs<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<ApiState> for QueryArgs<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        serde_html_form::from_str(query).map(Self).map_err(|error| {
            ApiError::invalid_param(format!("the query has the wrong shape: {error}"))
        })
    }
}

/// Registers a handler under every path that ruma knows for an endpoint, and under the `r0` alias
/// of each `v3` path.
pub(crate) fn route<R, H, T>(mut router: Router<ApiState>, handler: H) -> Router<ApiState>
where
    R: IncomingRequest,
    H: Handler<T, ApiState>,
    T: 'static,
{
    let Ok(method) = MethodFilter::try_from(R::METHOD) else {
        return router;
    };
    let mut paths: Vec<String> = Vec::new();
    for path in R::PATH_BUILDER.all_paths() {
        let alias = path.replacen("/v3/", "/r0/", 1);
        for path in [path.to_owned(), alias] {
            if let Some(bare) = path.strip_suffix('/') {
                paths.push(bare.to_owned());
            }
            paths.push(path);
        }
    }
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        router = router.route(&path, on(method, handler.clone()));
    }
    router
}

/// The variables of the path, decoded, in order.
async fn path_params(parts: &mut Parts) -> Result<Vec<String>, ApiError> {
    let params = RawPathParams::from_request_parts(parts, &())
        .await
        .map_err(|_| ApiError::invalid_param("the path is not valid UTF-8"))?;
    Ok(params.iter().map(|(_, value)| value.to_owned()).collect())
}

/// Reads a body and makes sure that it is a JSON object, or empty.
pub(crate) async fn read_json(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let bytes = match Limited::new(body, bytes_max).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return Err(ApiError::too_large("the body is too large"));
        }
        Err(_) => return Err(ApiError::not_json("the body could not be read")),
    };
    if bytes.is_empty() {
        return Ok(bytes);
    }
    if std::str::from_utf8(&bytes).is_err() {
        return Err(ApiError::not_json("the body is not valid UTF-8"));
    }
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(&bytes) {
        return Err(ApiError::not_json(format!("the body is not valid JSON: {error}")));
    }
    if depth(&bytes) > JSON_DEPTH_MAX {
        return Err(ApiError::bad_json("the JSON is nested too deeply"));
    }
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad_json("the body must be a JSON object"));
    }
    Ok(bytes)
}

/// The deepest nesting in a valid JSON text.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// How a request that ruma could not read is answered.
fn refusal(error: &FromHttpRequestError) -> ApiError {
    let FromHttpRequestError::Deserialization(error) = error else {
        return ApiError::method_not_allowed();
    };
    match error {
        DeserializationError::Utf8(_) => ApiError::not_json("the body is not valid UTF-8"),
        DeserializationError::Json(error) => {
            ApiError::bad_json(format!("the body has the wrong shape: {error}"))
        }
        DeserializationError::Query(error) if error.to_string().starts_with("missing field") => {
            ApiError::missing_param(format!("query parameters: {error}"))
        }
        DeserializationError::Query(error) => {
            ApiError::invalid_param(format!("query parameters: {error}"))
        }
        other => ApiError::invalid_param(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_json_or_refused() {
        let read = |text: &'static [u8]| read_json(Body::from(text), 64);
        assert!(read(b"").await.is_ok());
        assert!(read(b" {\"a\": [1]}").await.is_ok());
        for (bad, code) in [
            (&b"{"[..], "M_NOT_JSON"),
            (b"{} x", "M_NOT_JSON"),
            (b"[1]", "M_BAD_JSON"),
            (b"null", "M_BAD_JSON"),
            (b"{\"a\":\"\xff\"}", "M_NOT_JSON"),
        ] {
            assert_eq!(read(bad).await.map_err(|error| error.errcode()), Err(code));
        }
        let long = read_json(Body::from(vec![b' '; 65]), 64).await;
        assert_eq!(long.map_err(|error| error.errcode()), Err("M_TOO_LARGE"));
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth(br#"{"a":[{"b":"[[\"[["}],"c":[]}"#), 3);
    }
}

//! Who calls: sessions out of access tokens, and what guests and suspended users may not do.

use std::{ops::Deref, sync::Arc};

use axum::extract::{FromRequestParts, MatchedPath, OptionalFromRequestParts};
use http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts};
use rooms::TxnKey;
use ruma::TransactionId;
use users::TokenError;

use crate::{error::ApiError, rate_limit::client_address, state::ApiState};

/// What guests may ask, by method and path after `/_matrix/client/v3`.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#guest-access)
const GUESTS_MAY: &[(Method, &str)] = &[
    (Method::GET, "/rooms/{}/state"),
    (Method::GET, "/rooms/{}/context/{}"),
    (Method::GET, "/rooms/{}/event/{}"),
    (Method::GET, "/rooms/{}/state/{}"),
    (Method::GET, "/rooms/{}/state/{}/{}"),
    (Method::GET, "/rooms/{}/messages"),
    (Method::GET, "/rooms/{}/members"),
    (Method::GET, "/rooms/{}/initialSync"),
    (Method::GET, "/sync"),
    (Method::GET, "/events"),
    (Method::POST, "/rooms/{}/join"),
    (Method::POST, "/rooms/{}/leave"),
    (Method::PUT, "/rooms/{}/send/{}/{}"),
    (Method::PUT, "/rooms/{}/state/{}"),
    (Method::PUT, "/rooms/{}/state/{}/{}"),
    (Method::PUT, "/sendToDevice/{}/{}"),
    (Method::PUT, "/profile/{}/displayname"),
    (Method::PUT, "/profile/{}/{}"),
    (Method::DELETE, "/profile/{}/{}"),
    (Method::GET, "/devices"),
    (Method::GET, "/devices/{}"),
    (Method::PUT, "/devices/{}"),
    (Method::GET, "/account/whoami"),
    (Method::POST, "/keys/upload"),
    (Method::POST, "/keys/query"),
    (Method::POST, "/keys/claim"),
    // Not in the list of the specification; without it a guest could never be rid of their token.
    (Method::POST, "/logout"),
    (Method::POST, "/logout/all"),
];

/// What suspended users may not ask, by method and path after `/_matrix/client/v3`.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#account-suspension)
const SUSPENDED_MAY_NOT: &[(Method, &str)] = &[
    (Method::POST, "/createRoom"),
    (Method::POST, "/join/{}"),
    (Method::POST, "/rooms/{}/join"),
    (Method::POST, "/knock/{}"),
    (Method::POST, "/rooms/{}/invite"),
    (Method::POST, "/rooms/{}/kick"),
    (Method::POST, "/rooms/{}/ban"),
    (Method::POST, "/rooms/{}/unban"),
    (Method::POST, "/rooms/{}/upgrade"),
    (Method::PUT, "/rooms/{}/send/{}/{}"),
    (Method::PUT, "/rooms/{}/state/{}"),
    (Method::PUT, "/rooms/{}/state/{}/{}"),
    (Method::PUT, "/directory/room/{}"),
    (Method::PUT, "/profile/{}/{}"),
    (Method::PUT, "/profile/{}/displayname"),
    (Method::PUT, "/profile/{}/avatar_url"),
    (Method::DELETE, "/profile/{}/{}"),
];

/// What locked users may ask.
const LOCKED_MAY: &[(Method, &str)] = &[(Method::POST, "/logout"), (Method::POST, "/logout/all")];

/// Who calls, with which device, where the endpoint is open to them.
#[derive(Clone, Debug)]
pub(crate) struct Session(Arc<users::Session>);

impl Deref for Session {
    type Target = users::Session;

    fn deref(&self) -> &users::Session {
        &self.0
    }
}

impl Session {
    /// A transaction ID of this device.
    pub(crate) fn txn(&self, txn_id: &TransactionId) -> TxnKey {
        TxnKey { device_id: self.device_id.to_string(), txn_id: txn_id.to_string() }
    }
}

/// A [`Session`] of a user who is not suspended, where the endpoint is closed to those who are.
#[derive(Clone, Debug)]
pub(crate) struct ActiveSession(Session);

impl Deref for ActiveSession {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl FromRequestParts<ApiState> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let token = access_token(&parts.headers, &parts.uri).ok_or_else(missing_token)?;
        let session = state.users.session(&token).await.map_err(unknown_token)?;
        let endpoint = endpoint(parts);
        let is_in = |list| is_listed(list, &parts.method, &endpoint);
        if session.locked && !is_in(LOCKED_MAY) {
            let status = StatusCode::UNAUTHORIZED;
            let error = ApiError::new(status, "M_USER_LOCKED", "this account has been locked");
            return Err(error.with("soft_logout", true));
        }
        if session.guest && !is_in(GUESTS_MAY) {
            return Err(guests_may_not());
        }
        state.rate_limits.check_user(&session.user_id)?;
        state.users.touch(&session, client_address(parts)).await?;
        Ok(Self(session))
    }
}

impl OptionalFromRequestParts<ApiState> for Session {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &ApiState,
    ) -> Result<Option<Self>, ApiError> {
        if access_token(&parts.headers, &parts.uri).is_none() {
            return Ok(None);
        }
        <Self as FromRequestParts<ApiState>>::from_request_parts(parts, state).await.map(Some)
    }
}

impl FromRequestParts<ApiState> for ActiveSession {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let session = <Session as FromRequestParts<_>>::from_request_parts(parts, state).await?;
        if session.suspended && is_listed(SUSPENDED_MAY_NOT, &parts.method, &endpoint(parts)) {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "M_USER_SUSPENDED",
                "you cannot do this while your account is suspended",
            ));
        }
        Ok(Self(session))
    }
}

/// 403 for guests.
pub(crate) fn guests_may_not() -> ApiError {
    let message = "guests may not do this";
    ApiError::new(StatusCode::FORBIDDEN, "M_GUEST_ACCESS_FORBIDDEN", message)
}

/// 401 for a request without a token.
pub(crate) fn missing_token() -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "missing access token")
}

/// How a token that does not work is answered.
pub(crate) fn unknown_token(error: TokenError) -> ApiError {
    let refused = |message| ApiError::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", message);
    match error {
        TokenError::Unknown => refused("unknown token").with("soft_logout", false),
        TokenError::Expired => refused("the token has expired").with("soft_logout", true),
        TokenError::Users(error) => error.into(),
        other => ApiError::internal(&other),
    }
}

/// The access token of a request, from its header or its query.
pub(crate) fn access_token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    let query: Vec<(String, String)> = serde_html_form::from_str(uri.query()?).ok()?;
    query.into_iter().find(|(name, _)| name == "access_token").map(|(_, value)| value)
}

/// The path of the matched route after its version, with `{}` for each variable.
fn endpoint(parts: &Parts) -> String {
    let Some(path) = parts.extensions.get::<MatchedPath>() else {
        return String::new();
    };
    let path = path.as_str();
    let rest = path.strip_prefix("/_matrix/client/").unwrap_or(path);
    let rest = rest.split_once('/').map_or(rest, |(_version, rest)| rest);
    let mut endpoint = String::with_capacity(path.len());
    for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
        endpoint.push('/');
        endpoint.push_str(if segment.starts_with('{') { "{}" } else { segment });
    }
    endpoint
}

fn is_listed(list: &[(Method, &str)], method: &Method, endpoint: &str) -> bool {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    list.iter().any(|(listed, path)| listed == method && *path == endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_read_from_the_header_or_the_query() {
        let mut headers = HeaderMap::new();
        let uri: Uri = "/sync?timeout=1&access_token=a%2Bb".parse().unwrap();
        assert_eq!(access_token(&headers, &uri).as_deref(), Some("a+b"));
        headers.insert(header::AUTHORIZATION, "Bearer xyz".parse().unwrap());
        assert_eq!(access_token(&headers, &uri).as_deref(), Some("xyz"));
        headers.insert(header::AUTHORIZATION, "Basic xyz".parse().unwrap());
        assert_eq!(access_token(&headers, &uri), None);
    }
}

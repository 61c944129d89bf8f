//! Whom a token of the OpenID endpoint stands for.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#openid)

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, ok},
        extract::QueryArgs,
    },
};

/// The token.
#[derive(Deserialize)]
pub(crate) struct UserInfoQuery {
    access_token: Option<String>,
}

/// Tells whom a token stands for.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1openiduserinfo)
pub(crate) async fn user_info(
    State(door): State<Door>,
    QueryArgs(query): QueryArgs<UserInfoQuery>,
) -> Result<Response> {
    let unauthorized = |errcode, message| Refusal::new(StatusCode::UNAUTHORIZED, errcode, message);
    let token = query.access_token;
    let token = token.ok_or_else(|| unauthorized("M_MISSING_TOKEN", "access_token is missing"))?;
    match door.users.openid_userinfo(&token).await? {
        Some(user_id) => Ok(ok(&json!({ "sub": user_id }))),
        None => Err(unauthorized("M_UNKNOWN_TOKEN", "the token is unknown or has expired")),
    }
}

//! Tokens with which users prove to others who they are.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State};
use ruma::{
    api::client::account::request_openid_token::v3::{Request, Response},
    authentication::TokenType,
};
use users::{OPENID_TOKEN_LIFETIME_MS, Users};

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
    settings::ApiSettings,
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    route::<Request, _, _>(Router::new(), request_token)
}

/// Makes a token that proves who the user is.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridopenidrequest_token)
async fn request_token(
    State(users): State<Users>,
    State(settings): State<Arc<ApiSettings>>,
    session: ActiveSession,
    Ruma(request): Ruma<Request>,
) -> Result<Ruma<Response>, ApiError> {
    if request.user_id != session.user_id {
        return Err(ApiError::forbidden("you may ask for a token of your own only"));
    }
    let token = users.create_openid_token(&session.user_id).await?;
    let lifetime = Duration::from_millis(OPENID_TOKEN_LIFETIME_MS);
    let server = settings.server_name.clone();
    Ok(Ruma(Response::new(token, TokenType::Bearer, server, lifetime)))
}

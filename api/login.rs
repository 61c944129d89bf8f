//! Logging in and out, and tokens.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::client::{
        session::{
            get_login_token, get_login_types,
            login::v3::{DiscoveryInfo, HomeserverInfo, Request, Response},
            logout, logout_all, refresh_token,
        },
        uiaa::UserIdentifier,
    },
};
use serde::Deserialize;
use users::{Account, LOGIN_TOKEN_LIFETIME_MS, LogOut, TokenError, Users};

use crate::{
    auth::{ActiveSession, Session, unknown_token},
    error::ApiError,
    extract::{JsonBody, Ruma, route},
    rate_limit::{ClientAddress, RateLimits},
    register::new_device,
    settings::ApiSettings,
    state::ApiState,
    uia::{Challenge, Checkers, UiaSessions},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<get_login_types::v3::Request, _, _>(Router::new(), get_login_flows);
    let router = route::<Request, _, _>(router, login);
    let router = route::<get_login_token::v1::Request, _, _>(router, generate_login_token);
    let router = route::<refresh_token::v3::Request, _, _>(router, refresh);
    let router = route::<logout::v3::Request, _, _>(router, log_out);
    route::<logout_all::v3::Request, _, _>(router, log_out_all)
}

/// Lists the ways to log in.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3login)
async fn get_login_flows(
    Ruma(_): Ruma<get_login_types::v3::Request>,
) -> Ruma<get_login_types::v3::Response> {
    use get_login_types::v3::{LoginType, PasswordLoginType, TokenLoginType};
    let mut token = TokenLoginType::new();
    token.get_login_token = true;
    let flows = vec![LoginType::Password(PasswordLoginType::new()), LoginType::Token(token)];
    Ruma(get_login_types::v3::Response::new(flows))
}

/// What clients send to log in, with what old ones still send.
#[derive(Deserialize)]
struct LoginBody {
    #[serde(rename = "type")]
    kind: String,
    identifier: Option<UserIdentifier>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

/// Logs a device in.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3login)
async fn login(
    State(users): State<Users>,
    State(settings): State<Arc<ApiSettings>>,
    State(rate_limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    JsonBody(body): JsonBody<LoginBody>,
) -> Result<Ruma<Response>, ApiError> {
    let account = match body.kind.as_str() {
        "m.login.password" => {
            let name = user_name(&body)?;
            let password = body.password.as_deref();
            let password =
                password.ok_or_else(|| ApiError::missing_param("password is missing"))?;
            rate_limits.check_log_in(&name, address)?;
            users.authenticate(&name, password).await?
        }
        "m.login.token" => {
            let token = body.token.as_deref();
            let token = token.ok_or_else(|| ApiError::missing_param("token is missing"))?;
            rate_limits.check_log_in_address(address)?;
            redeem(&users, token).await?
        }
        _ => return Err(ApiError::unknown("this kind of login is not available")),
    };
    let device = new_device(body.device_id, body.initial_device_display_name, body.refresh_token);
    let login = users.log_in(&account, device).await?;
    let mut response = Response::new(login.user_id, login.access_token, login.device_id);
    response.refresh_token = login.refresh_token;
    response.expires_in = login.expires_in_ms.map(Duration::from_millis);
    response.well_known = settings
        .public_base_url
        .clone()
        .map(|base_url| DiscoveryInfo::new(HomeserverInfo::new(base_url)));
    Ok(Ruma(response))
}

/// Who wants to log in.
fn user_name(body: &LoginBody) -> Result<String, ApiError> {
    match (&body.identifier, &body.user) {
        (Some(UserIdentifier::Matrix(identifier)), _) => Ok(identifier.user.clone()),
        (Some(_), _) => Err(ApiError::forbidden("this server knows users by their Matrix ID only")),
        (None, Some(user)) => Ok(user.clone()),
        (None, None) => Err(ApiError::missing_param("identifier is missing")),
    }
}

async fn redeem(users: &Users, token: &str) -> Result<Account, ApiError> {
    match users.redeem_login_token(token).await {
        Ok(account) => Ok(account),
        Err(TokenError::Users(error)) => Err(error.into()),
        Err(_) => Err(ApiError::forbidden("invalid login token")),
    }
}

/// Makes a token with which another device of the user logs in.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv1loginget_token)
async fn generate_login_token(
    State(users): State<Users>,
    State(settings): State<Arc<ApiSettings>>,
    State(uia): State<Arc<UiaSessions>>,
    State(rate_limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    session: ActiveSession,
    Ruma(request): Ruma<get_login_token::v1::Request>,
) -> Result<Ruma<get_login_token::v1::Response>, ApiError> {
    let challenge = Challenge::password("login token", Some(&session.user_id));
    let checkers =
        Checkers { users: &users, settings: &settings, rate_limits: &rate_limits, address };
    uia.step(&challenge, request.auth.as_ref(), checkers).await?;
    let token = users.create_login_token(&session.user_id).await?;
    let lifetime = Duration::from_millis(LOGIN_TOKEN_LIFETIME_MS);
    Ok(Ruma(get_login_token::v1::Response::new(lifetime, token)))
}

/// Exchanges a refresh token for new tokens.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3refresh)
async fn refresh(
    State(users): State<Users>,
    Ruma(request): Ruma<refresh_token::v3::Request>,
) -> Result<Ruma<refresh_token::v3::Response>, ApiError> {
    let login = users.refresh(&request.refresh_token).await.map_err(unknown_token)?;
    let mut response = refresh_token::v3::Response::new(login.access_token);
    response.refresh_token = login.refresh_token;
    response.expires_in_ms = login.expires_in_ms.map(Duration::from_millis);
    Ok(Ruma(response))
}

/// Ends a session, and removes its device.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logout)
async fn log_out(
    State(users): State<Users>,
    session: Session,
    Ruma(_): Ruma<logout::v3::Request>,
) -> Result<Ruma<logout::v3::Response>, ApiError> {
    users.log_out(&session).await?;
    Ok(Ruma(logout::v3::Response::new()))
}

/// Ends all sessions of a user, and removes all devices.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3logoutall)
async fn log_out_all(
    State(users): State<Users>,
    session: Session,
    Ruma(_): Ruma<logout_all::v3::Request>,
) -> Result<Ruma<logout_all::v3::Response>, ApiError> {
    let user_id: &OwnedUserId = &session.user_id;
    users.log_out_all(user_id, LogOut::Everybody).await?;
    Ok(Ruma(logout_all::v3::Response::new()))
}

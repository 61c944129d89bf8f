//! Signing up.

use std::sync::Arc;

use axum::{Json, Router, extract::State};
use ruma::{
    OwnedDeviceId, OwnedUserId,
    api::client::{
        account::{
            check_registration_token_validity, get_username_availability,
            register::{RegistrationKind, v3::Request},
        },
        uiaa::AuthType,
    },
};
use serde::Serialize;
use users::{AccountKind, NewAccount, NewDevice, TokenStyle, Users, check_new_password};

use crate::{
    error::ApiError,
    extract::{Ruma, route},
    rate_limit::{ClientAddress, RateLimits},
    settings::ApiSettings,
    state::ApiState,
    uia::{Challenge, Checkers, UiaSessions, is_registration_token},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<Request, _, _>(Router::new(), register);
    let router =
        route::<get_username_availability::v3::Request, _, _>(router, check_username_availability);
    route::<check_registration_token_validity::v1::Request, _, _>(
        router,
        registration_token_validity,
    )
}

/// A new account. Without a login ruma would write a device that is `null`, which is none to some
/// clients.
#[derive(Serialize)]
struct Registered {
    user_id: OwnedUserId,
    #[serde(flatten)]
    login: Option<LoggedIn>,
}

/// The first login of a new account.
#[derive(Serialize)]
struct LoggedIn {
    access_token: String,
    device_id: OwnedDeviceId,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_ms: Option<u64>,
}

/// Creates an account, and mostly logs it in.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3register)
async fn register(
    State(users): State<Users>,
    State(settings): State<Arc<ApiSettings>>,
    State(uia): State<Arc<UiaSessions>>,
    State(rate_limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    Ruma(request): Ruma<Request>,
) -> Result<Json<Registered>, ApiError> {
    match request.kind {
        RegistrationKind::User => {}
        RegistrationKind::Guest => {
            rate_limits.check_sign_up(address)?;
            return register_guest(&users, &settings, request).await;
        }
        _ => return Err(ApiError::invalid_param("there are only users and guests")),
    }
    if request.login_type.is_some() {
        return Err(ApiError::forbidden("application services are not available on this server"));
    }
    if !settings.registration.enabled {
        return Err(ApiError::forbidden("registration is disabled"));
    }
    check(&users, &request).await?;
    let stage = match settings.registration.tokens.is_empty() {
        true => AuthType::Dummy,
        false => AuthType::RegistrationToken,
    };
    let challenge =
        Challenge { purpose: "register".to_owned(), user_id: None, flows: vec![vec![stage]] };
    let checkers =
        Checkers { users: &users, settings: &settings, rate_limits: &rate_limits, address };
    uia.step(&challenge, request.auth.as_ref(), checkers).await?;
    rate_limits.check_sign_up(address)?;
    let account = NewAccount {
        localpart: request.username.clone(),
        password: request.password.clone(),
        kind: AccountKind::User,
        ..NewAccount::default()
    };
    sign_up(&users, account, request).await
}

/// Refuses what cannot become an account, before anybody has to prove anything for it.
async fn check(users: &Users, request: &Request) -> Result<(), ApiError> {
    if request.guest_access_token.is_some() {
        return Err(ApiError::invalid_param("guest accounts can't be upgraded yet"));
    }
    if let Some(username) = &request.username {
        users.check_available(username).await?;
    }
    match &request.password {
        Some(password) => Ok(check_new_password(password)?),
        // Clients ask with an empty body which stages there are.
        None if request.auth.is_none() => Ok(()),
        None => Err(ApiError::missing_param("a user has a password")),
    }
}

/// Lets a guest in.
async fn register_guest(
    users: &Users,
    settings: &ApiSettings,
    request: Request,
) -> Result<Json<Registered>, ApiError> {
    if !settings.registration.guests {
        return Err(ApiError::new(
            http::StatusCode::FORBIDDEN,
            "M_GUEST_ACCESS_FORBIDDEN",
            "guests are not let in",
        ));
    }
    let account = NewAccount { kind: AccountKind::Guest, ..NewAccount::default() };
    // Nothing of what a guest sends counts but the name of the device.
    let mut ignoring = Request::new();
    ignoring.initial_device_display_name = request.initial_device_display_name;
    sign_up(users, account, ignoring).await
}

async fn sign_up(
    users: &Users,
    account: NewAccount,
    request: Request,
) -> Result<Json<Registered>, ApiError> {
    let device = (!request.inhibit_login).then(|| {
        new_device(request.device_id, request.initial_device_display_name, request.refresh_token)
    });
    let (user_id, login) = users.sign_up(account, device).await?;
    let login = login.map(|login| LoggedIn {
        access_token: login.access_token,
        device_id: login.device_id,
        refresh_token: login.refresh_token,
        expires_in_ms: login.expires_in_ms,
    });
    Ok(Json(Registered { user_id, login }))
}

/// A device as a client describes it in a login or registration.
pub(crate) fn new_device(
    device_id: Option<OwnedDeviceId>,
    display_name: Option<String>,
    can_refresh: bool,
) -> NewDevice {
    let style = if can_refresh { TokenStyle::Refreshed } else { TokenStyle::Lasting };
    NewDevice { device_id, display_name, style }
}

/// Says whether a name is free.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3registeravailable)
async fn check_username_availability(
    State(users): State<Users>,
    State(rate_limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    Ruma(request): Ruma<get_username_availability::v3::Request>,
) -> Result<Ruma<get_username_availability::v3::Response>, ApiError> {
    rate_limits.check_sign_up(address)?;
    users.check_available(&request.username).await?;
    Ok(Ruma(get_username_availability::v3::Response::new(true)))
}

/// Says whether a registration token would be accepted.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity)
async fn registration_token_validity(
    State(settings): State<Arc<ApiSettings>>,
    State(rate_limits): State<Arc<RateLimits>>,
    ClientAddress(address): ClientAddress,
    Ruma(request): Ruma<check_registration_token_validity::v1::Request>,
) -> Result<Ruma<check_registration_token_validity::v1::Response>, ApiError> {
    rate_limits.check_sign_up(address)?;
    if !settings.registration.enabled {
        return Err(ApiError::forbidden("registration is disabled"));
    }
    let valid = is_registration_token(&settings, &request.token);
    Ok(Ruma(check_registration_token_validity::v1::Response::new(valid)))
}

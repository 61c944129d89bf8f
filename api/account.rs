//! One's own account: who one is, the password, the end.

use std::net::IpAddr;

use axum::{Router, extract::State};
use rooms::Rooms;
use ruma::{
    OwnedUserId, UserId,
    api::client::{
        account::{ThirdPartyIdRemovalStatus, change_password, deactivate, whoami},
        uiaa::AuthData,
    },
};
use users::{Erasure, LogOut, Users, check_new_password};

use crate::{
    auth::Session,
    error::ApiError,
    extract::{Ruma, route},
    rate_limit::ClientAddress,
    state::ApiState,
    uia::{Challenge, Checkers},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<whoami::v3::Request, _, _>(Router::new(), who_am_i);
    let router = route::<change_password::v3::Request, _, _>(router, change_account_password);
    route::<deactivate::v3::Request, _, _>(router, deactivate_own_account)
}

/// Says whose the token is.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3accountwhoami)
async fn who_am_i(
    session: Session,
    Ruma(_): Ruma<whoami::v3::Request>,
) -> Ruma<whoami::v3::Response> {
    let mut response = whoami::v3::Response::new(session.user_id.clone(), session.guest);
    response.device_id = Some(session.device_id.clone());
    Ruma(response)
}

/// Changes the password.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountpassword)
async fn change_account_password(
    State(state): State<ApiState>,
    ClientAddress(address): ClientAddress,
    session: Option<Session>,
    Ruma(request): Ruma<change_password::v3::Request>,
) -> Result<Ruma<change_password::v3::Response>, ApiError> {
    check_new_password(&request.new_password)?;
    let auth = request.auth.as_ref();
    let user_id = prove(&state, "password", session.as_ref(), auth, address).await?;
    let log_out = match &session {
        _ if !request.logout_devices => LogOut::Nobody,
        Some(session) => LogOut::Others(&session.device_id),
        None => LogOut::Everybody,
    };
    state.users.set_password(&user_id, &request.new_password, log_out).await?;
    Ok(Ruma(change_password::v3::Response::new()))
}

/// Closes the account for ever.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate)
async fn deactivate_own_account(
    State(state): State<ApiState>,
    ClientAddress(address): ClientAddress,
    session: Option<Session>,
    Ruma(request): Ruma<deactivate::v3::Request>,
) -> Result<Ruma<deactivate::v3::Response>, ApiError> {
    let auth = request.auth.as_ref();
    let user_id = prove(&state, "deactivate", session.as_ref(), auth, address).await?;
    let erasure = if request.erase { Erasure::Erase } else { Erasure::Keep };
    deactivate_account(&state.users, &state.rooms, &user_id, erasure).await?;
    Ok(Ruma(deactivate::v3::Response::new(ThirdPartyIdRemovalStatus::Success)))
}

/// Makes sure by their password who calls, whether they have a session or not.
async fn prove(
    state: &ApiState,
    purpose: &str,
    session: Option<&Session>,
    auth: Option<&AuthData>,
    address: Option<IpAddr>,
) -> Result<OwnedUserId, ApiError> {
    let user_id = session.map(|session| &*session.user_id);
    let challenge = Challenge::password(purpose, user_id);
    let checkers = Checkers {
        users: &state.users,
        settings: &state.settings,
        rate_limits: &state.rate_limits,
        address,
    };
    let passed = state.uia.step(&challenge, auth, checkers).await?;
    passed.user_id.ok_or_else(|| ApiError::forbidden("nobody's password was given"))
}

/// Closes an account for ever, and makes its user leave all rooms. Goes on when the caller goes
/// away.
///
/// # Errors
/// When there is no such user, or the store fails.
pub async fn deactivate_account(
    users: &Users,
    rooms: &Rooms,
    user_id: &UserId,
    erasure: Erasure,
) -> Result<(), ApiError> {
    let (users, rooms, user_id) = (users.clone(), rooms.clone(), user_id.to_owned());
    let end = tokio::spawn(async move {
        users.deactivate(&user_id, erasure).await?;
        depart(&users, &rooms, &user_id).await
    });
    end.await.map_err(|error| ApiError::internal(&error))?
}

/// Makes the users leave their rooms whose departure the end of the process interrupted. To be
/// called at the start.
///
/// # Errors
/// When the store fails.
pub async fn finish_departures(users: &Users, rooms: &Rooms) -> Result<(), ApiError> {
    loop {
        let departures = users.list_departures().await?;
        if departures.is_empty() {
            return Ok(());
        }
        for user_id in departures {
            depart(users, rooms, &user_id).await?;
        }
    }
}

async fn depart(users: &Users, rooms: &Rooms, user_id: &UserId) -> Result<(), ApiError> {
    rooms.leave_all(user_id).await?;
    let account = users.account(user_id).await?;
    if account.is_some_and(|account| account.erased) {
        rooms.erase(user_id).await?;
    }
    users.end_departure(user_id).await?;
    Ok(())
}

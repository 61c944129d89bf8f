//! Who is online.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State};
use clock::Clock;
use rooms::Rooms;
use ruma::{
    UserId,
    api::client::presence::{get_presence, set_presence},
    presence::PresenceState,
};
use users::Users;

use crate::{
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
    state::ApiState,
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<set_presence::v3::Request, _, _>(Router::new(), set);
    route::<get_presence::v3::Request, _, _>(router, get)
}

/// Sets one's presence.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3presenceuseridstatus)
async fn set(
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<set_presence::v3::Request>,
) -> Result<Ruma<set_presence::v3::Response>, ApiError> {
    if session.user_id != request.user_id {
        return Err(ApiError::forbidden("you may set your own presence only"));
    }
    if matches!(request.presence, PresenceState::_Custom(_)) {
        return Err(ApiError::invalid_param("presence is online, unavailable or offline"));
    }
    users.set_presence(&session.user_id, request.presence, request.status_msg).await?;
    Ok(Ruma(set_presence::v3::Response::new()))
}

/// Shows one's own presence, or that of somebody in a room with one. Who never set it is offline.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3presenceuseridstatus)
async fn get(
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    State(clock): State<Arc<dyn Clock>>,
    session: ActiveSession,
    Ruma(request): Ruma<get_presence::v3::Request>,
) -> Result<Ruma<get_presence::v3::Response>, ApiError> {
    if !may_see(&rooms, &session.user_id, &request.user_id).await? {
        return Err(ApiError::forbidden("you share no room with this user"));
    }
    let presence = users.presence(&request.user_id).await?;
    let mut response = get_presence::v3::Response::new(presence.state);
    response.status_msg = presence.status_msg;
    response.currently_active = Some(presence.currently_active);
    response.last_active_ago = presence
        .last_active_ms
        .map(|at_ms| Duration::from_millis(clock.now_ms().saturating_sub(at_ms)));
    Ok(Ruma(response))
}

/// Whether a user may see the presence of another: they are the same, or joined to the same room.
async fn may_see(rooms: &Rooms, viewer: &UserId, other: &UserId) -> Result<bool, ApiError> {
    if viewer == other {
        return Ok(true);
    }
    let own = rooms.memberships(viewer).await?;
    let theirs = rooms.rooms_of(other).await?;
    Ok(theirs.into_iter().any(|room| own.is_joined(room)))
}

//! What one does to another's membership: invite, kick, ban, unban.

use axum::{Router, extract::State};
use http::StatusCode;
use rooms::Rooms;
use ruma::api::client::membership::{
    ban_user, invite_user, invite_user::v3::InvitationRecipient, kick_user, unban_user,
};
use users::Users;

use crate::{
    ApiState,
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<invite_user::v3::Request, _, _>(router, invite);
    let router = route::<kick_user::v3::Request, _, _>(router, kick);
    let router = route::<ban_user::v3::Request, _, _>(router, ban);
    route::<unban_user::v3::Request, _, _>(router, unban)
}

/// Invites a user into a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidinvite)
async fn invite(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<invite_user::v3::Request>,
) -> Result<Ruma<invite_user::v3::Response>, ApiError> {
    let InvitationRecipient::UserId(recipient) = request.recipient else {
        return Err(no_identity_server());
    };
    let target = recipient.user_id;
    let profile = super::member_profile(&users, &target).await?;
    let reason = recipient.reason;
    rooms.invite(&session.user_id, &request.room_id, &target, profile, reason, false).await?;
    Ok(Ruma(invite_user::v3::Response::new()))
}

/// Kicks a user out of a room, or takes an invite back.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidkick)
async fn kick(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<kick_user::v3::Request>,
) -> Result<Ruma<kick_user::v3::Response>, ApiError> {
    rooms.kick(&session.user_id, &request.room_id, &request.user_id, request.reason).await?;
    Ok(Ruma(kick_user::v3::Response::new()))
}

/// Bans a user from a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidban)
async fn ban(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<ban_user::v3::Request>,
) -> Result<Ruma<ban_user::v3::Response>, ApiError> {
    rooms.ban(&session.user_id, &request.room_id, &request.user_id, request.reason).await?;
    Ok(Ruma(ban_user::v3::Response::new()))
}

/// Lifts a ban.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidunban)
async fn unban(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<unban_user::v3::Request>,
) -> Result<Ruma<unban_user::v3::Response>, ApiError> {
    rooms.unban(&session.user_id, &request.room_id, &request.user_id, request.reason).await?;
    Ok(Ruma(unban_user::v3::Response::new()))
}

/// The answer to an invite by e-mail address or telephone number.
pub(super) fn no_identity_server() -> ApiError {
    let message = "this server asks no identity server: invite people by their Matrix ID";
    ApiError::new(StatusCode::FORBIDDEN, "M_THREEPID_DENIED", message)
}

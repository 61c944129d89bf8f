//! `POST /rooms/{roomId}/upgrade`.

use axum::{Router, extract::State};
use rooms::{Rooms, Upgrade};
use ruma::api::client::room::upgrade_room::v3::{Request, Response};
use users::Users;

use crate::{
    ApiState,
    auth::ActiveSession,
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    route::<Request, _, _>(Router::new(), upgrade)
}

/// Replaces a room by one of another version.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidupgrade)
async fn upgrade(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<Request>,
) -> Result<Ruma<Response>, ApiError> {
    let upgrade = Upgrade {
        version: request.new_version,
        additional_creators: request.additional_creators,
        profile: super::member_profile(&users, &session.user_id).await?,
    };
    let replacement = rooms.upgrade(&session.user_id, &request.room_id, upgrade).await?;
    Ok(Ruma(Response::new(replacement)))
}

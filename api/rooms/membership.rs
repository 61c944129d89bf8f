//! Coming and going: join, leave, knock, forget.

use axum::{Router, extract::State};
use rooms::{Rooms, RoomsError};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomOrAliasId,
    api::client::{
        knock::knock_room,
        membership::{forget_room, join_room_by_id, join_room_by_id_or_alias, leave_room},
    },
};
use users::Users;

use crate::{
    ApiState,
    auth::{ActiveSession, Session},
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<join_room_by_id::v3::Request, _, _>(router, join_by_id);
    let router = route::<join_room_by_id_or_alias::v3::Request, _, _>(router, join_by_id_or_alias);
    let router = route::<knock_room::v3::Request, _, _>(router, knock);
    let router = route::<leave_room::v3::Request, _, _>(router, leave);
    route::<forget_room::v3::Request, _, _>(router, forget)
}

/// Joins a room by its ID.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidjoin)
async fn join_by_id(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<join_room_by_id::v3::Request>,
) -> Result<Ruma<join_room_by_id::v3::Response>, ApiError> {
    super::guests::check_join(&rooms, &session, &request.room_id).await?;
    let profile = super::member_profile(&users, &session.user_id).await?;
    rooms.join(&session.user_id, &request.room_id, &[], profile, request.reason).await?;
    Ok(Ruma(join_room_by_id::v3::Response::new(request.room_id)))
}

/// Joins a room by its ID or an alias.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3joinroomidoralias)
async fn join_by_id_or_alias(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<join_room_by_id_or_alias::v3::Request>,
) -> Result<Ruma<join_room_by_id_or_alias::v3::Response>, ApiError> {
    let (room_id, via) = resolve(&rooms, &request.room_id_or_alias, request.via).await?;
    super::guests::check_join(&rooms, &session, &room_id).await?;
    let profile = super::member_profile(&users, &session.user_id).await?;
    rooms.join(&session.user_id, &room_id, &via, profile, request.reason).await?;
    Ok(Ruma(join_room_by_id_or_alias::v3::Response::new(room_id)))
}

/// Asks to be let into a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3knockroomidoralias)
async fn knock(
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    session: ActiveSession,
    Ruma(request): Ruma<knock_room::v3::Request>,
) -> Result<Ruma<knock_room::v3::Response>, ApiError> {
    let (room_id, via) = resolve(&rooms, &request.room_id_or_alias, request.via).await?;
    let profile = super::member_profile(&users, &session.user_id).await?;
    rooms.knock(&session.user_id, &room_id, &via, profile, request.reason).await?;
    Ok(Ruma(knock_room::v3::Response::new(room_id)))
}

/// Leaves a room, or rejects an invite, or withdraws a knock.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidleave)
async fn leave(
    State(rooms): State<Rooms>,
    session: Session,
    Ruma(request): Ruma<leave_room::v3::Request>,
) -> Result<Ruma<leave_room::v3::Response>, ApiError> {
    rooms.leave(&session.user_id, &request.room_id, request.reason).await?;
    Ok(Ruma(leave_room::v3::Response::new()))
}

/// Forgets a room that one has left.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3roomsroomidforget)
async fn forget(
    State(rooms): State<Rooms>,
    session: Session,
    Ruma(request): Ruma<forget_room::v3::Request>,
) -> Result<Ruma<forget_room::v3::Response>, ApiError> {
    match rooms.forget(&session.user_id, &request.room_id).await {
        // The specification wants this code for those who are still there.
        Err(RoomsError::Invalid { what }) => return Err(ApiError::unknown(what)),
        done => done?,
    }
    Ok(Ruma(forget_room::v3::Response::new()))
}

/// The room that an ID or alias names, and the servers to be asked for help: those that the client
/// names, then those that the alias does.
async fn resolve(
    rooms: &Rooms,
    room: &RoomOrAliasId,
    mut via: Vec<OwnedServerName>,
) -> Result<(OwnedRoomId, Vec<OwnedServerName>), ApiError> {
    let alias: &RoomAliasId = match OwnedRoomId::try_from(room.to_owned()) {
        Ok(room_id) => return Ok((room_id, via)),
        Err(_) => room.try_into().map_err(|_| ApiError::invalid_param("neither ID nor alias"))?,
    };
    match rooms.find_alias(alias).await? {
        Some((room_id, servers)) => {
            via.extend(servers);
            Ok((room_id, via))
        }
        None => Err(ApiError::not_found("no such alias")),
    }
}

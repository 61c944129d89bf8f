//! Who is in a room, and in which rooms one is.

use axum::{Router, extract::State};
use rooms::{MembersQuery, Rooms};
use ruma::api::client::membership::{get_member_events, joined_members, joined_rooms};

use crate::{
    ApiState,
    auth::Session,
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<get_member_events::v3::Request, _, _>(router, members);
    let router = route::<joined_members::v3::Request, _, _>(router, joined_members_of);
    route::<joined_rooms::v3::Request, _, _>(router, joined_rooms_of)
}

/// Lists the member events of a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidmembers)
async fn members(
    State(state): State<ApiState>,
    session: Session,
    Ruma(request): Ruma<get_member_events::v3::Request>,
) -> Result<Ruma<get_member_events::v3::Response>, ApiError> {
    let at =
        request.at.as_deref().map(|text| super::history::page_token("at", text)).transpose()?;
    let query =
        MembersQuery { at, membership: request.membership, not_membership: request.not_membership };
    let members = state.rooms.members(&session.user_id, &request.room_id, query).await?;
    let (viewer, now_ms) = (super::viewer(&session), state.clock.now_ms());
    let chunk =
        members.iter().map(|event| event.state_json(viewer, now_ms).cast_unchecked()).collect();
    Ok(Ruma(get_member_events::v3::Response::new(chunk)))
}

/// Lists the joined members of a room with their names.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidjoined_members)
async fn joined_members_of(
    State(rooms): State<Rooms>,
    session: Session,
    Ruma(request): Ruma<joined_members::v3::Request>,
) -> Result<Ruma<joined_members::v3::Response>, ApiError> {
    let members = rooms.joined_members(&session.user_id, &request.room_id).await?;
    let joined = members.into_iter().map(|(user_id, profile)| {
        let mut member = joined_members::v3::RoomMember::new();
        member.display_name = profile.displayname;
        member.avatar_url = profile.avatar_url.map(Into::into);
        (user_id, member)
    });
    Ok(Ruma(joined_members::v3::Response::new(joined.collect())))
}

/// Lists the rooms that one is in.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3joined_rooms)
async fn joined_rooms_of(
    State(rooms): State<Rooms>,
    session: Session,
    Ruma(_): Ruma<joined_rooms::v3::Request>,
) -> Result<Ruma<joined_rooms::v3::Response>, ApiError> {
    let joined = rooms.joined_rooms(&session.user_id).await?;
    Ok(Ruma(joined_rooms::v3::Response::new(joined)))
}

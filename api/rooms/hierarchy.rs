//! What rooms look like from outside: the rooms of a space, and the summary of one room.

use axum::{Router, extract::State};
use rooms::{Asker, HierarchyQuery, Rooms};
use ruma::api::client::{
    room::get_summary,
    space::{SpaceHierarchyRoomsChunk, get_hierarchy},
};

use crate::{
    ApiState,
    auth::Session,
    error::ApiError,
    extract::{Ruma, route},
};

pub(crate) fn routes() -> Router<ApiState> {
    let router = route::<get_hierarchy::v1::Request, _, _>(Router::new(), hierarchy);
    route::<get_summary::v1::Request, _, _>(router, summary)
}

/// Gives the rooms of a space and of the spaces in it.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidhierarchy)
async fn hierarchy(
    State(rooms): State<Rooms>,
    session: Session,
    Ruma(request): Ruma<get_hierarchy::v1::Request>,
) -> Result<Ruma<get_hierarchy::v1::Response>, ApiError> {
    let query = HierarchyQuery {
        from: request.from,
        limit: request.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
        max_depth: request.max_depth.map(u64::from),
        suggested_only: request.suggested_only,
    };
    let page = rooms.hierarchy(&session.user_id, &request.room_id, query).await?;
    let mut response = get_hierarchy::v1::Response::new();
    response.next_batch = page.next_batch;
    response.rooms = page
        .rooms
        .into_iter()
        .map(|room| SpaceHierarchyRoomsChunk::new(room.summary, room.children))
        .collect();
    Ok(Ruma(response))
}

/// Gives the summary of a room, to whoever could join, knock on or read it.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias)
async fn summary(
    State(rooms): State<Rooms>,
    session: Option<Session>,
    Ruma(request): Ruma<get_summary::v1::Request>,
) -> Result<Ruma<get_summary::v1::Response>, ApiError> {
    let asker = match &session {
        Some(session) => Asker::User(&session.user_id),
        None => Asker::Anybody,
    };
    let preview = rooms.room_summary(asker, &request.room_id_or_alias, &request.via).await?;
    let mut response = get_summary::v1::Response::new(preview.summary);
    response.membership = preview.membership;
    Ok(Ruma(response))
}

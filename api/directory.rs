//! The directory: aliases of rooms and the list of published rooms.

use axum::{Router, extract::State};
use http::StatusCode;
use rooms::{DeletedBy, PublicRoomsPage, PublicRoomsQuery, Rooms, RoomsError, Visibility};
use ruma::{
    ServerName, UInt,
    api::client::{
        alias::{create_alias, delete_alias, get_alias},
        directory::{
            get_public_rooms, get_public_rooms_filtered, get_room_visibility, set_room_visibility,
        },
        room::{Visibility as WantedVisibility, aliases},
    },
    directory::{Filter, RoomNetwork},
};

use crate::{
    ApiState,
    auth::{ActiveSession, Session, missing_token},
    error::ApiError,
    extract::{Ruma, route},
};

/// Routes of the directory.
pub(crate) fn routes() -> Router<ApiState> {
    let router = Router::new();
    let router = route::<create_alias::v3::Request, _, _>(router, set_room_alias);
    let router = route::<get_alias::v3::Request, _, _>(router, get_room_id_by_alias);
    let router = route::<delete_alias::v3::Request, _, _>(router, delete_room_alias);
    let router = route::<aliases::v3::Request, _, _>(router, get_local_aliases);
    let router = route::<get_room_visibility::v3::Request, _, _>(router, get_visibility);
    let router = route::<set_room_visibility::v3::Request, _, _>(router, set_visibility);
    let router = route::<get_public_rooms::v3::Request, _, _>(router, public_rooms);
    route::<get_public_rooms_filtered::v3::Request, _, _>(router, query_public_rooms)
}

/// Points an alias to a room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directoryroomroomalias)
async fn set_room_alias(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<create_alias::v3::Request>,
) -> Result<Ruma<create_alias::v3::Response>, ApiError> {
    let (alias, room_id) = (&request.room_alias, &request.room_id);
    match rooms.create_alias(&session.user_id, alias, room_id).await {
        Err(error @ RoomsError::AliasTaken { .. }) => {
            return Err(ApiError::new(StatusCode::CONFLICT, "M_UNKNOWN", error.to_string()));
        }
        done => done?,
    }
    Ok(Ruma(create_alias::v3::Response::new()))
}

/// Tells to which room an alias points.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directoryroomroomalias)
async fn get_room_id_by_alias(
    State(rooms): State<Rooms>,
    session: Option<Session>,
    Ruma(request): Ruma<get_alias::v3::Request>,
) -> Result<Ruma<get_alias::v3::Response>, ApiError> {
    if request.room_alias.server_name() != rooms.server_name() && session.is_none() {
        // Strangers may ask for our aliases, but not have others asked for theirs.
        return Err(missing_token());
    }
    match rooms.find_alias(&request.room_alias).await? {
        Some((room_id, servers)) => Ok(Ruma(get_alias::v3::Response::new(room_id, servers))),
        None => Err(ApiError::not_found("no room has this alias")),
    }
}

/// Takes an alias from its room.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#delete_matrixclientv3directoryroomroomalias)
async fn delete_room_alias(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<delete_alias::v3::Request>,
) -> Result<Ruma<delete_alias::v3::Response>, ApiError> {
    let by = if session.admin { DeletedBy::Admin } else { DeletedBy::User };
    rooms.delete_alias(&session.user_id, &request.room_alias, by).await?;
    Ok(Ruma(delete_alias::v3::Response::new()))
}

/// Lists the aliases that a room has on this server.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidaliases)
async fn get_local_aliases(
    State(rooms): State<Rooms>,
    session: Session,
    Ruma(request): Ruma<aliases::v3::Request>,
) -> Result<Ruma<aliases::v3::Response>, ApiError> {
    let aliases = rooms.aliases(&session.user_id, &request.room_id).await?;
    Ok(Ruma(aliases::v3::Response::new(aliases)))
}

/// Tells whether a room is published.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3directorylistroomroomid)
async fn get_visibility(
    State(rooms): State<Rooms>,
    Ruma(request): Ruma<get_room_visibility::v3::Request>,
) -> Result<Ruma<get_room_visibility::v3::Response>, ApiError> {
    let visibility = match rooms.directory_visibility(&request.room_id).await? {
        Visibility::Public => WantedVisibility::Public,
        Visibility::Private => WantedVisibility::Private,
    };
    Ok(Ruma(get_room_visibility::v3::Response::new(visibility)))
}

/// Publishes a room, or takes it off the list.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3directorylistroomroomid)
async fn set_visibility(
    State(rooms): State<Rooms>,
    session: ActiveSession,
    Ruma(request): Ruma<set_room_visibility::v3::Request>,
) -> Result<Ruma<set_room_visibility::v3::Response>, ApiError> {
    let visibility = visibility(&request.visibility)?;
    rooms.set_directory_visibility(&session.user_id, &request.room_id, visibility).await?;
    Ok(Ruma(set_room_visibility::v3::Response::new()))
}

/// Lists published rooms.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms)
async fn public_rooms(
    State(rooms): State<Rooms>,
    session: Option<Session>,
    Ruma(request): Ruma<get_public_rooms::v3::Request>,
) -> Result<Ruma<get_public_rooms::v3::Response>, ApiError> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(as_limit),
        since: request.since,
        filter: Filter::new(),
    };
    let server = request.server.as_deref();
    if server.is_some_and(|server| server != rooms.server_name()) && session.is_none() {
        // Strangers may read our list, but not have others asked for theirs.
        return Err(missing_token());
    }
    let page = list(&rooms, server, query).await?;
    let mut response = get_public_rooms::v3::Response::new(page.chunk);
    response.next_batch = page.next_batch;
    response.prev_batch = page.prev_batch;
    response.total_room_count_estimate = Some(UInt::new_saturating(page.total_estimate));
    Ok(Ruma(response))
}

/// Lists those published rooms that are looked for.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3publicrooms)
async fn query_public_rooms(
    State(rooms): State<Rooms>,
    _session: Session,
    Ruma(request): Ruma<get_public_rooms_filtered::v3::Request>,
) -> Result<Ruma<get_public_rooms_filtered::v3::Response>, ApiError> {
    let query = PublicRoomsQuery {
        limit: request.limit.map(as_limit),
        since: request.since,
        filter: request.filter,
    };
    let page = match request.room_network {
        // No bridge has lists of its own here.
        RoomNetwork::ThirdParty(_) => PublicRoomsPage::default(),
        _ => list(&rooms, request.server.as_deref(), query).await?,
    };
    let mut response = get_public_rooms_filtered::v3::Response::new();
    response.chunk = page.chunk;
    response.next_batch = page.next_batch;
    response.prev_batch = page.prev_batch;
    response.total_room_count_estimate = Some(UInt::new_saturating(page.total_estimate));
    Ok(Ruma(response))
}

/// A page of a server's directory.
async fn list(
    rooms: &Rooms,
    server: Option<&ServerName>,
    query: PublicRoomsQuery,
) -> Result<PublicRoomsPage, ApiError> {
    Ok(match server {
        Some(server) => rooms.public_rooms_of(server, query).await?,
        None => rooms.public_rooms(query).await?,
    })
}

fn as_limit(limit: UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(usize::MAX)
}

/// Whether a room is to be published.
pub(crate) fn visibility(wanted: &WantedVisibility) -> Result<Visibility, ApiError> {
    match wanted {
        WantedVisibility::Public => Ok(Visibility::Public),
        WantedVisibility::Private => Ok(Visibility::Private),
        other => Err(ApiError::invalid_param(format!("unknown visibility {:?}", other.as_str()))),
    }
}

//! Questions about users, aliases and published rooms.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#querying-for-information)

use axum::{extract::State, response::Response};
use http::StatusCode;
use rooms::{PublicRoomsQuery, ServerHierarchy};
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedUserId,
    directory::{Filter, RoomNetwork},
};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, ok},
        extract::{Args, QueryArgs},
        origin::Signed,
    },
};

/// Most servers that are named as able to help to join a room.
const SERVERS_MAX: usize = 50;

/// Whose profile is wanted.
#[derive(Deserialize)]
pub(crate) struct ProfileQuery {
    user_id: OwnedUserId,
    field: Option<String>,
}

/// Which alias is asked for.
#[derive(Deserialize)]
pub(crate) struct DirectoryQuery {
    room_alias: OwnedRoomAliasId,
}

/// Which page of the directory is wanted.
#[derive(Deserialize)]
pub(crate) struct PublicRooms {
    limit: Option<u64>,
    since: Option<String>,
    #[serde(default)]
    filter: Filter,
    #[serde(default)]
    include_all_networks: bool,
    third_party_instance_id: Option<String>,
}

/// Which children of a space are wanted.
#[derive(Deserialize)]
pub(crate) struct HierarchyQuery {
    #[serde(default)]
    suggested_only: bool,
}

/// Gives a user's profile, or one field of it.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile)
pub(crate) async fn query_profile(
    State(door): State<Door>,
    QueryArgs(query): QueryArgs<ProfileQuery>,
    _: Signed,
) -> Result<Response> {
    if !door.users.is_local(&query.user_id) {
        return Err(Refusal::invalid_param("the user is not on this server"));
    }
    let account = door.users.account(&query.user_id).await?;
    if account.is_none_or(|account| account.deactivated) {
        return Err(Refusal::not_found("there is no such user"));
    }
    let mut profile = door.users.profile(&query.user_id).await?;
    if let Some(field) = query.field {
        profile.retain(|name, _| *name == field);
    }
    Ok(ok(&json!(profile)))
}

/// Tells where an alias points.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory)
pub(crate) async fn query_directory(
    State(door): State<Door>,
    QueryArgs(query): QueryArgs<DirectoryQuery>,
    _: Signed,
) -> Result<Response> {
    let unknown = || Refusal::not_found("no room has this alias");
    if query.room_alias.server_name() != door.server_name {
        return Err(Refusal::invalid_param("the alias is not of this server"));
    }
    let (room_id, mut servers) =
        door.rooms.resolve_alias(&query.room_alias).await?.ok_or_else(unknown)?;
    if let Some(room) = door.rooms.room(&room_id).await? {
        let joined = door.rooms.joined_servers(&room).await?.by_users();
        let more = joined.into_iter().filter(|server| !servers.contains(server));
        let more: Vec<_> = more.take(SERVERS_MAX).collect();
        servers.extend(more);
    }
    Ok(ok(&json!({ "room_id": room_id, "servers": servers })))
}

/// Refuses a query of a kind that nobody knows.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryquerytype)
pub(crate) async fn query_other(Args(kind): Args<String>, _: Signed) -> Refusal {
    let message = format!("there are no queries of the kind {kind}");
    Refusal::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", message)
}

/// Lists published rooms.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1publicrooms)
pub(crate) async fn get_public_rooms(
    State(door): State<Door>,
    QueryArgs(query): QueryArgs<PublicRooms>,
    _: Signed,
) -> Result<Response> {
    public_rooms(&door, query).await
}

/// Lists those published rooms that a filter lets through.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1publicrooms)
pub(crate) async fn query_public_rooms(
    State(door): State<Door>,
    request: Signed,
) -> Result<Response> {
    public_rooms(&door, request.json()?).await
}

async fn public_rooms(door: &Door, query: PublicRooms) -> Result<Response> {
    let network = match query.third_party_instance_id {
        Some(id) if !query.include_all_networks => RoomNetwork::ThirdParty(id),
        _ => RoomNetwork::All,
    };
    if let RoomNetwork::ThirdParty(_) = network {
        // There are no bridges whose rooms could be listed apart.
        return Ok(ok(&json!({ "chunk": [], "total_room_count_estimate": 0 })));
    }
    let limit = query.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let since = query.since.filter(|since| !since.is_empty());
    let wanted = PublicRoomsQuery { limit, since, filter: query.filter };
    let page = door.rooms.public_rooms(wanted).await?;
    let mut answer = json!({
        "chunk": page.chunk,
        "total_room_count_estimate": page.total_estimate,
    });
    for (name, token) in [("next_batch", page.next_batch), ("prev_batch", page.prev_batch)] {
        if let (Some(token), Some(fields)) = (token, answer.as_object_mut()) {
            fields.insert(name.to_owned(), token.into());
        }
    }
    Ok(ok(&answer))
}

/// Tells of a space and its children.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1hierarchyroomid)
pub(crate) async fn get_hierarchy(
    State(door): State<Door>,
    Args(room_id): Args<OwnedRoomId>,
    QueryArgs(query): QueryArgs<HierarchyQuery>,
    request: Signed,
) -> Result<Response> {
    let ServerHierarchy { room, children, inaccessible } =
        door.rooms.hierarchy_for(&request.origin, &room_id, query.suggested_only).await?;
    let mut space = json!(room.summary);
    if let Some(fields) = space.as_object_mut() {
        let state: Vec<JsonValue> = room.children.iter().map(|event| json!(event)).collect();
        fields.insert("children_state".to_owned(), state.into());
    }
    Ok(ok(&json!({
        "room": space,
        "children": children,
        "inaccessible_children": inaccessible,
    })))
}

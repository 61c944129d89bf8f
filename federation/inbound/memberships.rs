//! Users of other servers who join, knock at or leave rooms that we are in.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#joining-rooms)

use axum::{extract::State, response::Response};
use event::{EventError, VerifiedPdu};
use rooms::{JoinGrant, Room, RoomsError, Step};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId,
    events::{TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use serde::Deserialize;
use serde_json::{json, value::RawValue as RawJsonValue};

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, json_text, ok, ok_empty},
        events::{Part, long_answer, pages_of},
        extract::{Args, QueryArgs},
        origin::Signed,
    },
};

/// Which room versions the other server knows.
#[derive(Deserialize)]
pub(crate) struct Versions {
    #[serde(default)]
    ver: Vec<RoomVersionId>,
}

/// What the other server wants of a join.
#[derive(Deserialize)]
pub(crate) struct JoinQuery {
    #[serde(default)]
    omit_members: bool,
}

/// The two forms of some answers.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// The object alone.
    Plain,
    /// `[200, object]`, as the first version of these endpoints has it.
    Paired,
}

/// Prepares a join.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid)
pub(crate) async fn make_join(
    State(door): State<Door>,
    Args((room_id, user_id)): Args<(OwnedRoomId, OwnedUserId)>,
    QueryArgs(versions): QueryArgs<Versions>,
    request: Signed,
) -> Result<Response> {
    make(&door, &request, &room_id, &user_id, Step::Join, Some(versions)).await
}

/// Prepares a knock.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_knockroomiduserid)
pub(crate) async fn make_knock(
    State(door): State<Door>,
    Args((room_id, user_id)): Args<(OwnedRoomId, OwnedUserId)>,
    QueryArgs(versions): QueryArgs<Versions>,
    request: Signed,
) -> Result<Response> {
    make(&door, &request, &room_id, &user_id, Step::Knock, Some(versions)).await
}

/// Prepares a leave.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_leaveroomiduserid)
pub(crate) async fn make_leave(
    State(door): State<Door>,
    Args((room_id, user_id)): Args<(OwnedRoomId, OwnedUserId)>,
    request: Signed,
) -> Result<Response> {
    make(&door, &request, &room_id, &user_id, Step::Leave, None).await
}

/// Prepares a member event. Who leaves need not know the room's version.
async fn make(
    door: &Door,
    request: &Signed,
    room_id: &RoomId,
    user_id: &OwnedUserId,
    step: Step,
    versions: Option<Versions>,
) -> Result<Response> {
    if user_id.server_name() != request.origin {
        return Err(Refusal::forbidden("the user is not on your server"));
    }
    let versions = match versions {
        // A server that says nothing knows the first version alone.
        Some(Versions { ver }) if ver.is_empty() => vec![RoomVersionId::V1],
        Some(Versions { ver }) => ver,
        None => rooms::SUPPORTED_VERSIONS.to_vec(),
    };
    let origin = &request.origin;
    let template = door.rooms.prepare_for(origin, room_id, user_id, step, &versions).await?;
    Ok(ok(&json!({ "room_version": template.version, "event": template.event })))
}

/// Takes a join.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid)
pub(crate) async fn send_join_v2(
    State(door): State<Door>,
    Args(path): Args<(OwnedRoomId, OwnedEventId)>,
    QueryArgs(query): QueryArgs<JoinQuery>,
    request: Signed,
) -> Result<Response> {
    send_join(&door, path, &request, query.omit_members, Form::Plain).await
}

/// Takes a join of an older server.
/// [Spec](https://spec.matrix.org/v1.1/server-server-api/#put_matrixfederationv1send_joinroomideventid)
pub(crate) async fn send_join_v1(
    State(door): State<Door>,
    Args(path): Args<(OwnedRoomId, OwnedEventId)>,
    request: Signed,
) -> Result<Response> {
    send_join(&door, path, &request, false, Form::Paired).await
}

async fn send_join(
    door: &Door,
    path: (OwnedRoomId, OwnedEventId),
    request: &Signed,
    omit_members: bool,
    form: Form,
) -> Result<Response> {
    let room = room_of(door, &path.0).await?;
    let event = request.object()?;
    let event = door.rooms.countersign_join(&room, event)?;
    let event = member_event(door, &room, &path, event, &MembershipState::Join).await?;
    let grant = door.rooms.accept_join(&request.origin, event, omit_members).await?;
    Ok(join_answer(door, grant, form))
}

/// The answer to a join, which is as long as the room's state.
fn join_answer(door: &Door, grant: JoinGrant, form: Form) -> Response {
    let mut head = format!("{{\"origin\":\"{}\",\"event\":{}", door.server_name, grant.event.json);
    head.push_str(&format!(",\"members_omitted\":{}", grant.members_omitted));
    if grant.members_omitted {
        let servers = json!(grant.servers_in_room).to_string();
        head.push_str(&format!(",\"servers_in_room\":{servers}"));
    }
    head.push_str(",\"auth_chain\":[");
    let (before, after) = match form {
        Form::Plain => ("", "]}"),
        Form::Paired => ("[200,", "]}]"),
    };
    long_answer(vec![
        Part::Text(before.into()),
        Part::Text(head.into()),
        Part::Events(pages_of(&door.rooms, &grant.room, grant.auth_chain)),
        Part::Text("],\"state\":[".into()),
        Part::Events(pages_of(&door.rooms, &grant.room, grant.state)),
        Part::Text(after.into()),
    ])
}

/// Takes a knock.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid)
pub(crate) async fn send_knock(
    State(door): State<Door>,
    Args(path): Args<(OwnedRoomId, OwnedEventId)>,
    request: Signed,
) -> Result<Response> {
    let room = room_of(&door, &path.0).await?;
    let event = request.object()?;
    let event = member_event(&door, &room, &path, event, &MembershipState::Knock).await?;
    let state = door.rooms.accept_knock(&request.origin, event).await?;
    Ok(ok(&json!({ "knock_room_state": state })))
}

/// Takes a leave.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid)
pub(crate) async fn send_leave_v2(
    State(door): State<Door>,
    Args(path): Args<(OwnedRoomId, OwnedEventId)>,
    request: Signed,
) -> Result<Response> {
    send_leave(&door, path, &request).await?;
    Ok(ok_empty())
}

/// Takes a leave of an older server.
/// [Spec](https://spec.matrix.org/v1.1/server-server-api/#put_matrixfederationv1send_leaveroomideventid)
pub(crate) async fn send_leave_v1(
    State(door): State<Door>,
    Args(path): Args<(OwnedRoomId, OwnedEventId)>,
    request: Signed,
) -> Result<Response> {
    send_leave(&door, path, &request).await?;
    Ok(json_text("[200,{}]".to_owned()))
}

async fn send_leave(
    door: &Door,
    path: (OwnedRoomId, OwnedEventId),
    request: &Signed,
) -> Result<()> {
    let room = room_of(door, &path.0).await?;
    let event = request.object()?;
    let event = member_event(door, &room, &path, event, &MembershipState::Leave).await?;
    Ok(door.rooms.accept_leave(&request.origin, event).await?)
}

async fn room_of(door: &Door, room_id: &RoomId) -> Result<std::sync::Arc<Room>> {
    let room = door.rooms.room(room_id).await?;
    Ok(room.ok_or(RoomsError::NotFound { what: "room" })?)
}

/// Verifies a member event that a user sends for themselves, and that it is what the path says.
async fn member_event(
    door: &Door,
    room: &Room,
    (room_id, event_id): &(OwnedRoomId, OwnedEventId),
    event: Box<RawJsonValue>,
    membership: &MembershipState,
) -> Result<VerifiedPdu> {
    let event = verify(door, event, &room.rules).await?;
    let pdu = event.pdu();
    let problem = if pdu.room_id != *room_id {
        "the event is of another room than the path"
    } else if pdu.event_id != *event_id {
        "the event has another ID than the path"
    } else if pdu.kind != TimelineEventType::RoomMember {
        "the event is no m.room.member event"
    } else if pdu.state_key.as_deref() != Some(pdu.sender.as_str()) {
        "the event's state key is not its sender"
    } else if pdu.membership().as_ref() != Some(membership) {
        "the event sets another membership"
    } else {
        return Ok(event);
    };
    Err(Refusal::invalid_param(problem))
}

/// Verifies one event: what is malformed is 400, what is not signed as it must be is 403.
pub(crate) async fn verify(
    door: &Door,
    event: Box<RawJsonValue>,
    rules: &RoomVersionRules,
) -> Result<VerifiedPdu> {
    match door.client.keyring().verify_all(vec![event], rules).await.pop() {
        Some(Ok(event)) => Ok(event),
        Some(Err(error @ EventError::Unverified(_))) => Err(Refusal::forbidden(error.to_string())),
        Some(Err(error)) => Err(Refusal::bad_json(error.to_string())),
        None => Err(Refusal::bad_json("the event could not be verified")),
    }
}

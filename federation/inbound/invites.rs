//! Users of ours who are invited to rooms of other servers, and third parties who turn out to be
//! users.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room)

use axum::{extract::State, response::Response};
use event::VerifiedPdu;
use http::StatusCode;
use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result, json_text, ok_empty},
        extract::Args,
        memberships::{Form, verify},
        origin::Signed,
    },
};

/// Most events of the room's state that come with an invite.
const STATE_LEN_MAX: usize = 200;

/// An invite with what helps to show it.
#[derive(Deserialize)]
struct Invite {
    room_version: RoomVersionId,
    event: Box<RawJsonValue>,
    #[serde(default)]
    invite_room_state: Vec<Box<RawJsonValue>>,
}

/// Takes an invite.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid)
pub(crate) async fn invite_v2(
    State(door): State<Door>,
    Args(path): Args<(OwnedRoomId, OwnedEventId)>,
    request: Signed,
) -> Result<Response> {
    let invite: Invite = request.json()?;
    receive(&door, path, &request, invite, Form::Plain).await
}

/// Takes an invite of an older server, which has the rest in the event's `unsigned`.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid)
pub(crate) async fn invite_v1(
    State(door): State<Door>,
    Args(path): Args<(OwnedRoomId, OwnedEventId)>,
    request: Signed,
) -> Result<Response> {
    #[derive(Default, Deserialize)]
    struct Unsigned {
        #[serde(default)]
        invite_room_state: Vec<Box<RawJsonValue>>,
    }
    #[derive(Deserialize)]
    struct Event {
        #[serde(default)]
        unsigned: Unsigned,
    }
    let event = request.object()?;
    let Event { unsigned: Unsigned { invite_room_state } } =
        serde_json::from_str(event.get()).unwrap_or(Event { unsigned: Unsigned::default() });
    // The form of the events of both old versions is the same.
    let invite = Invite { room_version: RoomVersionId::V1, event, invite_room_state };
    receive(&door, path, &request, invite, Form::Paired).await
}

async fn receive(
    door: &Door,
    path: (OwnedRoomId, OwnedEventId),
    request: &Signed,
    invite: Invite,
    form: Form,
) -> Result<Response> {
    let Invite { room_version, event, invite_room_state } = invite;
    if !rooms::SUPPORTED_VERSIONS.contains(&room_version) {
        return Err(Refusal::incompatible(&room_version));
    }
    let rules = event::rules(&room_version).ok_or_else(|| Refusal::incompatible(&room_version))?;
    if invite_room_state.len() > STATE_LEN_MAX {
        return Err(Refusal::too_large("too much state comes with the invite"));
    }
    let event = verify(door, event, &rules).await?;
    check(door, &path, &event).await?;
    let origin = &request.origin;
    let rooms = &door.rooms;
    let pdu = rooms.accept_invite(origin, &room_version, event, invite_room_state).await?;
    let answer = format!("{{\"event\":{}}}", pdu.json);
    Ok(json_text(match form {
        Form::Plain => answer,
        Form::Paired => format!("[200,{answer}]"),
    }))
}

/// Checks that an event is an invite of a user of ours who can be invited.
async fn check(
    door: &Door,
    (room_id, event_id): &(OwnedRoomId, OwnedEventId),
    event: &VerifiedPdu,
) -> Result<()> {
    let pdu = event.pdu();
    let bad = Refusal::invalid_param;
    if pdu.room_id != *room_id {
        return Err(bad("the event is of another room than the path"));
    }
    if pdu.event_id != *event_id {
        return Err(bad("the event has another ID than the path"));
    }
    let is_invite = pdu.kind == TimelineEventType::RoomMember
        && pdu.membership() == Some(MembershipState::Invite);
    if !is_invite {
        return Err(bad("the event is no invite"));
    }
    let invitee = pdu.state_key.as_deref().unwrap_or_default();
    let invitee = UserId::parse(invitee).map_err(|_| bad("the state key is no user ID"))?;
    if !door.rooms.is_local(&invitee) {
        return Err(bad("the invited user is not on this server"));
    }
    let account = door.users.account(&invitee).await?;
    if account.is_none_or(|account| account.deactivated) {
        return Err(Refusal::not_found("there is no such user"));
    }
    if blocks_invites(door, &invitee).await? {
        let message = "the user does not want to be invited";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", message));
    }
    Ok(())
}

/// Whether a user wants no invites.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#invite-permission)
async fn blocks_invites(door: &Door, user: &UserId) -> Result<bool> {
    #[derive(Deserialize)]
    struct Config {
        default_action: Option<String>,
    }
    let kind = "m.invite_permission_config";
    let Some(content) = door.users.account_data(user, None, kind).await? else {
        return Ok(false);
    };
    let config: Option<Config> = serde_json::from_str(content.get()).ok();
    Ok(config.and_then(|config| config.default_action).as_deref() == Some("block"))
}

/// Makes an invite of a third-party invite that a user of the other server has redeemed.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid)
pub(crate) async fn exchange_third_party_invite(
    State(door): State<Door>,
    Args(room_id): Args<OwnedRoomId>,
    request: Signed,
) -> Result<Response> {
    let event = request.object()?;
    door.rooms.exchange_third_party(&request.origin, &room_id, event).await?;
    Ok(ok_empty())
}

//! Invites of our users that other servers bring, and what becomes of them while this server is not
//! in the room.

use std::{collections::BTreeSet, sync::Arc};

use event::{Pdu, VerifiedPdu};
use ruma::{
    OwnedUserId, RoomVersionId, ServerName, UserId,
    events::{
        AnyStrippedStateEvent, StateEventType, TimelineEventType, room::member::MembershipState,
    },
    room_version_rules::RoomVersionRules,
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue, value::RawValue as RawJsonValue};

use super::outside::Outsider;
use crate::{
    Rooms,
    error::{Result, RoomsError},
    new_event::to_raw,
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    summary::{stripped, stripped_keys},
};

/// Most state events that are kept of what comes with an invite or a knock.
const TOLD_LEN_MAX: usize = 50;

/// Most bytes that are kept of it.
const TOLD_BYTES_MAX: usize = 256 * 1024;

/// A state event as it is told to those outside: stripped, or whole.
#[derive(Deserialize, Serialize)]
struct Told {
    #[serde(rename = "type")]
    kind: StateEventType,
    state_key: String,
    sender: OwnedUserId,
    content: Map<String, JsonValue>,
}

impl Rooms {
    /// Takes an invite of one of our users, and signs it. `told` are state events of the room,
    /// stripped or whole.
    ///
    /// Where this server is in the room, the invite itself comes again with the room's events.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid)
    ///
    /// # Errors
    /// - [`RoomsError::InvalidParam`] for what is no invite by a user of the server of one of ours,
    ///   and when from room version 12 on the create event is missing.
    /// - [`RoomsError::IncompatibleVersion`] when we cannot take part in rooms of the version.
    /// - [`RoomsError::Forbidden`] when the user is in the room already.
    pub async fn accept_invite(
        &self,
        origin: &ServerName,
        version: &RoomVersionId,
        event: VerifiedPdu,
        told: Vec<Box<RawJsonValue>>,
    ) -> Result<Arc<Pdu>> {
        let pdu = event.into_pdu();
        let user = self.check_invite(origin, &pdu)?;
        let supported = event::SUPPORTED.contains(version);
        let Some(rules) = event::rules(version).filter(|_| supported) else {
            return Err(RoomsError::IncompatibleVersion { version: version.clone() });
        };
        if let Some(room) = self.room_if_resident(&pdu.room_id).await? {
            if room.version != *version {
                return Err(RoomsError::IncompatibleVersion { version: room.version.clone() });
            }
            if self.is_joined(&user, room.number).await? {
                return Err(RoomsError::forbidden(format!("{user} is in the room already")));
            }
            self.check_acl(&room, origin).await?;
            return Ok(Arc::new(self.countersigned(&pdu, &rules)?));
        }
        let told = keep(told);
        if rules.authorization.room_create_event_id_as_room_id {
            let creates = |raw: &RawJsonValue| {
                Pdu::from_json(raw.get().into(), &rules).is_ok_and(|create| {
                    create.kind == TimelineEventType::RoomCreate && create.room_id == pdu.room_id
                })
            };
            if !told.iter().any(|raw| creates(raw)) {
                let what = "invite_room_state lacks the create event of the room";
                return Err(RoomsError::invalid_param(what));
            }
        }
        let signed = self.countersigned(&pdu, &rules)?;
        let entrance = self.enter_any(&pdu.room_id, version).await?;
        let outsider =
            Outsider { user, event: signed.clone(), server: origin.to_owned(), state: told };
        // Where we have come into the room meanwhile, the invite comes again with its events.
        let _ = self.put_outsider(entrance, outsider).await?;
        Ok(Arc::new(signed))
    }

    /// An event with our signature besides the other server's.
    fn countersigned(&self, pdu: &Pdu, rules: &RoomVersionRules) -> Result<Pdu> {
        let key = &self.inner.config.key;
        Ok(event::countersign(pdu, self.server_name(), key, rules)?)
    }

    /// Checks that an event is an invite of one of our users. Gives the user.
    fn check_invite(&self, origin: &ServerName, pdu: &Pdu) -> Result<OwnedUserId> {
        let bad = |what: &str| Err(RoomsError::invalid_param(what));
        if pdu.kind != TimelineEventType::RoomMember {
            return bad("the event is no m.room.member event");
        }
        if pdu.membership() != Some(MembershipState::Invite) {
            return bad("the membership is not invite");
        }
        if pdu.sender.server_name() != origin {
            return bad("the sender is not a user of the sending server");
        }
        let user = pdu.state_key.as_deref().and_then(|key| UserId::parse(key).ok());
        match user.filter(|user| self.is_local(user)) {
            Some(user) => Ok(user),
            None => bad("the state key is not a user of this server"),
        }
    }

    /// Takes an event of a room that this server is not in, where it takes back an invite of one of
    /// our users or refuses a knock. `false` when it is none of that, or not the sender's to do.
    ///
    /// We cannot tell who has the power to; but the server that sent an invite, or that we knocked
    /// through, tells all that we know of the room.
    ///
    /// # Errors
    /// [`RoomsError::Store`] and the like.
    pub async fn receive_outside(&self, origin: &ServerName, event: VerifiedPdu) -> Result<bool> {
        let pdu = event.into_pdu();
        let ends = matches!(pdu.membership(), Some(MembershipState::Leave | MembershipState::Ban));
        let user = pdu.state_key.as_deref().and_then(|key| UserId::parse(key).ok());
        let Some(user) = user.filter(|user| ends && self.is_local(user)) else { return Ok(false) };
        let Some(room) = self.room(&pdu.room_id).await? else { return Ok(false) };
        if self.is_resident(&room).await? {
            return Ok(false);
        }
        let Some(row) = self.outside_row(&room, &user).await? else { return Ok(false) };
        let now = self.load_event(&room, row.event).await?;
        let theirs = match now.pdu.membership() {
            Some(MembershipState::Invite) => now.pdu.sender.server_name().to_owned(),
            Some(MembershipState::Knock) => row.server.clone(),
            _ => return Ok(false),
        };
        if theirs != origin || pdu.sender.server_name() != origin {
            tracing::info!(%origin, room.id = %room.room_id, "not theirs to take back");
            return Ok(false);
        }
        let entrance = self.enter_any(&room.room_id, &room.version).await?;
        let outsider = Outsider { user, event: pdu, server: row.server, state: Vec::new() };
        self.put_outsider(entrance, outsider).await
    }

    /// What one of our users is told of a room that this server is not in, or was not when the
    /// invite or knock was made.
    pub(crate) async fn state_told_outside(
        &self,
        room: &Room,
        member_event: &StoredEvent,
    ) -> Result<Vec<Raw<AnyStrippedStateEvent>>> {
        let pdu = &member_event.pdu;
        let user = pdu.state_key.as_deref().and_then(|key| UserId::parse(key).ok());
        let row = match &user {
            Some(user) => self.outside_row(room, user).await?,
            None => None,
        };
        let mut told: Vec<Box<RawJsonValue>> = Vec::new();
        match row.filter(|row| row.event == member_event.number) {
            Some(row) => told.extend(row.state.iter().filter_map(|raw| shown(room, raw))),
            None => {
                let root = self.current_state(room).await?;
                let select = StateSelect::Keys(stripped_keys(pdu));
                let mut events = self.state_events(room, root, &select).await?;
                events.retain(|event| event.state_key != pdu.state_key);
                for event in events {
                    told.push(stripped(&event)?);
                }
            }
        }
        told.push(stripped(pdu)?);
        Ok(told.into_iter().map(Raw::from_json).collect())
    }
}

/// A state event as a client is shown it; `None` for what is malformed.
fn shown(room: &Room, raw: &RawJsonValue) -> Option<Box<RawJsonValue>> {
    let told: Told = serde_json::from_str(raw.get()).ok()?;
    if told.kind == StateEventType::RoomCreate
        && let Ok(create) = Pdu::from_json(raw.get().into(), &room.rules)
        && create.room_id == room.room_id
    {
        return stripped(&create).ok();
    }
    to_raw(&told).ok()
}

/// What is kept of the state events that came with an invite or a knock: one for each key, and not
/// more than we care for.
pub(crate) fn keep(told: Vec<Box<RawJsonValue>>) -> Vec<Box<RawJsonValue>> {
    let mut bytes = 0;
    let mut seen = BTreeSet::new();
    let mut is_wanted = |raw: &RawJsonValue| {
        let Ok(told) = serde_json::from_str::<Told>(raw.get()) else { return false };
        bytes += raw.get().len();
        bytes <= TOLD_BYTES_MAX && seen.insert((told.kind, told.state_key))
    };
    told.into_iter().filter(|raw| is_wanted(raw)).take(TOLD_LEN_MAX).collect()
}

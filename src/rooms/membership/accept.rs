//! Member events that other servers ask us to take into a room that we are in: joins, knocks and
//! leaves of their users.

use std::sync::Arc;

use event::{Pdu, VerifiedPdu};
use ruma::{
    EventId, OwnedEventId, ServerName, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;
use store::Batch;

use super::prepare_for::is_let_in;
use crate::{
    Rooms,
    append::{Assembly, accept::Place},
    error::{Result, RoomsError},
    lane::Lane,
    outliers::{check_by_auth_events, deciding},
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    summary::stripped_keys,
    tables::{EventNumber, StateRoot},
};

/// What another server gets for a join that we have taken.
#[derive(Clone, Debug)]
pub struct JoinGrant {
    /// The join, with our signature where the room is restricted.
    pub event: Arc<Pdu>,
    /// The room.
    pub room: Arc<Room>,
    /// The state before the join; without most members where `members_omitted`. A room may have
    /// more of it than fits in memory: [`Rooms::events`] gives the events.
    pub state: Vec<EventNumber>,
    /// The auth chain of the state and of the join; without what is in the state where less was
    /// asked for.
    pub auth_chain: Vec<EventNumber>,
    /// Whether members were left out of the state.
    pub members_omitted: bool,
    /// The servers in the room before the join, where members were left out.
    pub servers_in_room: Vec<ruma::OwnedServerName>,
}

impl Rooms {
    /// Adds our signature to a join that names a user of ours as the one who lets the user in:
    /// such a join does not verify without it. Gives back any other event as it is.
    ///
    /// The signature is worth nothing until [`Rooms::accept_join`] has agreed: it goes nowhere
    /// before.
    ///
    /// # Errors
    /// [`RoomsError::Event`] when the event is malformed.
    pub fn countersign_join(
        &self,
        room: &Room,
        event: Box<RawJsonValue>,
    ) -> Result<Box<RawJsonValue>> {
        #[derive(Deserialize)]
        struct Content {
            join_authorised_via_users_server: Option<ruma::OwnedUserId>,
        }
        let pdu = Pdu::from_json(event.get().into(), &room.rules)?;
        let via = pdu.content_as::<Content>().ok().and_then(|c| c.join_authorised_via_users_server);
        let is_join = pdu.membership() == Some(MembershipState::Join);
        // In older versions the signature would vouch for something else: for an event ID of ours.
        let is_known_there = room.rules.authorization.restricted_join_rule;
        if !is_known_there || !is_join || !via.is_some_and(|via| self.is_local(&via)) {
            return Ok(event);
        }
        let key = &self.inner.config.key;
        let signed = event::countersign(&pdu, self.server_name(), key, &room.rules)?;
        let json = signed.json.as_ref().to_owned();
        Ok(RawJsonValue::from_string(json).map_err(event::EventError::from)?)
    }

    /// Takes a join of another server's user into a room.
    ///
    /// With `omit_members` only the members that the server needs at once are given.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid)
    ///
    /// # Errors
    /// As [`Rooms::prepare_for`], and [`RoomsError::InvalidParam`] for what is no join of a user
    /// of the server.
    pub async fn accept_join(
        &self,
        origin: &ServerName,
        event: VerifiedPdu,
        omit_members: bool,
    ) -> Result<JoinGrant> {
        let (room, event) = self.accept_step(origin, event, MembershipState::Join).await?;
        self.grant(&room, &event, omit_members).await
    }

    /// Takes a knock of another server's user. Gives what is told of the room, as whole events.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_knockroomideventid)
    ///
    /// # Errors
    /// As [`Rooms::accept_join`].
    pub async fn accept_knock(
        &self,
        origin: &ServerName,
        event: VerifiedPdu,
    ) -> Result<Vec<Box<RawJsonValue>>> {
        let (room, event) = self.accept_step(origin, event, MembershipState::Knock).await?;
        self.state_for_outsider(&room, event.state_after, &event.pdu).await
    }

    /// Takes a leave of another server's user: the end of their stay, of an invite or of a knock.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_leaveroomideventid)
    ///
    /// # Errors
    /// As [`Rooms::accept_join`].
    pub async fn accept_leave(&self, origin: &ServerName, event: VerifiedPdu) -> Result<()> {
        self.accept_step(origin, event, MembershipState::Leave).await.map(|_| ())
    }

    /// Takes a step of another server's user. One that we took before is taken again.
    async fn accept_step(
        &self,
        origin: &ServerName,
        event: VerifiedPdu,
        membership: MembershipState,
    ) -> Result<(Arc<Room>, Arc<StoredEvent>)> {
        let pdu = event.into_pdu();
        check_step(origin, &pdu, &membership)?;
        let room = self.open_for_step(origin, &pdu.room_id).await?;
        if membership != MembershipState::Leave
            && let Some(why) = self.unwanted(&room, &pdu).await?
        {
            return Err(RoomsError::Forbidden { why });
        }
        let mut lane = self.enter(&room.room_id).await?;
        let event_id = pdu.event_id.clone();
        let known = self.event_by_id(&room, &event_id).await?;
        if known.as_ref().is_some_and(|known| !is_same_step(&known.pdu, &pdu)) {
            // In versions 1 and 2 an event says its ID itself: it may be that of another event.
            return Err(RoomsError::invalid_param("the ID of the event is that of another one"));
        }
        let taken = known.is_some_and(|event| {
            event.position != store::Position::ZERO && !event.rejected && !event.soft_failed
        });
        if !taken {
            if membership == MembershipState::Join {
                self.check_authorised_join(&lane, &pdu).await?;
            }
            let gone = (membership != MembershipState::Join).then(|| pdu.sender.clone());
            self.place_known(&mut lane, pdu, true).await?;
            if let Some(user) = gone {
                self.inner.typing.stop(&room.room_id, &user);
            }
        }
        drop(lane);
        let event = self.event_by_id(&room, &event_id).await?;
        let event = event.ok_or(RoomsError::MissingEvent { event: event_id })?;
        Ok((room, event))
    }

    /// In a restricted room, holds a join to the conditions: the authorisation rules look only at
    /// who lets the user in.
    async fn check_authorised_join(&self, lane: &Lane, join: &Pdu) -> Result<()> {
        let kind = StateEventType::RoomMember;
        let user = join.sender.as_str();
        let now = self.state_event(lane.room(), lane.state(), &kind, user).await?;
        if !is_let_in(now.and_then(|event| event.membership()).as_ref()) {
            self.authorising_member(lane.room(), lane.state(), &join.sender).await?;
        }
        Ok(())
    }

    /// Places an event that follows what we have, and commits it. Unlike one that is received, it
    /// is refused altogether where the rules do not allow it, or no longer do.
    ///
    /// # Errors
    /// [`RoomsError::Forbidden`] then; [`RoomsError::InvalidParam`] when it follows or names what
    /// we do not have.
    pub(crate) async fn place_known(&self, lane: &mut Lane, pdu: Pdu, relay: bool) -> Result<()> {
        let room = Arc::clone(lane.room());
        let mut assembly = Assembly::new(self, Arc::clone(&room), Arc::clone(&lane.head));
        let auth: Vec<OwnedEventId> = deciding(&pdu, &room).collect();
        let known = assembly.known(&auth).await?;
        let unknown = || RoomsError::invalid_param("the event follows or names unknown events");
        if pdu.prev_events.is_empty() || auth.iter().any(|id| !known.contains_key(id)) {
            return Err(unknown());
        }
        let mut roots: Vec<StateRoot> = Vec::with_capacity(pdu.prev_events.len());
        for id in &pdu.prev_events {
            roots.push(assembly.placed(id).await?.ok_or_else(unknown)?.state_after);
        }
        let before = assembly.resolve(&roots).await?;
        let decides = |id: &EventId| known.get(id).map(|event| Arc::clone(&event.pdu));
        check_by_auth_events(&pdu, &room, decides)?;
        for root in [before, lane.state()] {
            assembly.allows(&pdu, root).await?.map_err(|why| RoomsError::Forbidden { why })?;
        }
        assembly.accept(pdu, Place { relay, ..Place::at(before) }).await?;
        self.commit(lane, assembly, Batch::new()).await?;
        Ok(())
    }

    /// What one who is outside of a room is told of it by another server: whole events.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2inviteroomideventid)
    pub(crate) async fn state_for_outsider(
        &self,
        room: &Room,
        root: StateRoot,
        member_event: &Pdu,
    ) -> Result<Vec<Box<RawJsonValue>>> {
        let select = StateSelect::Keys(stripped_keys(member_event));
        let mut events = self.state_events(room, root, &select).await?;
        // The step itself is told apart from what is told beside it.
        events.retain(|event| event.event_id != member_event.event_id);
        let raw = |event: &Arc<Pdu>| {
            RawJsonValue::from_string(event.json.as_ref().to_owned())
                .map_err(|error| event::EventError::from(error).into())
        };
        events.iter().map(raw).collect()
    }
}

/// Whether two events with one ID say the same of the same user.
fn is_same_step(known: &Pdu, sent: &Pdu) -> bool {
    known.kind == sent.kind
        && known.sender == sent.sender
        && known.state_key == sent.state_key
        && known.membership() == sent.membership()
        && known.prev_events == sent.prev_events
}

/// Checks that an event is what it is sent as: a step of a user of the sending server.
fn check_step(origin: &ServerName, pdu: &Pdu, membership: &MembershipState) -> Result<()> {
    let bad = |what: &str| Err(RoomsError::invalid_param(what));
    if pdu.kind != TimelineEventType::RoomMember {
        return bad("the event is no m.room.member event");
    }
    if pdu.membership().as_ref() != Some(membership) {
        return Err(RoomsError::invalid_param(format!("the membership is not {membership}")));
    }
    if pdu.sender.server_name() != origin {
        return bad("the sender is not a user of the sending server");
    }
    let target = pdu.state_key.as_deref().and_then(|key| <&UserId>::try_from(key).ok());
    if target != Some(&*pdu.sender) {
        return bad("the state key is not the sender");
    }
    Ok(())
}

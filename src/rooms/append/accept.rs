//! Placing an event: its number, the states around it, and what it does to the head, the members
//! and a redacted event.

use std::sync::Arc;

use event::Pdu;
use ruma::{
    OwnedUserId,
    events::{StateEventType, TimelineEventType},
    state_res::events::RoomPowerLevelsIntField,
};
use store::Position;

use crate::{
    append::{Accepted, Assembly, MemberChange, build::powers, late::Known},
    cache::StateKey,
    error::Result,
    state::trie::{self, Changes, Overlay},
    stored_event::{StoredEvent, Txn},
    tables::{EventNumber, StateKeyNumber, StateRoot},
};

/// Where an event stands, and what the checks said of it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The state before it: that after the events it follows, resolved.
    pub(crate) state_before: StateRoot,
    /// The client transaction that made it.
    pub(crate) txn: Option<Txn>,
    /// The authorisation rules refuse it.
    pub(crate) rejected: bool,
    /// The current state of the room refuses it.
    pub(crate) soft_failed: bool,
    /// Another server gave it to us to accept for the room (a join, knock, leave or third-party
    /// invite), so it is for us to tell all the others of it.
    pub(crate) relay: bool,
}

impl Place {
    /// A place that the rules allow.
    pub(crate) fn at(state_before: StateRoot) -> Self {
        Self { state_before, txn: None, rejected: false, soft_failed: false, relay: false }
    }
}

/// The spot of an event in the timeline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    pub(crate) position: Position,
    pub(crate) index: i64,
}

/// Most forward extremities that a room has.
pub(crate) const EXTREMITIES_KEPT_MAX: usize = 100;

impl Assembly<'_> {
    /// Gives an event its place, also one that was an outlier until now. All checks have been made.
    ///
    /// What it follows without our knowing the place of that becomes a hole in the timeline; such
    /// an event must be the first of its commit.
    pub(crate) async fn accept(&mut self, pdu: Pdu, place: Place) -> Result<EventNumber> {
        let known = self.look_up(&pdu).await?;
        let event_id = pdu.event_id.clone();
        let number = self.place(pdu, place, known).await?;
        self.redact_late(&event_id).await?;
        Ok(number)
    }

    /// Gives an event its place, by what is known of it.
    pub(crate) async fn place(
        &mut self,
        pdu: Pdu,
        place: Place,
        known: Known,
    ) -> Result<EventNumber> {
        let room_state_before = self.head.state;
        let (relay, state_before) = (place.relay, place.state_before);
        let index = i64::try_from(self.accepted.len()).unwrap_or(i64::MAX);
        let spot = Spot { position: Position::PENDING, index };
        let event = self.stored(pdu, place, known.outlier, spot).await?;
        let (pdu, number, state_after) = (Arc::clone(&event.pdu), event.number, event.state_after);
        let shown = !event.rejected && !event.soft_failed;
        self.note_missing(&event, known.missing)?;
        self.accepted.push(Accepted { event, room_state: room_state_before, shown, relay });
        if shown {
            let leads = (!known.followed).then_some((number, state_after));
            self.advance(&pdu, leads).await?;
            self.note_members(room_state_before, self.head.state).await?;
            if let Some(accepted) = self.accepted.last_mut() {
                accepted.room_state = self.head.state;
            }
        }
        if pdu.kind == TimelineEventType::RoomRedaction && shown {
            self.redact_target(&pdu, number, state_before).await?;
        }
        Ok(number)
    }

    /// An event with the states around it. One that was an outlier keeps its number, and stays
    /// redacted.
    pub(crate) async fn stored(
        &mut self,
        mut pdu: Pdu,
        place: Place,
        outlier: Option<Arc<StoredEvent>>,
        spot: Spot,
    ) -> Result<Arc<StoredEvent>> {
        let number = match &outlier {
            Some(outlier) => outlier.number,
            None => self.head.take_event_number(),
        };
        let mut redacted_by = None;
        if let Some(outlier) = &outlier {
            self.outliers.remove(&number);
            self.redacted.remove(&number);
            if outlier.redacted_by.is_some() {
                pdu = Pdu::clone(&outlier.pdu);
                redacted_by = outlier.redacted_by.clone();
            }
        }
        pdu.rejected = place.rejected;
        let (state_after, replaced) = self.state_after(&pdu, number, &place).await?;
        let prev_state = match replaced {
            Some(replaced) => Some(self.event(replaced).await?.pdu.event_id.clone()),
            None => None,
        };
        Ok(Arc::new(StoredEvent {
            pdu: Arc::new(pdu),
            number,
            position: spot.position,
            index: spot.index,
            state_before: place.state_before,
            state_after,
            redacted_by,
            txn: place.txn,
            prev_state,
            rejected: place.rejected,
            soft_failed: place.soft_failed,
        }))
    }

    /// The state after an event, and the event that it replaces.
    async fn state_after(
        &mut self,
        pdu: &Pdu,
        number: EventNumber,
        place: &Place,
    ) -> Result<(StateRoot, Option<EventNumber>)> {
        let Some((kind, key)) = pdu.state_entry() else { return Ok((place.state_before, None)) };
        if place.rejected {
            return Ok((place.state_before, None));
        }
        let entry: StateKey = (kind, key.to_owned());
        let replaced = self.find(place.state_before, std::slice::from_ref(&entry)).await?;
        let key = self.key_number(entry).await?;
        let changes = Changes::from([(key, Some(number))]);
        let root = self.changed_state(place.state_before, &changes).await?;
        Ok((root, replaced.into_iter().next().flatten()))
    }

    /// A state that differs from another.
    pub(crate) async fn changed_state(
        &mut self,
        root: StateRoot,
        changes: &Changes,
    ) -> Result<StateRoot> {
        let stored = self.stored_nodes();
        let root = trie::update(&stored, &mut self.nodes, root, changes).await?;
        self.head.next_node = self.nodes.next;
        Ok(root)
    }

    /// The number of a state key, a new one if need be.
    async fn key_number(&mut self, key: StateKey) -> Result<StateKeyNumber> {
        let known = self.key_numbers(std::slice::from_ref(&key)).await?;
        Ok(self.number_key(key, known.into_iter().next().flatten()))
    }

    /// The number of a state key: the one that it has, or a new one.
    pub(crate) fn number_key(
        &mut self,
        key: StateKey,
        known: Option<StateKeyNumber>,
    ) -> StateKeyNumber {
        if let Some(number) = known.or_else(|| self.keys.get(&key).copied()) {
            return number;
        }
        let number = self.head.take_state_key_number();
        self.keys.insert(key.clone(), number);
        self.names.insert(number, key);
        number
    }

    /// Moves the head: the event is an extremity now, unless others follow it already, and those
    /// that it follows are none.
    pub(crate) async fn advance(
        &mut self,
        pdu: &Pdu,
        leads: Option<(EventNumber, StateRoot)>,
    ) -> Result<()> {
        self.head.depth = self.head.depth.max(pdu.depth.into());
        let extremities = self.head.extremities.clone();
        let events = self.events(&extremities).await?;
        let covered = self.covered(pdu).await?;
        let open: Vec<Arc<StoredEvent>> =
            events.into_iter().filter(|event| !covered.contains(&event.pdu.event_id)).collect();
        if leads.is_none() && (open.is_empty() || open.len() == extremities.len()) {
            return Ok(());
        }
        // Where nobody may tie the loose ends up, the oldest are let go: what it takes to resolve
        // them
        // all grows with the square of their number.
        let surplus = open.len().saturating_sub(EXTREMITIES_KEPT_MAX);
        let open = open.get(surplus..).unwrap_or_default();
        let mut roots: Vec<StateRoot> = open.iter().map(|event| event.state_after).collect();
        self.head.extremities = open.iter().map(|event| event.number).collect();
        if let Some((number, after)) = leads {
            roots.push(after);
            // An outlier that has got its place has an old number.
            self.head.extremities.push(number);
            self.head.extremities.sort_unstable();
        }
        self.head.state = self.resolve(&roots).await?;
        Ok(())
    }

    /// Notes whose membership differs between two current states.
    pub(crate) async fn note_members(&mut self, from: StateRoot, to: StateRoot) -> Result<()> {
        let stored = self.stored_nodes();
        let nodes = Overlay { base: &stored, new: &self.nodes };
        for difference in trie::diff(&nodes, from, to).await? {
            let Some(user) = self.member(difference.key).await? else { continue };
            let from = self.membership(difference.from).await?;
            let to = self.membership(difference.to).await?;
            self.head.count(from.as_ref().map(|m| &m.0), to.as_ref().map(|m| &m.0));
            let change =
                self.members.entry(user).or_insert_with(|| MemberChange { from, to: None });
            change.to = to;
        }
        Ok(())
    }

    /// The user whose membership a state key holds.
    async fn member(&self, key: StateKeyNumber) -> Result<Option<OwnedUserId>> {
        let name = match self.names.get(&key) {
            Some(name) => name.clone(),
            None => {
                let names = self.rooms.state_key_names(&self.room, &[key]).await?;
                let Some(name) = names.into_iter().next() else { return Ok(None) };
                StateKey::clone(&name)
            }
        };
        let (kind, user) = name;
        Ok(if kind == StateEventType::RoomMember { user.try_into().ok() } else { None })
    }

    async fn membership(
        &self,
        event: Option<EventNumber>,
    ) -> Result<Option<(ruma::events::room::member::MembershipState, EventNumber)>> {
        let Some(number) = event else { return Ok(None) };
        let event = self.event(number).await?;
        Ok(event.pdu.membership().map(|membership| (membership, number)))
    }

    /// Prunes what a redaction names, where its sender has the power to, or is of the same server
    /// as the other sender.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions)
    pub(crate) async fn redact_target(
        &mut self,
        pdu: &Pdu,
        number: EventNumber,
        before: StateRoot,
    ) -> Result<()> {
        let Some(target_id) = &pdu.redacts else { return Ok(()) };
        let Some(target) = self.event_by_id(target_id).await? else {
            self.note_early_redaction(target_id, number);
            return Ok(());
        };
        if target.redacted_by.is_some() || target.pdu.event_id == pdu.event_id {
            return Ok(());
        }
        if target.pdu.sender.server_name() != pdu.sender.server_name() {
            let levels = (StateEventType::RoomPowerLevels, String::new());
            let auth = self.auth_state(before, vec![levels]).await?;
            let powers = powers(&auth, &self.room)?;
            if !powers.may(&pdu.sender, RoomPowerLevelsIntField::Redact) {
                return Ok(());
            }
        }
        let mut pruned = event::redact(&target.pdu, &self.room.rules)?;
        pruned.rejected = target.pdu.rejected;
        let redacted = Arc::new(StoredEvent {
            pdu: Arc::new(pruned),
            redacted_by: Some(pdu.event_id.clone()),
            ..StoredEvent::clone(&target)
        });
        let ours = self.accepted.iter_mut().find(|a| a.event.number == redacted.number);
        match ours {
            Some(accepted) => accepted.event = redacted,
            None if let Some(outlier) = self.outliers.get_mut(&redacted.number) => {
                *outlier = redacted;
            }
            None => drop(self.redacted.insert(redacted.number, redacted)),
        }
        Ok(())
    }
}

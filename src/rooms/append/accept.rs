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
    append::{Accepted, Assembly, MemberChange, build::powers},
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
}

impl Place {
    /// A place that the rules allow.
    pub(crate) fn at(state_before: StateRoot) -> Self {
        Self { state_before, txn: None, rejected: false, soft_failed: false }
    }
}

impl Assembly<'_> {
    /// Gives an event its place. All checks have been made.
    pub(crate) async fn accept(&mut self, pdu: Pdu, place: Place) -> Result<EventNumber> {
        let number = self.head.take_event_number();
        let room_state_before = self.head.state;
        let (state_after, replaced) = self.state_after(&pdu, number, &place).await?;
        let prev_state = match replaced {
            Some(replaced) => Some(self.event(replaced).await?.pdu.event_id.clone()),
            None => None,
        };
        let shown = !place.rejected && !place.soft_failed;
        let index = u32::try_from(self.accepted.len()).unwrap_or(u32::MAX);
        let pdu = Arc::new(pdu);
        let event = Arc::new(StoredEvent {
            pdu: Arc::clone(&pdu),
            number,
            position: Position::PENDING,
            index,
            state_before: place.state_before,
            state_after,
            redacted_by: None,
            txn: place.txn,
            prev_state,
            rejected: place.rejected,
            soft_failed: place.soft_failed,
        });
        self.accepted.push(Accepted { event, room_state: room_state_before, shown });
        if shown {
            self.advance(&pdu, number, state_after).await?;
            self.note_members(room_state_before, self.head.state).await?;
            if let Some(accepted) = self.accepted.last_mut() {
                accepted.room_state = self.head.state;
            }
        }
        if pdu.kind == TimelineEventType::RoomRedaction && shown {
            self.redact_target(&pdu, place.state_before).await?;
        }
        Ok(number)
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
        if let Some(number) = known.into_iter().next().flatten() {
            return Ok(number);
        }
        let number = self.head.take_state_key_number();
        self.keys.insert(key.clone(), number);
        self.names.insert(number, key);
        Ok(number)
    }

    /// Moves the head: the event is an extremity now, and those that it follows are none.
    async fn advance(&mut self, pdu: &Pdu, number: EventNumber, after: StateRoot) -> Result<()> {
        let extremities = self.head.extremities.clone();
        let events = self.events(&extremities).await?;
        let mut open: Vec<Arc<StoredEvent>> = events
            .into_iter()
            .filter(|event| !pdu.prev_events.contains(&event.pdu.event_id))
            .collect();
        let alone = open.is_empty();
        self.head.extremities = open.iter().map(|event| event.number).collect();
        self.head.extremities.push(number);
        self.head.depth = self.head.depth.max(pdu.depth.into());
        self.head.state = if alone {
            after
        } else {
            let mut roots: Vec<StateRoot> = open.drain(..).map(|event| event.state_after).collect();
            roots.push(after);
            self.resolve(&roots).await?
        };
        Ok(())
    }

    /// Notes whose membership differs between two current states.
    async fn note_members(&mut self, from: StateRoot, to: StateRoot) -> Result<()> {
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
    async fn redact_target(&mut self, pdu: &Pdu, before: StateRoot) -> Result<()> {
        let Some(target) = &pdu.redacts else { return Ok(()) };
        let Some(target) = self.event_by_id(target).await? else { return Ok(()) };
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
            None => drop(self.redacted.insert(redacted.number, redacted)),
        }
        Ok(())
    }
}

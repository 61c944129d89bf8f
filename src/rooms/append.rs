//! Adding events to a room: the one way in which every event is placed in the graph and the state.
//!
//! An [`Assembly`] takes one or several events, each built upon those before it, and is committed
//! in one batch.

pub(crate) mod accept;
mod build;
mod late;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use event::Pdu;
use ruma::{
    EventId, OwnedEventId, OwnedUserId, UserId,
    events::{StateEventType, room::member::MembershipState},
};
use store::Batch;

use crate::{
    Rooms,
    cache::StateKey,
    error::{Result, RoomsError},
    head::Head,
    lane::Lane,
    new_event::{NewEvent, TxnKey},
    room::Room,
    state::{
        StoredNodes,
        trie::{self, NewNodes, Overlay},
    },
    stored_event::StoredEvent,
    tables::{EventNumber, StateKeyNumber, StateRoot, TRANSACTIONS},
};

impl Rooms {
    /// Makes an event of a local user, and commits it together with the rows in `extra`.
    ///
    /// A transaction ID seen before gives its event, a state event that changes nothing the one
    /// that it would replace:
    /// then nothing is written, `extra` neither.
    pub(crate) async fn append(
        &self,
        lane: &mut Lane,
        sender: &UserId,
        event: NewEvent,
        extra: Batch,
    ) -> Result<OwnedEventId> {
        if let Some(seen) = self.seen_transaction(lane.room(), sender, &event).await? {
            return Ok(seen);
        }
        let mut assembly = Assembly::new(self, Arc::clone(lane.room()), Arc::clone(&lane.head));
        let event_id = assembly.add(sender, event).await?;
        self.commit(lane, assembly, extra).await?;
        Ok(event_id)
    }

    /// The event that a client's transaction has made before.
    pub(crate) async fn seen_transaction(
        &self,
        room: &Room,
        sender: &UserId,
        event: &NewEvent,
    ) -> Result<Option<OwnedEventId>> {
        let Some(txn) = &event.txn else { return Ok(None) };
        let key = txn.row(room, sender, &event.kind, event.target().as_deref());
        let Some(number) = self.store().get(&TRANSACTIONS, &key).await? else { return Ok(None) };
        let event = self.load_event(room, number).await?;
        Ok(Some(event.pdu.event_id.clone()))
    }
}

impl TxnKey {
    /// Its key in [`TRANSACTIONS`]. A redaction's names its target too: the target is in the path
    /// of the endpoint, and a transaction ID counts for one path.
    pub(crate) fn row(
        &self,
        room: &Room,
        sender: &UserId,
        kind: &ruma::events::TimelineEventType,
        target: Option<&EventId>,
    ) -> (crate::RoomNumber, String, String, String, String) {
        let kind = match target {
            Some(target) => format!("{kind}\0{target}"),
            None => kind.to_string(),
        };
        (room.number, sender.as_str().to_owned(), self.device_id.clone(), kind, self.txn_id.clone())
    }
}

/// Events on their way into one room: built, authorised and numbered, but not yet committed.
pub(crate) struct Assembly<'a> {
    pub(crate) rooms: &'a Rooms,
    pub(crate) room: Arc<Room>,
    /// The head in the store; `None` for a room that is being created.
    pub(crate) base: Option<Arc<Head>>,
    /// The head after the events so far.
    pub(crate) head: Head,
    /// The events so far, in order. Their position is pending.
    pub(crate) accepted: Vec<Accepted>,
    /// Events whose own place is not known, to be stored beside the others.
    pub(crate) outliers: BTreeMap<EventNumber, Arc<StoredEvent>>,
    pub(crate) outlier_ids: HashMap<OwnedEventId, EventNumber>,
    /// Stored events that were redacted.
    pub(crate) redacted: BTreeMap<EventNumber, Arc<StoredEvent>>,
    pub(crate) nodes: NewNodes,
    /// What some states, by their roots, have been resolved into.
    pub(crate) resolved: HashMap<Vec<StateRoot>, StateRoot>,
    pub(crate) keys: HashMap<StateKey, StateKeyNumber>,
    pub(crate) names: HashMap<StateKeyNumber, StateKey>,
    /// Whose membership in the current state differs from that in the store.
    pub(crate) members: BTreeMap<OwnedUserId, MemberChange>,
    /// Redactions among these events of what we do not have.
    pub(crate) early_redactions: HashMap<OwnedEventId, EventNumber>,
    /// Whether there are such in the store; `None` until that is asked.
    has_early: Option<bool>,
    /// Further rows about these events.
    pub(crate) rows: Batch,
    /// Whether the state of the room is to be taken for whole, though it was partial until now.
    pub(crate) whole: bool,
}

/// An event that has its place.
pub(crate) struct Accepted {
    pub(crate) event: Arc<StoredEvent>,
    /// The room's current state once the event was accepted.
    pub(crate) room_state: StateRoot,
    /// Whether the event belongs into the timeline.
    pub(crate) shown: bool,
    /// Whether we have to tell the other servers of it though no user of ours sent it.
    pub(crate) relay: bool,
}

/// What a user was in the current state, and what they are: membership and member event.
#[derive(Clone, Debug)]
pub(crate) struct MemberChange {
    pub(crate) from: Option<(MembershipState, EventNumber)>,
    pub(crate) to: Option<(MembershipState, EventNumber)>,
}

impl<'a> Assembly<'a> {
    /// An assembly upon the head of a room that is in the store.
    pub(crate) fn new(rooms: &'a Rooms, room: Arc<Room>, base: Arc<Head>) -> Self {
        let head = Head::clone(&base);
        Self { base: Some(base), ..Self::start(rooms, room, head) }
    }

    /// An assembly for a room that is not there yet.
    pub(crate) fn new_room(rooms: &'a Rooms, room: Arc<Room>) -> Self {
        Self::start(rooms, room, Head::new())
    }

    fn start(rooms: &'a Rooms, room: Arc<Room>, head: Head) -> Self {
        Self {
            rooms,
            room,
            base: None,
            nodes: NewNodes::new(head.next_node),
            resolved: HashMap::new(),
            head,
            accepted: Vec::new(),
            outliers: BTreeMap::new(),
            outlier_ids: HashMap::new(),
            redacted: BTreeMap::new(),
            keys: HashMap::new(),
            names: HashMap::new(),
            members: BTreeMap::new(),
            early_redactions: HashMap::new(),
            has_early: None,
            rows: Batch::new(),
            whole: false,
        }
    }

    pub(crate) fn stored_nodes(&self) -> StoredNodes<'a> {
        StoredNodes { rooms: self.rooms, room: self.room.number }
    }

    /// The number of each state key, where there is one.
    pub(crate) async fn key_numbers(
        &self,
        keys: &[StateKey],
    ) -> Result<Vec<Option<StateKeyNumber>>> {
        let new: Vec<_> = keys.iter().map(|key| self.keys.get(key).copied()).collect();
        if self.base.is_none() || new.iter().all(Option::is_some) {
            return Ok(new);
        }
        let stored = self.rooms.state_key_numbers(&self.room, keys).await?;
        Ok(new.into_iter().zip(stored).map(|(new, stored)| new.or(stored)).collect())
    }

    /// The events at some keys of a state.
    pub(crate) async fn find(
        &self,
        root: StateRoot,
        keys: &[StateKey],
    ) -> Result<Vec<Option<EventNumber>>> {
        let numbers = self.key_numbers(keys).await?;
        let known: Vec<_> = numbers.iter().flatten().copied().collect();
        let stored = self.stored_nodes();
        let nodes = Overlay { base: &stored, new: &self.nodes };
        let mut found = trie::find(&nodes, root, &known).await?.into_iter();
        Ok(numbers.into_iter().map(|number| number.and_then(|_| found.next().flatten())).collect())
    }

    /// The event at one key of a state.
    pub(crate) async fn state_event(
        &self,
        root: StateRoot,
        kind: StateEventType,
        key: &str,
    ) -> Result<Option<Arc<StoredEvent>>> {
        let found = self.find(root, &[(kind, key.to_owned())]).await?;
        match found.into_iter().next().flatten() {
            Some(number) => self.event(number).await.map(Some),
            None => Ok(None),
        }
    }

    /// An event by number: one of ours, or a stored one.
    pub(crate) async fn event(&self, number: EventNumber) -> Result<Arc<StoredEvent>> {
        if let Some(redacted) = self.redacted.get(&number) {
            return Ok(Arc::clone(redacted));
        }
        let ours = self.accepted.iter().rev().find(|accepted| accepted.event.number == number);
        match ours {
            Some(accepted) => Ok(Arc::clone(&accepted.event)),
            None if let Some(outlier) = self.outliers.get(&number) => Ok(Arc::clone(outlier)),
            None if self.base.is_none() => Err(RoomsError::NotFound { what: "event" }),
            None => self.rooms.load_event(&self.room, number).await,
        }
    }

    /// Events by number.
    pub(crate) async fn events(&self, numbers: &[EventNumber]) -> Result<Vec<Arc<StoredEvent>>> {
        let mut events = Vec::with_capacity(numbers.len());
        for number in numbers {
            events.push(self.event(*number).await?);
        }
        Ok(events)
    }

    /// An event by ID, if it is among those to be stored.
    pub(crate) fn own_event(&self, event_id: &EventId) -> Option<&Arc<StoredEvent>> {
        let accepted =
            self.accepted.iter().find(|accepted| accepted.event.pdu.event_id == event_id);
        match accepted {
            Some(accepted) => Some(&accepted.event),
            None => self.outlier_ids.get(event_id).and_then(|number| self.outliers.get(number)),
        }
    }

    /// An event by ID: one of ours, or a stored one.
    pub(crate) async fn event_by_id(&self, event_id: &EventId) -> Result<Option<Arc<StoredEvent>>> {
        if let Some(event) = self.own_event(event_id) {
            return Ok(Some(Arc::clone(event)));
        }
        if self.base.is_none() {
            return Ok(None);
        }
        match self.rooms.event_number(&self.room, event_id).await? {
            Some(number) => self.event(number).await.map(Some),
            None => Ok(None),
        }
    }

    /// The state events that decide over an event, from a state; and the create event in any case.
    pub(crate) async fn auth_state(
        &self,
        root: StateRoot,
        mut keys: Vec<StateKey>,
    ) -> Result<HashMap<StateKey, Arc<Pdu>>> {
        let create = (StateEventType::RoomCreate, String::new());
        if !keys.contains(&create) {
            keys.push(create);
        }
        let found = self.find(root, &keys).await?;
        let mut state = HashMap::with_capacity(keys.len());
        for (key, number) in keys.into_iter().zip(found) {
            if let Some(number) = number {
                state.insert(key, Arc::clone(&self.event(number).await?.pdu));
            }
        }
        Ok(state)
    }
}

//! Outliers: events that others name, in a state or an auth chain, and whose own place in the graph
//! we do not know.
//!
//! They are authorised by their auth events alone and shown to nobody. Each has a greater number
//! than its auth events, as every event of a room has.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use event::{Pdu, VerifiedPdu};
use ruma::{
    EventId, OwnedEventId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::RoomVersionRules,
};
use store::Position;

use crate::{
    append::Assembly,
    cache::StateKey,
    error::{Result, RoomsError},
    room::Room,
    state::trie::Changes,
    stored_event::StoredEvent,
    tables::{EventNumber, StateKeyNumber, StateRoot},
};

/// Most events that one answer of another server may bring in: states and auth chains of rooms that
/// are larger cannot be taken part in.
pub(crate) const IMPORT_LEN_MAX: usize = 500_000;

/// What a state event says about whom, and its ID.
pub(crate) type Entry = (StateKey, OwnedEventId);

impl Assembly<'_> {
    /// Stores the events of a state and of its auth chain, as far as we lack them, as outliers, and
    /// gives the root of that state.
    ///
    /// What its auth events do not allow is flagged as rejected and left out of the state. What
    /// names auth events that nobody has is left out altogether: it may turn out to be allowed.
    ///
    /// # Errors
    /// [`RoomsError::Invalid`] when an event is of another room, or the state has two events for a
    /// key or one that is no state event.
    pub(crate) async fn import(
        &mut self,
        state: Vec<VerifiedPdu>,
        auth_chain: Vec<VerifiedPdu>,
    ) -> Result<StateRoot> {
        let mut entries = Vec::with_capacity(state.len());
        for event in &state {
            let Some((kind, key)) = event.pdu().state_entry() else {
                return Err(RoomsError::invalid("a state has an event that is no state event"));
            };
            entries.push(((kind, key.to_owned()), event.pdu().event_id.clone()));
        }
        self.import_outliers(state.into_iter().chain(auth_chain)).await?;
        self.state_of(entries).await
    }

    /// Stores events that we lack as outliers, each after its auth events.
    pub(crate) async fn import_outliers(
        &mut self,
        events: impl IntoIterator<Item = VerifiedPdu>,
    ) -> Result<()> {
        let mut fresh: HashMap<OwnedEventId, Pdu> = HashMap::new();
        let mut ids = Vec::new();
        for event in events {
            let pdu = event.into_pdu();
            if pdu.room_id != self.room.room_id {
                return Err(RoomsError::invalid(format!("{} is of another room", pdu.event_id)));
            }
            if ids.len() >= IMPORT_LEN_MAX {
                return Err(RoomsError::invalid("a state is too large"));
            }
            if !fresh.contains_key(&pdu.event_id) {
                ids.push(pdu.event_id.clone());
                fresh.insert(pdu.event_id.clone(), pdu);
            }
        }
        let known = self.known(&ids).await?;
        ids.retain(|id| !known.contains_key(id));
        fresh.retain(|id, _| !known.contains_key(id));
        if ids.is_empty() {
            return Ok(());
        }
        let needed: HashSet<OwnedEventId> = fresh
            .values()
            .flat_map(|pdu| deciding(pdu, &self.room))
            .filter(|id| !fresh.contains_key(id))
            .collect();
        let needed: Vec<OwnedEventId> = needed.into_iter().collect();
        let known = self.known(&needed).await?;
        let room = Arc::clone(&self.room);
        // Ten thousand signatures were checked elsewhere; ten thousand authorisations are here.
        let authorising =
            tokio::task::spawn_blocking(move || authorised(&ids, fresh, &known, &room));
        let mut added = Vec::new();
        for pdu in authorising.await.map_err(|_| RoomsError::Stopping)? {
            added.push(pdu.event_id.clone());
            self.add_outlier(pdu);
        }
        if self.has_early_redactions().await? {
            for event_id in added {
                self.redact_late(&event_id).await?;
            }
        }
        Ok(())
    }

    pub(crate) fn add_outlier(&mut self, pdu: Arc<Pdu>) {
        let number = self.head.take_event_number();
        self.outlier_ids.insert(pdu.event_id.clone(), number);
        let rejected = pdu.rejected;
        let event = StoredEvent {
            pdu,
            number,
            position: Position::ZERO,
            index: 0,
            state_before: StateRoot::EMPTY,
            state_after: StateRoot::EMPTY,
            redacted_by: None,
            txn: None,
            prev_state: None,
            rejected,
            soft_failed: false,
        };
        self.outliers.insert(number, Arc::new(event));
    }

    /// The state that some events make, of which we have all that count.
    pub(crate) async fn state_of(&mut self, entries: Vec<Entry>) -> Result<StateRoot> {
        let ids: Vec<OwnedEventId> = entries.iter().map(|(_, id)| id.clone()).collect();
        let known = self.known(&ids).await?;
        let mut keys = Vec::with_capacity(entries.len());
        let mut events = Vec::with_capacity(entries.len());
        let mut seen = HashSet::with_capacity(entries.len());
        for (key, id) in entries {
            let Some(event) = known.get(&id) else { continue };
            if event.rejected {
                continue;
            }
            if event.pdu.state_entry() != Some((key.0.clone(), &key.1)) {
                return Err(RoomsError::invalid(format!("{id} is not what the state says")));
            }
            if !seen.insert(key.clone()) {
                return Err(RoomsError::invalid(format!("a state has two events for {}", key.0)));
            }
            keys.push(key);
            events.push(event.number);
        }
        let numbers = self.take_key_numbers(keys).await?;
        let base = self.head.state;
        let mut changes = Changes::new();
        let mut old = self.whole(base).await?;
        for (key, event) in numbers.into_iter().zip(events) {
            if old.remove(&key) != Some(event) {
                changes.insert(key, Some(event));
            }
        }
        changes.extend(old.into_keys().map(|key| (key, None)));
        self.changed_state(base, &changes).await
    }

    /// The numbers of some state keys, new ones for those that have none.
    async fn take_key_numbers(&mut self, keys: Vec<StateKey>) -> Result<Vec<StateKeyNumber>> {
        let known = self.key_numbers(&keys).await?;
        Ok(keys.into_iter().zip(known).map(|(key, known)| self.number_key(key, known)).collect())
    }

    /// Those of some events that we have, stored or on their way.
    pub(crate) async fn known(
        &self,
        ids: &[OwnedEventId],
    ) -> Result<HashMap<OwnedEventId, Arc<StoredEvent>>> {
        let mut known = HashMap::with_capacity(ids.len());
        let mut stored: Vec<OwnedEventId> = Vec::new();
        for id in ids {
            match self.own_event(id) {
                Some(event) => drop(known.insert(id.clone(), Arc::clone(event))),
                None => stored.push(id.clone()),
            }
        }
        if self.base.is_none() || stored.is_empty() {
            return Ok(known);
        }
        let numbers = self.rooms.event_numbers(&self.room, &stored).await?;
        let numbers: Vec<EventNumber> = numbers.into_iter().flatten().collect();
        let mut others = Vec::with_capacity(numbers.len());
        for number in numbers {
            match self.redacted.get(&number) {
                Some(event) => drop(known.insert(event.pdu.event_id.clone(), Arc::clone(event))),
                None => others.push(number),
            }
        }
        for event in self.rooms.events(&self.room, &others).await? {
            known.insert(event.pdu.event_id.clone(), event);
        }
        Ok(known)
    }
}

/// The events that decide over another: those that it lists, and from room version 12 on the create
/// event, which the room's ID names.
pub(crate) fn deciding<'a>(
    pdu: &'a Pdu,
    room: &Room,
) -> impl Iterator<Item = OwnedEventId> + use<'a> {
    let create = if pdu.kind == TimelineEventType::RoomCreate { None } else { room.create_id() };
    pdu.auth_events.iter().cloned().chain(create)
}

impl Room {
    /// The create event that the room's ID names, from room version 12 on.
    pub(crate) fn create_id(&self) -> Option<OwnedEventId> {
        if !self.rules.authorization.room_create_event_id_as_room_id {
            return None;
        }
        let hash = self.room_id.as_str().strip_prefix('!')?;
        EventId::parse(format!("${hash}")).ok()
    }
}

/// Orders events so that each comes after those that decide over it, and flags what these refuse.
/// Leaves out what depends on an event that nobody has, or on itself.
fn authorised(
    ids: &[OwnedEventId],
    mut fresh: HashMap<OwnedEventId, Pdu>,
    known: &HashMap<OwnedEventId, Arc<StoredEvent>>,
    room: &Room,
) -> Vec<Arc<Pdu>> {
    let mut waits_for: HashMap<OwnedEventId, usize> = HashMap::with_capacity(ids.len());
    let mut followers: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut ready = VecDeque::new();
    for id in ids {
        let Some(pdu) = fresh.get(id) else { continue };
        let missing: HashSet<_> =
            deciding(pdu, room).filter(|needed| !known.contains_key(needed)).collect();
        if missing.is_empty() {
            ready.push_back(id.clone());
        }
        waits_for.insert(id.clone(), missing.len());
        for needed in missing {
            followers.entry(needed).or_default().push(id.clone());
        }
    }
    let mut done: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::with_capacity(ids.len());
    let mut ordered = Vec::with_capacity(ids.len());
    while let Some(id) = ready.pop_front() {
        let Some(mut pdu) = fresh.remove(&id) else { continue };
        let decides = |id: &EventId| {
            done.get(id).cloned().or_else(|| known.get(id).map(|event| Arc::clone(&event.pdu)))
        };
        if let Err(error) = check_by_auth_events(&pdu, room, decides) {
            tracing::debug!(event.id = %id, %error, "an outlier is rejected");
            pdu.rejected = true;
        }
        let pdu = Arc::new(pdu);
        ordered.push(Arc::clone(&pdu));
        done.insert(id.clone(), pdu);
        for follower in followers.remove(&id).unwrap_or_default() {
            let Some(left) = waits_for.get_mut(&follower) else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 {
                ready.push_back(follower);
            }
        }
    }
    if !fresh.is_empty() {
        tracing::info!(
            room.id = %room.room_id,
            count = fresh.len(),
            "events whose auth events nobody has are left out"
        );
    }
    ordered
}

/// Checks an event against its auth events: the rules about their choice, and the rules about the
/// state that they make.
///
/// # Errors
/// [`event::EventError::Forbidden`] with the rule that it breaks.
pub(crate) fn check_by_auth_events(
    pdu: &Pdu,
    room: &Room,
    decides: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<(), event::EventError> {
    let rules: &RoomVersionRules = &room.rules;
    event::authorise_by_events(pdu, rules, &decides)?;
    let mut state: HashMap<StateKey, Arc<Pdu>> = HashMap::new();
    for auth in deciding(pdu, room).filter_map(|id| decides(&id)) {
        if let Some((kind, key)) = auth.state_entry() {
            state.insert((kind, key.to_owned()), Arc::clone(&auth));
        }
    }
    let by_key =
        |kind: &StateEventType, key: &str| state.get(&(kind.clone(), key.to_owned())).cloned();
    event::authorise_by_state(pdu, rules, by_key)
}

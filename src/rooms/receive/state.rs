//! The state of a room at a gap, as another server tells it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use event::VerifiedPdu;
use futures_util::{StreamExt, stream};
use ruma::{EventId, OwnedEventId, ServerName, events::StateEventType};

use crate::{
    error::Result,
    outliers::{Entry, IMPORT_LEN_MAX},
    receive::{
        fetch::{Missed, Receiving},
        place::{FetchedState, Supply},
    },
    remote::{RemoteError, StateIds},
};

/// Most events of a state that are asked for one by one; beyond that the whole state is.
const SINGLE_STATE_MAX: usize = 60;

/// How many events are asked for at the same time.
const AT_ONCE: usize = 8;

impl Receiving<'_> {
    /// Fetches the state after an event whose place is not known: the first answer that makes sense
    /// counts.
    pub(super) async fn state_after(
        &mut self,
        event_id: &OwnedEventId,
        supply: &mut Supply,
    ) -> Result<Result<(), Missed>> {
        if let Some(state) = self.states.get(event_id) {
            supply.states.insert(event_id.clone(), Arc::clone(state));
            return Ok(Ok(()));
        }
        if let Some(state) = self.after_create(event_id).await? {
            supply.states.insert(event_id.clone(), Arc::new(state));
            return Ok(Ok(()));
        }
        let mut told = Missed("no server is known that could help".to_owned());
        let origin = self.origin.to_owned();
        for server in self.servers(&origin).await? {
            match self.state_from(&server, event_id, supply).await? {
                Ok(state) => {
                    let state = Arc::new(state);
                    self.states.insert(event_id.clone(), Arc::clone(&state));
                    supply.states.insert(event_id.clone(), state);
                    return Ok(Ok(()));
                }
                Err(missed) => told = missed,
            }
        }
        let Missed(why) = told;
        Ok(Err(Missed(format!("the state after {event_id} is not known: {why}"))))
    }

    /// The state after the create event is known without asking.
    async fn after_create(&self, event_id: &EventId) -> Result<Option<FetchedState>> {
        let event = self.rooms.event_by_id(&self.room, event_id).await?;
        let Some(event) = event.filter(|event| event.pdu.prev_events.is_empty()) else {
            return Ok(None);
        };
        Ok(event.pdu.state_entry().map(|(kind, key)| FetchedState {
            before: Vec::new(),
            sets: Some(((kind, key.to_owned()), event_id.to_owned())),
        }))
    }

    /// The state after an event as one server tells it.
    async fn state_from(
        &mut self,
        server: &ServerName,
        event_id: &EventId,
        supply: &mut Supply,
    ) -> Result<Result<FetchedState, Missed>> {
        let (remote, room) = (self.remote(), Arc::clone(&self.room));
        let mut pool: HashMap<OwnedEventId, VerifiedPdu> = HashMap::new();
        if self.rooms.event_number(&self.room, event_id).await?.is_none() {
            match self.ask(remote.event(server, &room, event_id)).await {
                Ok(event) if event.pdu().event_id == event_id => self.pool(&mut pool, [event]),
                Ok(_) => return Ok(Err(Missed(format!("{server} gave another event")))),
                Err(missed) => return Ok(Err(missed)),
            }
        }
        let before = match self.state_before(server, event_id, &mut pool).await? {
            Ok(before) => before,
            Err(missed) => return Ok(Err(missed)),
        };
        let own = self.entries(&[event_id.to_owned()], &pool).await?;
        let sets = own.ok().and_then(|entries| entries.into_iter().next());
        supply.outliers.extend(pool.into_values());
        Ok(Ok(FetchedState { before, sets }))
    }

    /// The state before an event as one server tells it; what we lack of it comes into the pool.
    pub(crate) async fn state_before(
        &mut self,
        server: &ServerName,
        event_id: &EventId,
        pool: &mut HashMap<OwnedEventId, VerifiedPdu>,
    ) -> Result<Result<Vec<Entry>, Missed>> {
        let (remote, room) = (self.remote(), Arc::clone(&self.room));
        let ids = match self.ask(remote.state_ids(server, &room, event_id)).await {
            Ok(ids) => ids,
            Err(missed) => return Ok(Err(missed)),
        };
        let length = ids.state.len().saturating_add(ids.auth_chain.len());
        let held: usize = self.states.values().map(|state| state.before.len()).sum();
        if length.saturating_add(held) > IMPORT_LEN_MAX {
            return Ok(Err(Missed(format!("{server} tells of a state that is too large"))));
        }
        if let Err(missed) = self.fetch_state(server, event_id, &ids, pool).await? {
            return Ok(Err(missed));
        }
        match self.entries(&ids.state, pool).await? {
            Ok(before) => Ok(Ok(before)),
            Err(why) => Ok(Err(Missed(format!("{server} gave a bad state: {why}")))),
        }
    }

    /// Fetches what we lack of a state: one by one where it is little. What does not verify, or is
    /// not to be found where the state is told of, stays out; for anything else that is missing the
    /// state must not be believed, as the room would never get it later.
    async fn fetch_state(
        &mut self,
        server: &ServerName,
        event_id: &EventId,
        ids: &StateIds,
        pool: &mut HashMap<OwnedEventId, VerifiedPdu>,
    ) -> Result<Result<(), Missed>> {
        let mut all: Vec<OwnedEventId> = ids.state.iter().chain(&ids.auth_chain).cloned().collect();
        all.sort_unstable();
        all.dedup();
        let stored = self.rooms.event_numbers(&self.room, &all).await?;
        let mut unknown: Vec<OwnedEventId> = all
            .into_iter()
            .zip(stored)
            .filter(|(id, number)| number.is_none() && !pool.contains_key(id))
            .map(|(id, _)| id)
            .collect();
        let (remote, room) = (self.remote(), Arc::clone(&self.room));
        if unknown.len() > SINGLE_STATE_MAX {
            match self.ask(remote.state(server, &room, event_id)).await {
                Ok(state) => self.pool(pool, state.state.into_iter().chain(state.auth_chain)),
                Err(missed) => {
                    // It has the state, as it has told its IDs: it may give it later.
                    self.unreached = true;
                    return Ok(Err(missed));
                }
            }
            unknown.retain(|id| !pool.contains_key(id));
            // What is not in the answer did not verify. Some of it is tried again nevertheless.
            let state: HashSet<&OwnedEventId> = ids.state.iter().collect();
            unknown.sort_by_key(|id| !state.contains(id));
            unknown.truncate(SINGLE_STATE_MAX);
        }
        if let Err(missed) = self.charge(unknown.len()) {
            return Ok(Err(missed));
        }
        let mut answers = stream::iter(unknown)
            .map(|id| {
                let (remote, room) = (&remote, &room);
                async move { remote.event(server, room, &id).await }
            })
            .buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(event) => self.pool(pool, [event]),
                // One event that is not to be had must not hide the others.
                Err(RemoteError::BadAnswer { .. } | RemoteError::Refused { status: 404, .. }) => {}
                Err(error) => return Ok(Err(self.note(&error))),
            }
        }
        Ok(Ok(()))
    }

    /// What state events say about whom, as far as they are there. An answer without a create
    /// event, or with two events for a key, makes no sense.
    async fn entries(
        &self,
        ids: &[OwnedEventId],
        pool: &HashMap<OwnedEventId, VerifiedPdu>,
    ) -> Result<Result<Vec<Entry>, String>> {
        let numbers = self.rooms.event_numbers(&self.room, ids).await?;
        let stored: Vec<_> = numbers.iter().flatten().copied().collect();
        let mut stored = self.rooms.events(&self.room, &stored).await?.into_iter();
        let mut entries = Vec::with_capacity(ids.len());
        let mut seen = HashSet::with_capacity(ids.len());
        for (id, number) in ids.iter().zip(numbers) {
            let event = if number.is_some() { stored.next() } else { None };
            let entry = match (&event, pool.get(id)) {
                (Some(event), _) => event.pdu.state_entry(),
                (None, Some(event)) => event.pdu().state_entry(),
                (None, None) => continue,
            };
            let Some((kind, key)) = entry.map(|(kind, key)| (kind, key.to_owned())) else {
                return Ok(Err(format!("{id} is no state event")));
            };
            if !seen.insert((kind.clone(), key.clone())) {
                return Ok(Err(format!("there are two events for {kind}")));
            }
            entries.push(((kind, key), id.clone()));
        }
        let create = (StateEventType::RoomCreate, String::new());
        if ids.len() > 1 && !seen.contains(&create) {
            return Ok(Err("there is no create event".to_owned()));
        }
        Ok(Ok(entries))
    }
}

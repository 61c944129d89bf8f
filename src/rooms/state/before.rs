//! The state where branches of a room's graph meet.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use event::{Pdu, StateMap};
use ruma::{OwnedEventId, events::StateEventType};

use crate::{
    append::Assembly,
    cache::StateKey,
    error::{Result, RoomsError},
    state::trie::{self, Changes, Overlay},
    tables::{EventNumber, StateKeyNumber, StateRoot},
};

impl Assembly<'_> {
    /// The state that several states resolve into.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/rooms/v12/#state-resolution)
    pub(crate) async fn resolve(&mut self, roots: &[StateRoot]) -> Result<StateRoot> {
        let distinct: BTreeSet<StateRoot> = roots.iter().copied().collect();
        let mut roots = distinct.into_iter();
        let Some(first) = roots.next() else { return Ok(StateRoot::EMPTY) };
        let others: Vec<StateRoot> = roots.collect();
        if others.is_empty() {
            return Ok(first);
        }
        let mut states = vec![self.whole(first).await?];
        for root in others {
            states.push(self.whole(root).await?);
        }
        if states.iter().all(|state| Some(state) == states.first()) {
            return Ok(first);
        }
        let changes = self.resolve_states(&states).await?;
        self.changed_state(first, &changes).await
    }

    async fn whole(&self, root: StateRoot) -> Result<BTreeMap<StateKeyNumber, EventNumber>> {
        let stored = self.stored_nodes();
        let nodes = Overlay { base: &stored, new: &self.nodes };
        Ok(trie::walk(&nodes, root).await?.into_iter().collect())
    }

    /// How the resolved state differs from the first of the states.
    async fn resolve_states(
        &self,
        states: &[BTreeMap<StateKeyNumber, EventNumber>],
    ) -> Result<Changes> {
        let keys: BTreeSet<StateKeyNumber> =
            states.iter().flat_map(|state| state.keys().copied()).collect();
        let numbers: BTreeSet<EventNumber> =
            states.iter().flat_map(|state| state.values().copied()).collect();
        let names = self.names_of(&keys).await?;
        let mut ids: HashMap<EventNumber, OwnedEventId> = HashMap::new();
        let mut events: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
        for number in numbers {
            let event = self.event(number).await?;
            ids.insert(number, event.pdu.event_id.clone());
            events.insert(event.pdu.event_id.clone(), Arc::clone(&event.pdu));
        }
        self.load_auth_chains(&mut events).await?;
        let mut maps: Vec<StateMap<OwnedEventId>> = Vec::with_capacity(states.len());
        for state in states {
            let entry = |(key, event): (&StateKeyNumber, &EventNumber)| {
                Some((names.get(key)?.clone(), ids.get(event)?.clone()))
            };
            maps.push(state.iter().filter_map(entry).collect());
        }
        let rules = self.room.rules.clone();
        // Resolution costs as much as the room is large, so that it must not block what else runs
        // here.
        let resolving = tokio::task::spawn_blocking(move || {
            event::resolve(&rules, &maps, |id| events.get(id).cloned())
        });
        let resolved = resolving.await.map_err(|_| RoomsError::Stopping)??;
        let numbers: HashMap<&OwnedEventId, EventNumber> =
            ids.iter().map(|(number, id)| (id, *number)).collect();
        let first = states.first();
        let mut changes = Changes::new();
        // An event of an auth chain may bring a key back that none of the states has.
        let known: BTreeSet<&StateKey> = names.values().collect();
        let others: Vec<StateKey> =
            resolved.keys().filter(|key| !known.contains(key)).cloned().collect();
        let found = self.key_numbers(&others).await?;
        let mut names = names.clone();
        names.extend(found.into_iter().zip(others).filter_map(|(n, key)| Some((n?, key))));
        for (number, name) in &names {
            let event = match resolved.get(name) {
                Some(id) => Some(self.resolved_number(&numbers, id).await?),
                None => None,
            };
            if first.and_then(|state| state.get(number)).copied() != event {
                changes.insert(*number, event);
            }
        }
        Ok(changes)
    }

    /// The number of an event that came out of resolution. It may be of an auth chain, and in none
    /// of the states.
    async fn resolved_number(
        &self,
        numbers: &HashMap<&OwnedEventId, EventNumber>,
        event_id: &OwnedEventId,
    ) -> Result<EventNumber> {
        if let Some(number) = numbers.get(event_id) {
            return Ok(*number);
        }
        match self.event_by_id(event_id).await? {
            Some(event) => Ok(event.number),
            None => Err(RoomsError::MissingEvent { event: event_id.clone() }),
        }
    }

    async fn names_of(
        &self,
        keys: &BTreeSet<StateKeyNumber>,
    ) -> Result<BTreeMap<StateKeyNumber, StateKey>> {
        let mut names: BTreeMap<StateKeyNumber, (StateEventType, String)> = BTreeMap::new();
        let mut stored = Vec::new();
        for key in keys {
            match self.names.get(key) {
                Some(name) => drop(names.insert(*key, name.clone())),
                None => stored.push(*key),
            }
        }
        let found = self.rooms.state_key_names(&self.room, &stored).await?;
        names.extend(stored.into_iter().zip(found.iter().map(|name| StateKey::clone(name))));
        Ok(names)
    }
}

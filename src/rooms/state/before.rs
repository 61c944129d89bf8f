//! The state where branches of a room's graph meet.
//!
//! What it costs depends on where the states differ and what decides over that, not on how large
//! they are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use event::{Conflict, Pdu, StateMap};
use ruma::{
    OwnedEventId,
    events::{StateEventType, TimelineEventType},
};

use crate::{
    append::Assembly,
    auth_chain::AUTH_CHAIN_LEN_MAX,
    cache::StateKey,
    error::{Result, RoomsError},
    outliers::deciding,
    state::{
        conflict::Differences,
        trie::{self, Changes, Overlay},
    },
    tables::{EventNumber, StateKeyNumber, StateRoot},
};

/// Some states, cut down to what matters where they differ.
#[derive(Default)]
struct Question {
    /// Whether each of the states has an event at a key, and which.
    states: Vec<StateMap<OwnedEventId>>,
    conflict: Conflict,
    /// Every event that may be looked at.
    events: HashMap<OwnedEventId, Arc<Pdu>>,
    numbers: HashMap<OwnedEventId, EventNumber>,
    /// The keys that all states agree upon, as far as they matter.
    agreed: BTreeSet<StateKeyNumber>,
}

impl Assembly<'_> {
    /// The state that several states resolve into.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/rooms/v12/#state-resolution)
    pub(crate) async fn resolve(&mut self, roots: &[StateRoot]) -> Result<StateRoot> {
        let distinct: BTreeSet<StateRoot> = roots.iter().copied().collect();
        let roots: Vec<StateRoot> = distinct.into_iter().collect();
        let Some(first) = roots.first().copied() else { return Ok(StateRoot::EMPTY) };
        if roots.len() == 1 {
            return Ok(first);
        }
        let cache = &self.rooms.inner.caches.resolved;
        let key = (self.room.number, roots.clone());
        if let Some(root) = self.resolved.get(&roots).copied().or_else(|| cache.get(&key)) {
            return Ok(root);
        }
        let differences = self.differences(&roots).await?;
        let root = if differences.is_empty() {
            first
        } else {
            let changes = self.resolve_differences(first, roots.len(), &differences).await?;
            self.changed_state(first, &changes).await?
        };
        self.resolved.insert(roots, root);
        Ok(root)
    }

    /// All entries of a state.
    pub(crate) async fn whole(
        &self,
        root: StateRoot,
    ) -> Result<BTreeMap<StateKeyNumber, EventNumber>> {
        let stored = self.stored_nodes();
        let nodes = Overlay { base: &stored, new: &self.nodes };
        Ok(trie::walk(&nodes, root).await?.into_iter().collect())
    }

    /// How the resolved state differs from the first of the states.
    async fn resolve_differences(
        &mut self,
        first: StateRoot,
        count: usize,
        differences: &Differences,
    ) -> Result<Changes> {
        let question = self.question(first, count, differences).await?;
        let Question { states, conflict, events, mut numbers, agreed } = question;
        let rules = self.room.rules.clone();
        // Much in conflict takes long, and must not block what else runs here.
        let resolving = tokio::task::spawn_blocking(move || {
            event::resolve_conflict(&rules, &states, conflict, |id| events.get(id).cloned())
        });
        let mut resolved = resolving.await.map_err(|_| RoomsError::Stopping)??;
        let keys: BTreeSet<StateKeyNumber> = differences.keys().copied().collect();
        let names = self.names_of(&keys).await?;
        let mut changes = Changes::new();
        for (key, values) in differences {
            let event = match names.get(key).and_then(|name| resolved.remove(name)) {
                Some(id) => Some(self.resolved_number(&mut numbers, &id).await?),
                None => None,
            };
            if values.first().copied().flatten() != event {
                changes.insert(*key, event);
            }
        }
        // An event of an auth chain may bring a key back that none of the states has.
        let rest: Vec<(StateKey, OwnedEventId)> = resolved.into_iter().collect();
        let keys: Vec<StateKey> = rest.iter().map(|(name, _)| name.clone()).collect();
        let found = self.key_numbers(&keys).await?;
        for ((name, id), known) in rest.into_iter().zip(found) {
            let key = self.number_key(name, known);
            if !agreed.contains(&key) {
                let event = self.resolved_number(&mut numbers, &id).await?;
                changes.insert(key, Some(event));
            }
        }
        Ok(changes)
    }

    /// What state resolution has to look at.
    async fn question(
        &self,
        first: StateRoot,
        count: usize,
        differences: &Differences,
    ) -> Result<Question> {
        let mut question = Question { states: vec![StateMap::new(); count], ..Question::default() };
        let difference = self.auth_difference(first, count, differences).await?;
        let subgraph = if self.uses_subgraph() {
            self.conflicted_subgraph(differences).await?
        } else {
            BTreeSet::new()
        };
        let conflicted = differences.values().flatten().flatten().copied();
        let all: BTreeSet<EventNumber> =
            conflicted.chain(difference.iter().copied()).chain(subgraph.iter().copied()).collect();
        let mut wanted: BTreeSet<StateKey> = BTreeSet::new();
        for number in &all {
            let pdu = self.ask_about(&mut question, *number).await?;
            wanted.extend(self.keys_around(&pdu));
        }
        self.agreed(&mut question, first, differences, wanted).await?;
        let keys = differences.keys().copied().collect();
        let names = self.names_of(&keys).await?;
        let ids: HashMap<EventNumber, OwnedEventId> =
            question.numbers.iter().map(|(id, number)| (*number, id.clone())).collect();
        for (key, values) in differences {
            let Some(name) = names.get(key) else { continue };
            for (state, value) in question.states.iter_mut().zip(values) {
                if let Some(id) = value.and_then(|number| ids.get(&number)) {
                    state.insert(name.clone(), id.clone());
                }
            }
        }
        let id = |number: &EventNumber| ids.get(number).cloned();
        question.conflict.difference = difference.iter().filter_map(id).collect();
        question.conflict.subgraph = subgraph.iter().filter_map(id).collect();
        self.load_around(&mut question.events).await?;
        Ok(question)
    }

    /// The keys that decide over an event, and its own.
    fn keys_around(&self, pdu: &Pdu) -> Vec<StateKey> {
        let key = pdu.state_key.as_deref();
        let rules = &self.room.rules;
        // Where that cannot be told, the event is refused whatever the state says.
        let mut keys =
            event::auth_types(&pdu.kind, &pdu.sender, key, &pdu.content, rules).unwrap_or_default();
        keys.push((StateEventType::RoomCreate, String::new()));
        keys.extend(pdu.state_entry().map(|(kind, key)| (kind, key.to_owned())));
        keys
    }

    /// Adds to all states what they agree upon at some keys.
    async fn agreed(
        &self,
        question: &mut Question,
        first: StateRoot,
        differences: &Differences,
        wanted: BTreeSet<StateKey>,
    ) -> Result<()> {
        let wanted: Vec<StateKey> = wanted.into_iter().collect();
        let keys = self.key_numbers(&wanted).await?;
        let found = self.find(first, &wanted).await?;
        for ((name, key), event) in wanted.into_iter().zip(keys).zip(found) {
            let (Some(key), Some(event)) = (key, event) else { continue };
            if differences.contains_key(&key) {
                continue;
            }
            question.agreed.insert(key);
            let id = self.ask_about(question, event).await?.event_id.clone();
            for state in &mut question.states {
                state.insert(name.clone(), id.clone());
            }
        }
        Ok(())
    }

    async fn ask_about(&self, question: &mut Question, number: EventNumber) -> Result<Arc<Pdu>> {
        let event = self.event(number).await?;
        let pdu = Arc::clone(&event.pdu);
        question.numbers.insert(pdu.event_id.clone(), number);
        question.events.insert(pdu.event_id.clone(), Arc::clone(&pdu));
        Ok(pdu)
    }

    /// Adds the events that decide over those in a map, and the chains of power levels below.
    async fn load_around(&self, events: &mut HashMap<OwnedEventId, Arc<Pdu>>) -> Result<()> {
        let mut work: Vec<OwnedEventId> =
            events.values().flat_map(|pdu| deciding(pdu, &self.room)).collect();
        while let Some(id) = work.pop() {
            if events.contains_key(&id) {
                continue;
            }
            if events.len() >= AUTH_CHAIN_LEN_MAX {
                return Err(RoomsError::invalid("an auth chain is too long"));
            }
            let event = self.event_by_id(&id).await?;
            let event = event.ok_or_else(|| RoomsError::MissingEvent { event: id.clone() })?;
            if event.pdu.kind == TimelineEventType::RoomPowerLevels {
                work.extend(deciding(&event.pdu, &self.room));
            }
            events.insert(id, Arc::clone(&event.pdu));
        }
        Ok(())
    }

    /// The number of an event that came out of resolution.
    async fn resolved_number(
        &self,
        numbers: &mut HashMap<OwnedEventId, EventNumber>,
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

    /// Event type and state key of some numbers.
    pub(crate) async fn names_of(
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

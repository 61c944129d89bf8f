//! The state where branches of a room's graph meet, resolved once more.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use event::{Pdu, StateMap};
use ruma::{OwnedEventId, events::StateEventType};

use super::room::RoomCheck;
use crate::{
    error::{Result, RoomsError},
    state::trie,
    tables::{EventNumber, STATE_KEY_NAMES, STATE_KEYS, StateKeyNumber, StateRoot},
};

/// A whole state.
type State = BTreeMap<StateKeyNumber, EventNumber>;

impl RoomCheck<'_, '_> {
    /// Whether a state is what some others resolve into.
    ///
    /// Also true where that can no longer be told, since one of their events has lost its content.
    pub(super) async fn is_resolved(
        &mut self,
        state: StateRoot,
        from: &BTreeSet<StateRoot>,
    ) -> Result<bool> {
        let mut roots = from.iter();
        let expected = match (roots.next(), roots.next()) {
            (None, _) => return Ok(state == StateRoot::EMPTY),
            (Some(only), None) => {
                return Ok(trie::diff(&self.nodes(), *only, state).await?.is_empty());
            }
            _ => self.resolve(from).await?,
        };
        let found: State = trie::walk(&self.nodes(), state).await?.into_iter().collect();
        Ok(expected.is_none_or(|expected| expected == found))
    }

    async fn resolve(&mut self, roots: &BTreeSet<StateRoot>) -> Result<Option<State>> {
        let mut states = Vec::with_capacity(roots.len());
        let mut events: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
        for root in roots {
            let mut state = StateMap::new();
            for (key, number) in trie::walk(&self.nodes(), *root).await? {
                let event = self.event_at(number).await?;
                let event = event.ok_or(RoomsError::BadRow { why: "a state lacks an event" })?;
                if event.meta.redacted_by.is_some() {
                    return Ok(None);
                }
                state.insert(self.name_of(key).await?, event.meta.event_id.clone());
                events.insert(event.meta.event_id.clone(), Arc::clone(&event.pdu));
            }
            states.push(state);
        }
        let mut work: Vec<OwnedEventId> =
            events.values().flat_map(|pdu| pdu.auth_events.iter().cloned()).collect();
        while let Some(event_id) = work.pop() {
            if events.contains_key(&event_id) {
                continue;
            }
            let Some(event) = self.event_by_id(&event_id).await? else {
                return Err(RoomsError::MissingEvent { event: event_id });
            };
            if event.meta.redacted_by.is_some() {
                return Ok(None);
            }
            work.extend(event.pdu.auth_events.iter().cloned());
            events.insert(event_id, Arc::clone(&event.pdu));
        }
        let resolved = event::resolve(&self.room.rules, &states, |id| events.get(id).cloned())?;
        let mut state = State::new();
        for ((kind, key), event_id) in resolved {
            let name = (self.room.number, kind.to_string(), key);
            let number = self.store.get(&STATE_KEYS, &name).await?;
            let event = self.number_of(&event_id).await?;
            state.extend(number.zip(event));
        }
        Ok(Some(state))
    }

    async fn name_of(&self, key: StateKeyNumber) -> Result<(StateEventType, String)> {
        let name = self.store.get(&STATE_KEY_NAMES, &(self.room.number, key)).await?;
        let (kind, key) = name.ok_or(RoomsError::BadRow { why: "a state key has no name" })?.0;
        Ok((kind.into(), key))
    }
}

//! Each event of a room: whether the authorisation rules allow it.

use std::{collections::HashMap, sync::Arc};

use event::Pdu;
use ruma::{
    EventId, OwnedEventId,
    events::{StateEventType, TimelineEventType},
};

use super::room::{Kept, RoomCheck};
use crate::{
    error::Result,
    state::trie,
    tables::{STATE_KEYS, StateRoot},
};

/// Some state by type and key.
type SomeState = HashMap<(StateEventType, String), Arc<Kept>>;

impl RoomCheck<'_, '_> {
    /// Its auth events are there and allow it, and so does the state before it.
    pub(super) async fn authority(&mut self, kept: &Arc<Kept>) -> Result<()> {
        let pdu = Arc::clone(&kept.pdu);
        let mut events: HashMap<OwnedEventId, Arc<Kept>> = HashMap::new();
        let mut state = SomeState::new();
        let create = self.create_id();
        for event_id in pdu.auth_events.iter().chain(&create) {
            let Some(auth) = self.event_by_id(event_id).await? else {
                self.say_of(kept, format_args!("is allowed by {event_id}, which is missing"));
                return Ok(());
            };
            if let Some((kind, key)) = auth.pdu.state_entry() {
                state.insert((kind, key.to_owned()), Arc::clone(&auth));
            }
            events.insert(event_id.clone(), auth);
        }
        let pruned = |kept: &Kept| kept.meta.redacted_by.is_some();
        if kept.meta.rejected || pruned(kept) || state.values().any(|auth| pruned(auth)) {
            // What has lost its content may break rules that it kept when it was accepted.
            return Ok(());
        }
        let rules = self.room.rules.clone();
        let fetch = |id: &EventId| events.get(id).map(|kept| Arc::clone(&kept.pdu));
        if let Err(error) = event::authorise_by_events(&pdu, &rules, fetch) {
            self.say_of(kept, format_args!("has unfit auth events: {error}"));
        }
        if pdu.kind == TimelineEventType::RoomCreate {
            return Ok(());
        }
        if let Err(error) = event::authorise_by_state(&pdu, &rules, from(&state)) {
            self.say_of(kept, format_args!("is not allowed by its auth events: {error}"));
        }
        if kept.is_outlier() {
            return Ok(());
        }
        let before = self.deciding_state(kept, &pdu).await?;
        if before.values().any(|auth| pruned(auth)) {
            return Ok(());
        }
        if let Err(error) = event::authorise_by_state(&pdu, &rules, from(&before)) {
            self.say_of(kept, format_args!("is not allowed by the state before it: {error}"));
        }
        Ok(())
    }

    /// The create event that the room ID names, from room version 12 on.
    fn create_id(&self) -> Option<OwnedEventId> {
        if !self.room.rules.authorization.room_create_event_id_as_room_id {
            return None;
        }
        let hash = self.room.room_id.as_str().strip_prefix('!')?;
        EventId::parse(format!("${hash}")).ok()
    }

    /// The part of the state before an event that decides over it.
    async fn deciding_state(&mut self, kept: &Arc<Kept>, pdu: &Pdu) -> Result<SomeState> {
        let types = event::auth_types(
            &pdu.kind,
            &pdu.sender,
            pdu.state_key.as_deref(),
            &pdu.content,
            &self.room.rules,
        );
        let mut keys = match types {
            Ok(keys) => keys,
            Err(error) => {
                self.say_of(kept, format_args!("needs unknown state: {error}"));
                return Ok(SomeState::new());
            }
        };
        keys.push((StateEventType::RoomCreate, String::new()));
        let mut state = SomeState::new();
        for (kind, key) in keys {
            if let Some(event) = self.state_event(kept.meta.state_before, &kind, &key).await? {
                state.insert((kind, key), event);
            }
        }
        Ok(state)
    }

    /// One event of a state.
    pub(super) async fn state_event(
        &mut self,
        root: StateRoot,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<Arc<Kept>>> {
        let name = (self.room.number, kind.to_string(), key.to_owned());
        let Some(number) = self.store.get(&STATE_KEYS, &name).await? else { return Ok(None) };
        let found = trie::find(&self.nodes(), root, &[number]).await?;
        match found.into_iter().next().flatten() {
            Some(event) => self.event_at(event).await,
            None => Ok(None),
        }
    }
}

fn from(state: &SomeState) -> impl Fn(&StateEventType, &str) -> Option<Arc<Pdu>> + '_ {
    |kind, key| state.get(&(kind.clone(), key.to_owned())).map(|kept| Arc::clone(&kept.pdu))
}

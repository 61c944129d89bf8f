//! The states of a room: what each pair of event type and state key stands for, now and at every
//! event.

pub(crate) mod before;
pub(crate) mod conflict;
mod keys;
pub(crate) mod node;
mod select;
#[cfg(test)]
mod tests;
pub(crate) mod trie;

use std::{ops::Bound, sync::Arc};

use event::Pdu;
use ruma::events::StateEventType;
use store::{Page, Position};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    head::Head,
    room::Room,
    state::{node::Node, trie::Nodes},
    tables::{EventNumber, HEADS, NodeNumber, RoomNumber, STATE_NODES, StateRoot, TIMELINE},
};

pub use self::select::StateSelect;

/// What a state event speaks of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKeyEntry {
    /// The event type.
    pub kind: StateEventType,
    /// The state key.
    pub key: String,
}

impl Rooms {
    /// Where a room stands.
    ///
    /// # Errors
    /// [`RoomsError::Damaged`] when the room has no head.
    pub async fn head_of(&self, room: &Room) -> Result<Arc<Head>> {
        self.head(room.number).await
    }

    pub(crate) async fn head(&self, room: RoomNumber) -> Result<Arc<Head>> {
        let heads = &self.inner.caches.heads;
        if let Some(head) = heads.get(&room) {
            return Ok(head);
        }
        let ticket = heads.ticket(&room);
        let head = self.store().get(&HEADS, &room).await?;
        let head = Arc::new(head.ok_or(RoomsError::NotFound { what: "room" })?);
        heads.fill(&room, &head, ticket);
        Ok(head)
    }

    /// The room's state now.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn current_state(&self, room: &Room) -> Result<StateRoot> {
        Ok(self.head(room.number).await?.state)
    }

    /// The room's state once all commits up to a position, inclusive, were made. `None` before its
    /// first event.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn state_at(&self, room: &Room, position: Position) -> Result<Option<StateRoot>> {
        let range = TIMELINE
            .between(Bound::Included(&room.number), Bound::Included(&(room.number, position)));
        let rows = self.store().scan(&TIMELINE, range, Page::last(1)).await?;
        Ok(rows.into_iter().next().map(|(_, row)| row.state))
    }

    /// One event of a state.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn state_event(
        &self,
        room: &Room,
        root: StateRoot,
        kind: &StateEventType,
        key: &str,
    ) -> Result<Option<Arc<Pdu>>> {
        let entry = (kind.clone(), key.to_owned());
        let found = self.state_numbers(room, root, &[entry]).await?;
        let Some(number) = found.into_iter().next().flatten() else { return Ok(None) };
        let events = self.events(room, &[number]).await?;
        Ok(events.into_iter().next().map(|event| Arc::clone(&event.pdu)))
    }

    /// The events at some keys of a state, by number, in the order asked.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn state_numbers(
        &self,
        room: &Room,
        root: StateRoot,
        keys: &[(StateEventType, String)],
    ) -> Result<Vec<Option<EventNumber>>> {
        let numbers = self.state_key_numbers(room, keys).await?;
        let known: Vec<_> = numbers.iter().flatten().copied().collect();
        let nodes = StoredNodes { rooms: self, room: room.number };
        let mut found = trie::find(&nodes, root, &known).await?.into_iter();
        Ok(numbers.into_iter().map(|number| number.and_then(|_| found.next().flatten())).collect())
    }

    /// The keys whose events differ between two states, with the event of the second: `None` where
    /// it has none.
    /// Costs as much as there are differences, not as the states are large.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn state_diff(
        &self,
        room: &Room,
        from: Option<StateRoot>,
        to: StateRoot,
    ) -> Result<Vec<(StateKeyEntry, Option<EventNumber>)>> {
        let nodes = StoredNodes { rooms: self, room: room.number };
        let differences = trie::diff(&nodes, from.unwrap_or(StateRoot::EMPTY), to).await?;
        let keys: Vec<_> = differences.iter().map(|difference| difference.key).collect();
        let names = self.state_key_names(room, &keys).await?;
        let entry = |name: Arc<(StateEventType, String)>| StateKeyEntry {
            kind: name.0.clone(),
            key: name.1.clone(),
        };
        Ok(names.into_iter().map(entry).zip(differences.into_iter().map(|d| d.to)).collect())
    }
}

/// The nodes of one room, from the cache or the store.
pub(crate) struct StoredNodes<'a> {
    pub(crate) rooms: &'a Rooms,
    pub(crate) room: RoomNumber,
}

impl Nodes for StoredNodes<'_> {
    async fn load(&self, numbers: &[NodeNumber]) -> Result<Vec<Arc<Node>>> {
        let cache = &self.rooms.inner.caches.nodes;
        let cached: Vec<Option<Arc<Node>>> =
            numbers.iter().map(|number| cache.get(&(self.room, *number))).collect();
        let missing: Vec<(RoomNumber, NodeNumber)> = numbers
            .iter()
            .zip(&cached)
            .filter(|(_, node)| node.is_none())
            .map(|(number, _)| (self.room, *number))
            .collect();
        if missing.is_empty() {
            return Ok(cached.into_iter().flatten().collect());
        }
        let loaded = self.rooms.store().multi_get(&STATE_NODES, &missing).await?;
        let mut fresh = Vec::with_capacity(loaded.len());
        for (key, node) in missing.into_iter().zip(loaded) {
            let node = Arc::new(node.ok_or(RoomsError::BadRow { why: "a state lacks a node" })?);
            cache.insert(key, Arc::clone(&node));
            fresh.push(node);
        }
        let mut fresh = fresh.into_iter();
        Ok(cached.into_iter().filter_map(|node| node.or_else(|| fresh.next())).collect())
    }
}

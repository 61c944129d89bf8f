//! The states of a room: that around each event, the trees that hold them, and the names of keys.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    pages::Pages,
    room::{Kept, RoomCheck},
};
use crate::{
    error::Result,
    state::trie::{self, Difference},
    tables::{EventNumber, STATE_KEY_NAMES, STATE_NODES, StateRoot},
};

impl RoomCheck<'_, '_> {
    /// The state before an event is that after the events it follows, and the state after it
    /// differs from that in what the event sets, and nothing else.
    ///
    /// Since the first state is empty, this checks every state of the room.
    pub(super) async fn state_around(&mut self, kept: &Arc<Kept>) -> Result<()> {
        if kept.is_outlier() {
            return Ok(());
        }
        let before = kept.meta.state_before;
        if let Some(left) = self.states_after_prev(kept).await?
            && !self.is_resolved(before, &left).await?
        {
            self.say_of(kept, "has another state before it than the events that it follows left");
        }
        let changes = trie::diff(&self.nodes(), before, kept.meta.state_after).await?;
        if kept.meta.rejected || !kept.pdu.is_state() {
            if !changes.is_empty() {
                self.say_of(kept, "changes the state, although it must not");
            }
            return Ok(());
        }
        match changes.as_slice() {
            [change] if change.to == Some(kept.number) => self.change(kept, *change).await,
            _ => {
                self.say_of(kept, "is not what the state after it differs in");
                Ok(())
            }
        }
    }

    /// The states after the events that an event follows, if they are known.
    async fn states_after_prev(&mut self, kept: &Arc<Kept>) -> Result<Option<BTreeSet<StateRoot>>> {
        let mut states = BTreeSet::new();
        for event_id in &kept.pdu.prev_events {
            match self.event_by_id(event_id).await? {
                Some(prev) if !prev.is_outlier() => states.insert(prev.meta.state_after),
                _ => return Ok(None),
            };
        }
        Ok(Some(states))
    }

    /// The changed key is the event's own, and the replaced event is noted.
    async fn change(&mut self, kept: &Arc<Kept>, change: Difference) -> Result<()> {
        let name = self.store.get(&STATE_KEY_NAMES, &(self.room.number, change.key)).await?;
        let own = kept.pdu.state_entry().map(|(kind, key)| (kind.to_string(), key.to_owned()));
        if name.map(|name| name.0) != own {
            self.say_of(kept, "stands at another key of the state than its own");
        }
        let replaced = match change.from {
            Some(number) => self.event_at(number).await?.map(|event| event.meta.event_id.clone()),
            None => None,
        };
        if replaced != kept.meta.prev_state {
            self.say_of(kept, "does not name the event that it replaced in the state");
        }
        Ok(())
    }

    /// Every node of every tree has branches that exist, of the right height.
    pub(super) async fn states(&mut self) -> Result<()> {
        let room = self.room.number;
        let next_node = self.head.next_node;
        let length = usize::try_from(next_node.get()).unwrap_or(usize::MAX);
        // The height of each node and one more; 0 where there is none.
        let mut heights = vec![0_u8; length];
        let mut pages = Pages::new(self.store, &STATE_NODES, room);
        while let Some(page) = pages.next().await? {
            for ((_, number), node) in page {
                self.check.report.state_nodes += 1;
                let index = usize::try_from(number.get()).unwrap_or(usize::MAX);
                match heights.get_mut(index) {
                    Some(height) => *height = node.height + 1,
                    None => {
                        self.say(format_args!("state node {number} is not given out yet"));
                    }
                }
            }
        }
        let height = |value: u64| {
            usize::try_from(value).ok().and_then(|index| heights.get(index)).copied().unwrap_or(0)
        };
        let mut pages = Pages::new(self.store, &STATE_NODES, room);
        while let Some(page) = pages.next().await? {
            for ((_, number), node) in page {
                let next_event = self.head.next_event;
                let sound = |value: u64| match node.height {
                    0 => value > 0 && EventNumber::new(value) < next_event,
                    own => height(value) == own,
                };
                if !node.iter().all(|(_, value)| sound(value)) {
                    self.say(format_args!("state node {number} leads to what is not there"));
                }
            }
        }
        Ok(())
    }
}

//! The indexes of a room against its events, and the head against all of it.

use std::collections::BTreeSet;

use super::{pages::Pages, room::RoomCheck};
use crate::{
    append::accept::EXTREMITIES_KEPT_MAX,
    error::Result,
    tables::{EVENT_META, EVENT_NUMBERS, TIMELINE},
};

impl RoomCheck<'_, '_> {
    /// No index has more rows than there are events, and the head stands where the timeline ends.
    ///
    /// Every event has been found in the indexes by now, so that equal numbers of rows agree.
    pub(super) async fn indexes(&mut self) -> Result<()> {
        let (store, room) = (self.store, self.room.number);
        let numbers = Pages::new(store, &EVENT_NUMBERS, room).count().await?;
        if numbers != self.counts.events {
            let events = self.counts.events;
            self.say(format_args!("{numbers} event IDs lead to {events} events"));
        }
        let metas = Pages::new(store, &EVENT_META, room).count().await?;
        if metas != self.counts.events + self.counts.outside {
            let events = self.counts.events + self.counts.outside;
            self.say(format_args!("{metas} records stand beside {events} events"));
        }
        self.timeline().await?;
        self.extremities();
        self.current_state().await
    }

    async fn timeline(&mut self) -> Result<()> {
        let mut pages = Pages::new(self.store, &TIMELINE, self.room.number);
        let (mut rows, mut last) = (0, None);
        while let Some(page) = pages.next().await? {
            rows += page.len() as u64;
            last = page.last().map(|(_, row)| row.state);
        }
        if rows != self.counts.shown {
            let shown = self.counts.shown;
            self.say(format_args!("the timeline has {rows} rows for {shown} events"));
        }
        if last.unwrap_or_default() != self.head.state {
            self.say("the current state is not that at the end of the timeline");
        }
        Ok(())
    }

    /// The current state is that after the extremities.
    async fn current_state(&mut self) -> Result<()> {
        let mut left = BTreeSet::new();
        for number in self.head.extremities.clone() {
            match self.event_at(number).await? {
                Some(event) => left.insert(event.meta.state_after),
                None => return Ok(()),
            };
        }
        if !self.is_resolved(self.head.state, &left).await? {
            self.say("the current state is not what the extremities left");
        }
        Ok(())
    }

    /// The extremities are the events of the timeline that no other follows, but for old ones that
    /// were let go when there were too many.
    fn extremities(&mut self) {
        let mut expected: Vec<u64> = self.shown.minus(&self.followed).collect();
        let old = self.head.next_event.get().saturating_sub(EXTREMITIES_KEPT_MAX as u64);
        let has = |number: &u64| self.head.extremities.iter().any(|event| event.get() == *number);
        expected.retain(|number| *number >= old || has(number));
        let mut found: Vec<u64> = self.head.extremities.iter().map(|event| event.get()).collect();
        found.sort_unstable();
        if found != expected {
            self.say(format_args!("the extremities are {found:?}, but should be {expected:?}"));
        }
        let (depth, deepest) = (self.head.depth, self.counts.depth_max);
        if depth != deepest {
            self.say(format_args!("the head has the depth {depth}, the deepest event {deepest}"));
        }
    }
}

//! Memberships in a room from when this server is not in it.

use std::sync::Arc;

use ruma::events::StateEventType;

use super::{
    pages::Pages,
    room::{Kept, RoomCheck},
};
use crate::{
    error::Result,
    state::trie,
    tables::{MEMBERSHIPS, OUTSIDE, STATE_KEYS},
};

impl RoomCheck<'_, '_> {
    /// A member event that nobody has authorised: it is in no state, no timeline, and not found by
    /// its ID.
    pub(super) async fn outside(&mut self, kept: &Arc<Kept>) -> Result<()> {
        self.counts.events -= 1;
        self.check.report.events -= 1;
        self.counts.outside += 1;
        if kept.pdu.membership().is_none() {
            self.say_of(kept, "is not found by its ID");
        }
        if kept.number >= self.head.next_event {
            self.say_of(kept, "has a number that is not given out yet");
        }
        Ok(())
    }

    /// Each row of a membership outside names what the user's memberships name.
    pub(super) async fn outsiders(&mut self) -> Result<()> {
        let mut pages = Pages::new(self.store, &OUTSIDE, self.room.number);
        while let Some(page) = pages.next().await? {
            for ((_, user), row) in page {
                let key = (user.clone(), self.room.number);
                let membership = self.store.get(&MEMBERSHIPS, &key).await?;
                if membership.is_none_or(|other| other.value.0.event != row.0.event) {
                    self.say(format_args!("{user} is outside, but not by their memberships"));
                }
                if !self.is_in_state(&user).await? {
                    self.check.local_members += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether the current state has an event about a user, who was counted with it.
    async fn is_in_state(&self, user: &str) -> Result<bool> {
        let kind = StateEventType::RoomMember.to_string();
        let key = (self.room.number, kind, user.to_owned());
        let Some(key) = self.store.get(&STATE_KEYS, &key).await? else { return Ok(false) };
        let found = trie::find(&self.nodes(), self.head.state, &[key]).await?;
        Ok(found.into_iter().flatten().next().is_some())
    }
}

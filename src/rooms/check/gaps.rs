//! The holes in a room's timeline, what was fetched into them, and what waits for missing events.

use store::Json;

use super::{pages::Pages, room::RoomCheck};
use crate::{
    error::Result,
    history::index_of,
    tables::{EARLY_REDACTIONS, EVENT_META, GAPS, HISTORY, MISSING, TIMELINE},
};

impl RoomCheck<'_, '_> {
    /// Every hole is before an event, what was fetched into one knows its place, and rows about
    /// missing events lead to those that miss them.
    pub(super) async fn gaps(&mut self) -> Result<()> {
        let (store, room) = (self.store, self.room.number);
        let mut pages = Pages::new(store, &GAPS, room);
        while let Some(page) = pages.next().await? {
            for ((_, position), Json(row)) in page {
                if store.get(&TIMELINE, &(room, position, 0)).await?.is_none() {
                    self.say(format_args!("there is a hole at {position}, but no event behind it"));
                }
                if row.missing.is_empty() {
                    self.say(format_args!("nothing is missing in the hole at {position}"));
                }
            }
        }
        let mut rows = 0;
        let mut pages = Pages::new(store, &HISTORY, room);
        while let Some(page) = pages.next().await? {
            rows += page.len() as u64;
            for ((_, position, key), row) in page {
                let meta = store.get(&EVENT_META, &(room, row.event)).await?;
                let index = index_of(u64::MAX - key);
                let fits =
                    meta.is_some_and(|meta| meta.position == position && meta.value.index == index);
                if !fits {
                    let event = row.event;
                    self.say(format_args!("event {event} does not know its place in a hole"));
                }
            }
        }
        if rows != self.counts.fetched {
            let fetched = self.counts.fetched;
            self.say(format_args!("holes have {rows} rows for {fetched} events"));
        }
        let mut pages = Pages::new(store, &MISSING, room);
        while let Some(page) = pages.next().await? {
            for ((_, event_id, follower), ()) in page {
                let known = self.event_at(follower).await?;
                if known.is_none() {
                    self.say(format_args!(
                        "event {follower}, which misses {event_id}, is not there"
                    ));
                }
            }
        }
        let mut pages = Pages::new(store, &EARLY_REDACTIONS, room);
        while let Some(page) = pages.next().await? {
            for ((_, event_id, redaction), ()) in page {
                if self.event_at(redaction).await?.is_none() {
                    self.say(format_args!("the redaction {redaction} of {event_id} is not there"));
                }
            }
        }
        Ok(())
    }
}

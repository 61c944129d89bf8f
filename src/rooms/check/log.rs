//! The log against the timelines.

use store::{LogEntry, Position};

use super::Check;
use crate::{
    error::RoomsError,
    log_row::{LOG_TOPIC, RoomsLogRow},
    tables::{EVENT_META, EventNumber, RoomNumber},
};

/// Log rows that are read at once.
pub(super) const PAGE_ROWS: usize = 1_000;

impl Check<'_> {
    /// Every event that the log tells of was accepted by that very commit, and none is left out.
    pub(super) async fn log(&mut self) {
        if let Err(error) = self.log_rows().await {
            self.report.say(format!("the log cannot be read on: {error}"));
        }
    }

    async fn log_rows(&mut self) -> Result<(), RoomsError> {
        let mut after = Position::ZERO;
        let mut told = 0;
        loop {
            let page = self.store.read_log(after, PAGE_ROWS).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            self.report.log_rows += page.len() as u64;
            let mut events = Vec::new();
            for entry in page.iter().filter(|entry| entry.topic == LOG_TOPIC) {
                match RoomsLogRow::decode(&entry.payload) {
                    Ok(RoomsLogRow::Event { room, event, .. }) => {
                        events.push((entry, (room, event)));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        self.report.say(format!("log row at {}: {error}", entry.position));
                    }
                }
            }
            told += events.len() as u64;
            self.logged(&events).await?;
        }
        self.report.same("events in the log", told, self.logged_events);
        Ok(())
    }

    async fn logged(
        &mut self,
        events: &[(&LogEntry, (RoomNumber, EventNumber))],
    ) -> Result<(), RoomsError> {
        let keys: Vec<_> = events.iter().map(|(_, key)| *key).collect();
        let metas = self.store.multi_get(&EVENT_META, &keys).await?;
        for ((entry, (room, event)), meta) in events.iter().zip(metas) {
            let position = entry.position;
            if meta.is_none_or(|meta| meta.position != position) {
                self.report.say(format!(
                    "the log tells at {position} of event {event} of room {room}, which was not \
                     accepted there"
                ));
            }
        }
        Ok(())
    }
}

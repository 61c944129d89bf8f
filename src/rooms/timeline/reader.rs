//! Reading on from a gap until there are enough events that one viewer may see and wants.

use std::sync::Arc;

use store::{Direction, Page};

use crate::{
    Rooms,
    error::Result,
    room::Room,
    stored_event::StoredEvent,
    timeline::{EventFilter, PageToken, Span, ahead},
    visibility::Lens,
};

/// Most rows of a timeline that are looked at for one request.
const ROWS_MAX: usize = 2_000;

/// Most rows of a timeline that are read at a time.
const PAGE_LEN_MAX: usize = 250;

/// What was found, and up to where was looked.
#[derive(Debug)]
pub(crate) struct Found {
    /// The events, in the order of reading.
    pub(crate) events: Vec<Arc<StoredEvent>>,
    /// The gap behind the last event looked at.
    pub(crate) end: PageToken,
    /// Whether there is nothing behind that gap.
    pub(crate) exhausted: bool,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    /// Where, and where to begin: at its end when reading backward.
    pub(crate) span: Span,
    pub(crate) direction: Direction,
    /// How many events are wanted.
    pub(crate) limit: usize,
    pub(crate) filter: &'a EventFilter,
}

impl Rooms {
    /// Reads on until there are enough events, the span is at its end, or too many rows were looked
    /// at.
    pub(crate) async fn search_timeline(
        &self,
        room: &Room,
        lens: &mut Lens<'_>,
        search: Search<'_>,
    ) -> Result<Found> {
        let Search { span, direction, limit, filter } = search;
        let start = match direction {
            Direction::Forward => span.from,
            Direction::Backward => span.to,
        };
        let mut found = Found { events: Vec::new(), end: start, exhausted: false };
        let mut looked_at = 0;
        if filter.excludes_all() || filter.excludes_room(&room.room_id) {
            found.exhausted = true;
            return Ok(found);
        }
        while found.events.len() < limit && looked_at < ROWS_MAX {
            // One more than is needed tells whether anything is behind it.
            let wanted = limit - found.events.len() + 1;
            let limit_rows = wanted.clamp(16, PAGE_LEN_MAX);
            let page = Page { direction, limit: limit_rows };
            let rows = self.timeline_rows(room, ahead(span, found.end, direction), page).await?;
            let last_page = rows.len() < limit_rows;
            let numbers: Vec<_> = rows.iter().map(|(_, row)| row.event).collect();
            let events = self.events(room, &numbers).await?;
            let rows_len = rows.len();
            for (at, ((gap, _), event)) in rows.into_iter().zip(events).enumerate() {
                looked_at += 1;
                found.end = match direction {
                    Direction::Forward => gap.next(),
                    Direction::Backward => gap,
                };
                if filter.allows(&event.pdu) && lens.shows(&event).await? {
                    found.events.push(event);
                    if found.events.len() >= limit {
                        found.exhausted = last_page && at + 1 == rows_len;
                        return Ok(found);
                    }
                }
            }
            if last_page {
                found.exhausted = true;
                return Ok(found);
            }
        }
        Ok(found)
    }
}

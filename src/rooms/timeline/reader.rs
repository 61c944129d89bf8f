//! Reading on from a gap until there are enough events that one viewer may see and wants.

use std::sync::Arc;

use store::Direction;

use crate::{
    Rooms,
    error::Result,
    room::Room,
    stored_event::StoredEvent,
    timeline::{
        EventFilter, PageToken, Span, ahead,
        pieces::{Stop, Stretch},
    },
    visibility::Lens,
};

/// Most rows of a timeline that are looked at for one request.
const ROWS_MAX: usize = 2_000;

/// Most rows of a timeline that are read at a time.
const PAGE_LEN_MAX: usize = 250;

/// How often other servers are asked for one request.
const FILLS_MAX: usize = 3;

/// What becomes of holes in a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holes {
    /// Other servers are asked for what is missing.
    Fill,
    /// They are passed over.
    Leave,
}

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
    pub(crate) holes: Holes,
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
        let Search { span, direction, limit, filter, holes } = search;
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
        let mut fills_left = match holes {
            Holes::Fill => FILLS_MAX,
            Holes::Leave => 0,
        };
        while found.events.len() < limit && looked_at < ROWS_MAX {
            // One more than is needed tells whether anything is behind it.
            let wanted = limit - found.events.len() + 1;
            let limit_rows = wanted.clamp(16, PAGE_LEN_MAX);
            let stretch = self
                .stretch(room, ahead(span, found.end, direction), direction, limit_rows)
                .await?;
            let Stretch { rows, stop } = stretch;
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
                        found.exhausted = stop == Stop::End && at + 1 == rows_len;
                        return Ok(found);
                    }
                }
            }
            match stop {
                Stop::Full => {}
                Stop::End => {
                    found.exhausted = true;
                    return Ok(found);
                }
                Stop::Hole(position) if holes == Holes::Fill && fills_left == 0 => {
                    // Enough has been fetched for one request: the next one goes on here.
                    found.end = found.end.min(PageToken::new(position, 0));
                    return Ok(found);
                }
                Stop::Hole(position) => {
                    let left = limit.saturating_sub(found.events.len());
                    let filled =
                        holes == Holes::Fill && self.fill_hole(room, position, left).await?;
                    if filled {
                        fills_left -= 1;
                    } else {
                        found.end = PageToken::new(position, i64::MIN);
                    }
                }
            }
        }
        Ok(found)
    }
}

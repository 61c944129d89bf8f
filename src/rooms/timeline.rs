//! Reading a room's timeline, in pages.

mod context;
mod filter;
mod messages;
pub(crate) mod pieces;
mod reader;
#[cfg(test)]
mod tests;
mod token;
mod view;

use std::{ops::Bound, sync::Arc};

use store::{Direction, Page, Position};

use crate::{
    Rooms,
    error::Result,
    room::Room,
    stored_event::StoredEvent,
    tables::{TIMELINE, TimelineRow},
};

pub use self::{
    context::Context,
    filter::EventFilter,
    messages::{MessagesPage, MessagesQuery},
    token::PageToken,
};

/// A part of a timeline between two gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// The gap before its first event.
    pub(crate) from: PageToken,
    /// The gap after its last event.
    pub(crate) to: PageToken,
}

impl Rooms {
    /// The newest events of a room after one position and up to another, inclusive; the newest
    /// first.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn timeline(
        &self,
        room: &Room,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let span = Span { from: PageToken::after_all(after), to: PageToken::after_all(upto) };
        let rows = self.timeline_rows(room, span, Page::last(limit)).await?;
        let numbers: Vec<_> = rows.into_iter().map(|(_, row)| row.event).collect();
        self.events(room, &numbers).await
    }

    /// A page of a span, each row with the gap before its event.
    pub(crate) async fn timeline_rows(
        &self,
        room: &Room,
        span: Span,
        page: Page,
    ) -> Result<Vec<(PageToken, TimelineRow)>> {
        if span.from >= span.to || page.limit == 0 {
            return Ok(Vec::new());
        }
        // What was fetched into a hole stands before the first event of the commit.
        let index = |gap: PageToken| u32::try_from(gap.index().max(0)).unwrap_or(u32::MAX);
        let from = (room.number, span.from.position(), index(span.from));
        // A bound at the pending position would be a hole; it stands for the end.
        let range = if span.to == PageToken::END {
            TIMELINE.between(Bound::Included(&from), Bound::Included(&room.number))
        } else {
            let to = (room.number, span.to.position(), index(span.to));
            TIMELINE.between(Bound::Included(&from), Bound::Excluded(&to))
        };
        let rows = self.store().scan(&TIMELINE, range, page).await?;
        Ok(rows
            .into_iter()
            .map(|((_, position, index), row)| (PageToken::new(position, index.into()), row))
            .collect())
    }

    /// The last row before a gap.
    pub(crate) async fn row_before(
        &self,
        room: &Room,
        gap: PageToken,
    ) -> Result<Option<TimelineRow>> {
        if gap.index() <= 0 {
            // It may be in the midst of what was fetched into a hole.
            let rows = self.history_rows(room, gap, i64::MIN..gap.index(), Page::last(1)).await?;
            if let Some((_, row)) = rows.into_iter().next() {
                return Ok(Some(row));
            }
        }
        let span = Span { from: PageToken::START, to: gap };
        let rows = self.timeline_rows(room, span, Page::last(1)).await?;
        Ok(rows.into_iter().next().map(|(_, row)| row))
    }
}

/// The part of a span that lies ahead of a gap.
pub(crate) fn ahead(span: Span, gap: PageToken, direction: Direction) -> Span {
    match direction {
        Direction::Forward => Span { from: gap, ..span },
        Direction::Backward => Span { to: gap, ..span },
    }
}

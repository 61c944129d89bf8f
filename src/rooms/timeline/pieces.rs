//! A timeline with what was fetched into its holes, in the order of the events.

use std::ops::{Bound, Range};

use store::{Direction, Json, Page, Position};

use crate::{
    Rooms,
    error::Result,
    history::key_of,
    room::Room,
    tables::{GAPS, GapRow, HISTORY, TimelineRow},
    timeline::{PageToken, Span, ahead},
};

/// A row with the gap before its event.
pub(crate) type Row = (PageToken, TimelineRow);

/// Rows that follow each other, in the order of reading.
pub(crate) struct Stretch {
    pub(crate) rows: Vec<Row>,
    pub(crate) stop: Stop,
}

/// Why a stretch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has as many rows as were wanted.
    Full,
    /// Something is missing before the event at a position.
    Hole(Position),
    /// There is nothing more in the span.
    End,
}

/// What comes after a piece.
enum Next {
    /// This part of the span.
    Rest(Span),
    Stop(Stop),
}

impl Rooms {
    /// Reads up to `limit` rows of a span from its beginning, or backward from its end until there
    /// is a hole.
    pub(crate) async fn stretch(
        &self,
        room: &Room,
        mut span: Span,
        direction: Direction,
        limit: usize,
    ) -> Result<Stretch> {
        let mut rows: Vec<Row> = Vec::new();
        loop {
            if span.from >= span.to {
                return Ok(Stretch { rows, stop: Stop::End });
            }
            let left = limit.saturating_sub(rows.len());
            if left == 0 {
                return Ok(Stretch { rows, stop: Stop::Full });
            }
            let (piece, next) = match direction {
                Direction::Backward => self.piece_before(room, span, left).await?,
                Direction::Forward => self.piece_after(room, span, left).await?,
            };
            rows.extend(piece);
            match next {
                Next::Rest(rest) => span = rest,
                Next::Stop(stop) => return Ok(Stretch { rows, stop }),
            }
        }
    }

    /// The last rows of a span, as far as one table has them.
    async fn piece_before(&self, room: &Room, span: Span, left: usize) -> Result<(Vec<Row>, Next)> {
        let page = Page::last(left);
        let (position, index) = (span.to.position(), span.to.index());
        let full = |rows: &Vec<Row>| rows.last().filter(|_| rows.len() == left).map(|row| row.0);
        if index <= 0 && index != i64::MIN && span.to != PageToken::END {
            let least = if span.from.position() == position { span.from.index() } else { i64::MIN };
            let rows = self.history_rows(room, span.to, least..index, page).await?;
            if let Some(last) = full(&rows) {
                return Ok((rows, Next::Rest(ahead(span, last, Direction::Backward))));
            }
            let hole: Option<Json<GapRow>> =
                self.store().get(&GAPS, &(room.number, position)).await?;
            if hole.is_some() && least == i64::MIN {
                return Ok((rows, Next::Stop(Stop::Hole(position))));
            }
            let below = PageToken::new(position, i64::MIN);
            return Ok((rows, Next::Rest(ahead(span, below, Direction::Backward))));
        }
        let hole = self.hole_before(room, span).await?;
        let lower = hole.map_or(span.from, |hole| hole.max(span.from));
        let rows = self.timeline_rows(room, Span { from: lower, ..span }, page).await?;
        let next = match (full(&rows), hole) {
            (Some(last), _) => Next::Rest(ahead(span, last, Direction::Backward)),
            (None, Some(hole)) => Next::Rest(ahead(span, hole, Direction::Backward)),
            (None, None) => Next::Stop(Stop::End),
        };
        Ok((rows, next))
    }

    /// The first rows of a span, as far as one table has them.
    async fn piece_after(&self, room: &Room, span: Span, left: usize) -> Result<(Vec<Row>, Next)> {
        let page = Page::first(left);
        let (position, index) = (span.from.position(), span.from.index());
        let full =
            |rows: &Vec<Row>| rows.last().filter(|_| rows.len() == left).map(|row| row.0.next());
        if index < 0 {
            let most = if span.to.position() == position { span.to.index().min(0) } else { 0 };
            let rows = self.history_rows(room, span.from, index..most, page).await?;
            let next = full(&rows).unwrap_or(PageToken::new(position, most));
            return Ok((rows, Next::Rest(ahead(span, next, Direction::Forward))));
        }
        let fetched = self.history_after(room, span).await?;
        let upper = fetched.map_or(span.to, |fetched| fetched.min(span.to));
        let rows = self.timeline_rows(room, Span { to: upper, ..span }, page).await?;
        let next = match (full(&rows), fetched) {
            (Some(last), _) => Next::Rest(ahead(span, last, Direction::Forward)),
            (None, Some(fetched)) => Next::Rest(ahead(span, fetched, Direction::Forward)),
            (None, None) => Next::Stop(Stop::End),
        };
        Ok((rows, next))
    }

    /// What was fetched into the hole at the position of a gap, with indexes in a range.
    pub(crate) async fn history_rows(
        &self,
        room: &Room,
        gap: PageToken,
        indexes: Range<i64>,
        page: Page,
    ) -> Result<Vec<Row>> {
        if indexes.is_empty() || gap == PageToken::END {
            return Ok(Vec::new());
        }
        let key = |index: i64| (room.number, gap.position(), key_of(index));
        let (from, to) = (key(indexes.start), key(indexes.end));
        let range = HISTORY.between(Bound::Included(&from), Bound::Excluded(&to));
        let rows = self.store().scan(&HISTORY, range, page).await?;
        let index = |key: u64| {
            i64::try_from(u64::MAX.saturating_sub(key)).unwrap_or(i64::MAX).saturating_neg()
        };
        Ok(rows
            .into_iter()
            .map(|((_, position, key), row)| (PageToken::new(position, index(key)), row))
            .collect())
    }

    /// The end of the last hole in a span that is missing something or into which something was
    /// fetched.
    async fn hole_before(&self, room: &Room, span: Span) -> Result<Option<PageToken>> {
        let from = (room.number, span.from.position());
        let page = Page::last(1);
        let (gap, fetched) = if span.to == PageToken::END {
            let (from, to) = (Bound::Included(&from), Bound::Included(&room.number));
            let gap = self.store().scan(&GAPS, GAPS.between(from, to), page).await?;
            (gap, self.store().scan(&HISTORY, HISTORY.between(from, to), page).await?)
        } else {
            // The hole at the very position lies ahead only of what comes after its end.
            let to = (room.number, span.to.position());
            let to = if span.to.index() > 0 { Bound::Included(&to) } else { Bound::Excluded(&to) };
            let from = Bound::Included(&from);
            let gap = self.store().scan(&GAPS, GAPS.between(from, to), page).await?;
            (gap, self.store().scan(&HISTORY, HISTORY.between(from, to), page).await?)
        };
        let gap = gap.into_iter().next().map(|((_, position), _)| position);
        let fetched = fetched.into_iter().next().map(|((_, position, _), _)| position);
        Ok(gap.max(fetched).map(|position| PageToken::new(position, 0)))
    }

    /// The beginning of the first hole into which something was fetched, after the one at the
    /// beginning of a span.
    async fn history_after(&self, room: &Room, span: Span) -> Result<Option<PageToken>> {
        let from = (room.number, span.from.position());
        let page = Page::first(1);
        let rows = if span.to == PageToken::END {
            let range = HISTORY.between(Bound::Excluded(&from), Bound::Included(&room.number));
            self.store().scan(&HISTORY, range, page).await?
        } else {
            let to = (room.number, span.to.position());
            let range = HISTORY.between(Bound::Excluded(&from), Bound::Included(&to));
            self.store().scan(&HISTORY, range, page).await?
        };
        let first = rows.into_iter().next();
        Ok(first.map(|((_, position, _), _)| PageToken::new(position, i64::MIN)))
    }
}

//! Places in a timeline, as clients hold them.

use std::{fmt, str::FromStr};

use store::Position;

use crate::{error::RoomsError, stored_event::StoredEvent};

/// A gap between two events of a timeline.
///
/// Written `t{position}_{index}`, where the index is below 0 for what was fetched into a hole. A
/// token of `/sync`, which begins with `s{position}`, is read as the gap after all events up to
/// that
/// position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageToken {
    position: Position,
    /// The gap is before the event with this place in its commit, or in the hole before it.
    index: i64,
}

impl PageToken {
    /// The gap before the first event.
    pub const START: Self = Self::new(Position::ZERO, 0);

    /// The gap after all events that there are or will be.
    pub const END: Self = Self::new(Position::PENDING, 0);

    pub(crate) const fn new(position: Position, index: i64) -> Self {
        Self { position, index }
    }

    /// The gap just before an event.
    #[must_use]
    pub const fn before(event: &StoredEvent) -> Self {
        Self::new(event.position, event.index)
    }

    /// The gap just after an event.
    #[must_use]
    pub const fn after(event: &StoredEvent) -> Self {
        Self::new(event.position, event.index).next()
    }

    /// The gap after all events of a commit and those before it.
    #[must_use]
    pub const fn after_all(position: Position) -> Self {
        Self::new(position.next(), 0)
    }

    /// The gap behind the event that this one is before.
    pub(crate) const fn next(self) -> Self {
        Self::new(self.position, self.index.saturating_add(1))
    }

    pub(crate) const fn position(self) -> Position {
        self.position
    }

    pub(crate) const fn index(self) -> i64 {
        self.index
    }
}

impl fmt::Display for PageToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "t{}_{}", self.position, self.index)
    }
}

impl FromStr for PageToken {
    type Err = RoomsError;

    fn from_str(text: &str) -> Result<Self, RoomsError> {
        let bad = || RoomsError::invalid_param("this is no token of ours");
        if let Some(sync) = text.strip_prefix('s') {
            let number = sync.split('_').next().unwrap_or(sync);
            return Ok(Self::after_all(number_in(number).map(Position::new).ok_or_else(bad)?));
        }
        let (position, index) =
            text.strip_prefix('t').and_then(|rest| rest.split_once('_')).ok_or_else(bad)?;
        let position = number_in(position).map(Position::new).ok_or_else(bad)?;
        let digits = index.strip_prefix('-').unwrap_or(index);
        let index = number_in(digits).and_then(|_| index.parse().ok());
        Ok(Self::new(position, index.ok_or_else(bad)?))
    }
}

/// Digits alone, and not the number that stands for a position not known yet.
fn number_in(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.filter(|number| *number < Position::PENDING.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_as_they_are_written() {
        let token = PageToken::new(Position::new(17), 3);
        assert_eq!(token.to_string(), "t17_3");
        assert_eq!("t17_3".parse::<PageToken>().unwrap(), token);
        let fetched = PageToken::new(Position::new(17), -3);
        assert_eq!(fetched.to_string(), "t17_-3");
        assert_eq!("t17_-3".parse::<PageToken>().unwrap(), fetched);
        let below = PageToken::new(Position::new(17), i64::MIN);
        assert_eq!(below.to_string().parse::<PageToken>().unwrap(), below);
        assert!(fetched < PageToken::new(Position::new(17), 0));
    }

    #[test]
    fn a_sync_token_stands_for_the_gap_after_its_position() {
        let token: PageToken = "s17_99_1_2".parse().unwrap();
        assert_eq!(token, PageToken::new(Position::new(18), 0));
        assert_eq!("s17".parse::<PageToken>().unwrap(), token);
        assert!(token > PageToken::new(Position::new(17), u32::MAX.into()));
    }

    #[test]
    fn other_texts_are_refused() {
        let huge = format!("t{}_0", u64::MAX);
        for text in [
            "", "t", "t1", "t_1", "t1_", "t1_x", "t1_-", "t1_--1", "t-1_0", "s", "s_", "sx_1",
            "17", &huge,
        ] {
            assert!(text.parse::<PageToken>().is_err(), "{text}");
        }
    }
}

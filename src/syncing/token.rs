//! Where a client stands: everything up to here it has seen.

use std::{fmt, str::FromStr};

use rooms::Position;

use crate::error::SyncError;

/// A point in all that a client can be told, from which it goes on.
///
/// Written `s{position}_{boot}_{typing}_{presence}_{to_device}`. The versions of typing and
/// presence are kept in memory, so they mean something only within the run of the server that
/// `boot` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncToken {
    /// Every commit up to this one has been seen.
    pub position: Position,
    /// Which run of the server gave it out.
    pub boot: u64,
    /// The version of typing that has been seen.
    pub typing: u64,
    /// The version of presence that has been seen.
    pub presence: u64,
    /// Every message for the device up to this commit has been seen: earlier than `position` where
    /// there were too many for one response.
    pub to_device: Position,
}

impl fmt::Display for SyncToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, boot, typing, presence, to_device } = self;
        write!(out, "s{}_{boot}_{typing}_{presence}_{}", position.get(), to_device.get())
    }
}

impl FromStr for SyncToken {
    type Err = SyncError;

    fn from_str(text: &str) -> Result<Self, SyncError> {
        parse(text).ok_or_else(|| SyncError::BadToken { token: text.chars().take(100).collect() })
    }
}

fn parse(text: &str) -> Option<SyncToken> {
    let mut parts = text.strip_prefix('s')?.split('_').map(number);
    let position = Position::new(parts.next()??);
    let token = SyncToken {
        position,
        boot: parts.next()??,
        typing: parts.next()??,
        presence: parts.next()??,
        // Tokens of an older program have seen all messages that there were.
        to_device: parts.next().unwrap_or(Some(position.get())).map(Position::new)?,
    };
    parts.next().is_none().then_some(token)
}

fn number(text: &str) -> Option<u64> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_reads_as_it_was_written(
            position: u64, boot: u64, typing: u64, presence: u64, to_device: u64,
        ) {
            let (position, to_device) = (Position::new(position), Position::new(to_device));
            let token = SyncToken { position, boot, typing, presence, to_device };
            prop_assert_eq!(token.to_string().parse::<SyncToken>().unwrap(), token);
        }

        #[test]
        fn nothing_makes_the_parser_panic(text: String) {
            let _ = text.parse::<SyncToken>();
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for bad in
            ["", "s", "s1", "s1_2_3", "s1_2_3_4_5_6", "t1_2_3_4", "s+1_2_3_4", "s1_2_3_", "x"]
        {
            assert!(bad.parse::<SyncToken>().is_err(), "{bad}");
        }
    }
}

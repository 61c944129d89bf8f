//! The place of a commit in the order of all commits.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Key, Reader, StoreError, Value, Writer};

/// The place of a commit in the order of all commits, from 1 on.
///
/// Every row, log row and outbox item of one batch has the same position.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Position(u64);

impl Position {
    /// Before the first commit.
    pub const ZERO: Self = Self(0);

    /// Stands for the position of the batch that it is written in: encoding it into a key or value
    /// leaves a hole, which the commit fills. (Not within [`crate::Json`], which has no holes.)
    pub const PENDING: Self = Self(u64::MAX);

    /// Makes the position with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number of the position.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Returns the position after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl From<u64> for Position {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl Key for Position {
    fn encode(&self, out: &mut Writer) {
        out.position(*self);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        <u64 as Key>::decode(input).map(Self)
    }
}

impl Value for Position {
    fn encode(&self, out: &mut Writer) {
        out.position(*self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        <u64 as Value>::decode(bytes).map(Self)
    }
}

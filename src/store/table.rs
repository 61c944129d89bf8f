//! Tables: typed names for ranges of keys.

use std::{fmt, marker::PhantomData, ops::Bound};

use crate::{Key, Reader, StoreError, Value, Writer};

/// How the rows of a table are read, which decides how they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Small rows, looked up one by one.
    Main,
    /// Small rows, scanned in order.
    Index,
    /// Larger JSON.
    Events,
    /// Rows written in order and seldom read.
    Log,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 4] = [Self::Main, Self::Index, Self::Events, Self::Log];

    /// Returns the name of the family, as engines and metrics write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Index => "index",
            Self::Events => "events",
            Self::Log => "log",
        }
    }
}

/// A typed table. Its number begins every key, so it can never change.
pub struct Table<K, V> {
    number: u16,
    name: &'static str,
    family: Family,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Table<K, V> {
    /// Names a table. The number is its own among all tables of the program, and not `0xffff`.
    #[must_use]
    pub const fn new(number: u16, name: &'static str, family: Family) -> Self {
        assert!(number != u16::MAX, "no table has the number 0xffff");
        Self { number, name, family, types: PhantomData }
    }

    /// Returns the number of the table.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Returns the name of the table.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Returns the family of the table.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Encodes a leading part of a key, after the table's number.
    fn writer<P: Key>(&self, partial: &P) -> Writer {
        let mut out = Writer::new();
        out.extend(&self.number.to_be_bytes());
        partial.encode(&mut out);
        out
    }

    /// Returns the range of every row.
    #[must_use]
    pub fn all(&self) -> KeyRange {
        self.prefix(&())
    }

    /// Returns the range of the rows whose keys begin with `partial`, a leading part of `K`.
    #[must_use]
    pub fn prefix<P: Key>(&self, partial: &P) -> KeyRange {
        let start = self.writer(partial);
        let end = successor(start.bytes());
        KeyRange { start: start.bytes().to_vec(), end }
    }

    /// Returns the range of the rows between two bounds on leading parts of `K`.
    ///
    /// An excluded lower bound skips every key that begins with it, and an included upper bound
    /// takes every key that begins with it.
    #[must_use]
    pub fn between<A: Key, B: Key>(&self, lower: Bound<&A>, upper: Bound<&B>) -> KeyRange {
        let whole = self.all();
        let start = match lower {
            Bound::Included(partial) => self.writer(partial).bytes().to_vec(),
            Bound::Excluded(partial) => successor(self.writer(partial).bytes()),
            Bound::Unbounded => whole.start,
        };
        let end = match upper {
            Bound::Included(partial) => successor(self.writer(partial).bytes()),
            Bound::Excluded(partial) => self.writer(partial).bytes().to_vec(),
            Bound::Unbounded => whole.end,
        };
        KeyRange { start, end }
    }
}

impl<K: Key, V: Value> Table<K, V> {
    /// Encodes the whole key of a row.
    pub(crate) fn key(&self, key: &K) -> Writer {
        self.writer(key)
    }

    /// Decodes the whole key of a row.
    pub(crate) fn decode_key(&self, bytes: &[u8]) -> Result<K, StoreError> {
        let mut input = Reader::new(bytes);
        let number = u16::from_be_bytes(input.array()?);
        if number != self.number {
            return Err(StoreError::corrupt(format!(
                "a key of table {number:#06x} was found in {} ({:#06x})",
                self.name, self.number
            )));
        }
        K::decode(&mut input)
            .and_then(|key| input.finish().map(|()| key))
            .map_err(|error| self.explain("a key", error))
    }

    /// Decodes the value of a row.
    pub(crate) fn decode_value(&self, bytes: &[u8]) -> Result<V, StoreError> {
        V::decode(bytes).map_err(|error| self.explain("a value", error))
    }

    /// Adds to an error where it was met.
    fn explain(&self, part: &str, error: StoreError) -> StoreError {
        match error {
            StoreError::Corrupt { what } => {
                StoreError::Corrupt { what: format!("{part} in table {}: {what}", self.name) }
            }
            other => other,
        }
    }
}

impl<K, V> Clone for Table<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Table<K, V> {}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Table({:#06x} {}, {:?})", self.number, self.name, self.family)
    }
}

/// A range of encoded keys within one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Vec<u8>,
    end: Vec<u8>,
}

impl KeyRange {
    /// Returns the first key that may be in the range.
    #[must_use]
    pub fn start(&self) -> &[u8] {
        &self.start
    }

    /// Returns the first key after the range.
    #[must_use]
    pub fn end(&self) -> &[u8] {
        &self.end
    }

    /// Tells whether no key can be in the range.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start >= self.end
    }
}

/// Which end of a range is read first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Forward,
    /// Largest key first.
    Backward,
}

/// How much of a range is read at once, and from which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Which end is read first.
    pub direction: Direction,
    /// Most rows to return.
    pub limit: usize,
}

impl Page {
    /// Reads up to `limit` rows, smallest key first.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { direction: Direction::Forward, limit }
    }

    /// Reads up to `limit` rows, largest key first.
    #[must_use]
    pub const fn last(limit: usize) -> Self {
        Self { direction: Direction::Backward, limit }
    }
}

/// Returns the smallest byte string above everything that begins with `prefix`.
///
/// A key begins with its table's number, which is never `0xffff`, so there is always one.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

//! A node of the tree that holds the states of a room.
//!
//! The tree is a radix trie with 32 branches over the numbers of state keys. A leaf holds the
//! numbers of events, an inner node the numbers
//! of nodes. Nodes never change: a new state copies the path to what differs, and shares the rest.

use crate::{
    codec::{Cursor, Sink},
    error::{Result, RoomsError},
};

/// Bits of a key that one level consumes.
pub(crate) const BITS: u32 = 5;

/// Most levels: enough for 2^30 state keys.
pub(crate) const HEIGHT_MAX: u8 = 5;

/// A node: up to 32 numbers, at the slots that `present` marks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// 0 for a leaf, one more for each level above.
    pub(crate) height: u8,
    present: u32,
    values: Vec<u64>,
}

impl Node {
    pub(crate) const fn empty(height: u8) -> Self {
        Self { height, present: 0, values: Vec::new() }
    }

    fn rank(&self, slot: u32) -> usize {
        (self.present & ((1_u32 << slot) - 1)).count_ones() as usize
    }

    pub(crate) fn get(&self, slot: u32) -> Option<u64> {
        if self.present & (1 << slot) == 0 {
            return None;
        }
        self.values.get(self.rank(slot)).copied()
    }

    pub(crate) fn set(&mut self, slot: u32, value: Option<u64>) {
        let rank = self.rank(slot);
        let bit = 1_u32 << slot;
        let was = self.present & bit != 0;
        match value {
            Some(value) if was => {
                if let Some(old) = self.values.get_mut(rank) {
                    *old = value;
                }
            }
            Some(value) => {
                self.values.insert(rank, value);
                self.present |= bit;
            }
            None if was => {
                self.values.remove(rank);
                self.present &= !bit;
            }
            None => {}
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.present == 0
    }

    /// The value at slot 0, where no other slot is taken.
    pub(crate) fn only_first(&self) -> Option<u64> {
        if self.present == 1 { self.values.first().copied() } else { None }
    }

    /// The taken slots with their values, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let slots = (0..32_u32).filter(|slot| self.present & (1 << slot) != 0);
        slots.zip(self.values.iter().copied())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Sink::default();
        out.byte(self.height);
        out.number(u64::from(self.present));
        for value in &self.values {
            out.number(*value);
        }
        out.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        const BAD: RoomsError = RoomsError::BadRow { why: "a node of a state" };
        let mut input = Cursor::new(bytes, "a node of a state");
        let height = input.byte()?;
        let present = u32::try_from(input.number()?).map_err(|_| BAD)?;
        let mut values = Vec::with_capacity(present.count_ones() as usize);
        for _ in 0..present.count_ones() {
            values.push(input.number()?);
        }
        if height > HEIGHT_MAX || !input.is_empty() {
            return Err(BAD);
        }
        Ok(Self { height, present, values })
    }

    /// Memory that it takes, about, in bytes.
    pub(crate) fn weight(&self) -> u64 {
        64 + 8 * self.values.capacity() as u64
    }
}

//! A set of small numbers, one bit each.

/// A set of numbers from 0 up to a bound given by the room's own counters.
#[derive(Debug, Default)]
pub(super) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// An empty set of numbers below `end`.
    pub(super) fn below(end: u64) -> Self {
        let words = usize::try_from(end / 64 + 1).unwrap_or(usize::MAX);
        Self { words: vec![0; words] }
    }

    /// Adds a number. One beyond the bound is dropped.
    pub(super) fn insert(&mut self, number: u64) {
        let index = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if let Some(word) = self.words.get_mut(index) {
            *word |= 1 << (number % 64);
        }
    }

    /// The numbers of this set that are not in another, in order.
    pub(super) fn minus<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u64> + 'a {
        let word = |other: &Self, index: usize| other.words.get(index).copied().unwrap_or(0);
        (0_u64..).zip(&self.words).flat_map(move |(index, own)| {
            let left = own & !word(other, usize::try_from(index).unwrap_or(usize::MAX));
            (0..64_u64).filter(move |bit| left & (1 << bit) != 0).map(move |bit| index * 64 + bit)
        })
    }
}

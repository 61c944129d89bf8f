//! Random batches and reads, compared with a map.

use std::{collections::BTreeMap, ops::Bound};

use super::{Broken, MAIN, Rig, same};
use crate::{Batch, Direction, Page, StoreError};

/// Batches to try.
const ROUNDS: usize = 300;

/// A small generator of pseudo-random numbers, the same in every run (SplitMix64).
struct Dice(u64);

impl Dice {
    /// Returns a number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// Returns one of few keys.
    fn key(&mut self) -> (String, u64) {
        let name = ["", "a", "a\0", "aa", "b"].get(self.pick(5)).copied().unwrap_or_default();
        (name.to_owned(), self.roll(4) * 255)
    }

    /// Returns a number below `sides`, as an index.
    fn pick(&mut self, sides: u64) -> usize {
        usize::try_from(self.roll(sides)).unwrap_or_default()
    }
}

pub(super) async fn agrees_with_a_model(rig: &dyn Rig) -> Result<(), Broken> {
    let mut store = rig.fresh().await?;
    let mut model: BTreeMap<(String, u64), String> = BTreeMap::new();
    let mut dice = Dice(42);
    for round in 0..ROUNDS {
        let mut batch = Batch::new();
        let mut changed = model.clone();
        let mut agreed = true;
        for _ in 0..dice.roll(6) {
            let key = dice.key();
            match dice.roll(5) {
                0 => {
                    changed.remove(&key);
                    batch.delete(&MAIN, &key);
                }
                1 => {
                    let value = (dice.roll(2) == 0).then(|| model.get(&key).cloned()).flatten();
                    agreed &= model.get(&key) == value.as_ref();
                    batch.expect(&MAIN, &key, value.as_ref());
                }
                _ => {
                    let value = round.to_string();
                    batch.put(&MAIN, &key, &value);
                    changed.insert(key, value);
                }
            }
        }
        match store.commit(batch).await {
            Ok(_) => {
                same("a batch is written if its expectations hold", &agreed, &true)?;
                model = changed;
            }
            Err(StoreError::Conflict { .. }) => {
                same("a batch conflicts if an expectation does not hold", &agreed, &false)?;
            }
            Err(error) => return Err(error.into()),
        }
        let key = dice.key();
        same(
            "a row is what was put last",
            &store.get(&MAIN, &key).await?,
            &model.get(&key).cloned(),
        )?;
        let (low, high) = (dice.key(), dice.key());
        let (range, right) = if low < high {
            let bounds = (Bound::Excluded(&low), Bound::Included(&high));
            (MAIN.between(bounds.0, bounds.1), model.range(bounds))
        } else {
            (MAIN.all(), model.range::<(String, u64), _>(..))
        };
        let right = right.map(|(key, value)| (key.clone(), value.clone()));
        let limit = dice.pick(8);
        let (direction, right): (_, Vec<_>) = if dice.roll(2) == 0 {
            (Direction::Forward, right.take(limit).collect())
        } else {
            (Direction::Backward, right.rev().take(limit).collect())
        };
        let found = store.scan(&MAIN, range, Page { direction, limit }).await?;
        same("a range has the rows put last", &found, &right)?;
        if round % 100 == 50 {
            store.flush().await?;
            store = rig.reopen(store).await?;
        }
    }
    Ok(())
}

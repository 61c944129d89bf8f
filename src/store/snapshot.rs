//! All rows as they were at one moment.

use std::sync::Arc;

use crate::{Key, KeyRange, Page, Position, Reads, StoreError, Table, Value, reading};

/// A view of all rows as they were when it was taken. It holds back cleaning up; drop it soon.
#[derive(Clone, Debug)]
pub struct Snapshot {
    reads: Arc<dyn Reads>,
    position: Position,
}

impl Snapshot {
    /// Makes a snapshot of what `reads` shows, which is all commits up to `position` and no other.
    #[must_use]
    pub fn new(reads: Arc<dyn Reads>, position: Position) -> Self {
        Self { reads, position }
    }

    /// Returns the position of the newest commit that the snapshot holds.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Returns one row.
    ///
    /// # Errors
    /// Where the row can't be read.
    pub async fn get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StoreError> {
        reading::get(&*self.reads, table, key).await
    }

    /// Returns several rows, in the order of their keys.
    ///
    /// # Errors
    /// Where a row can't be read.
    pub async fn multi_get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        keys: &[K],
    ) -> Result<Vec<Option<V>>, StoreError> {
        reading::multi_get(&*self.reads, table, keys).await
    }

    /// Returns a page of a range.
    ///
    /// # Errors
    /// Where a row can't be read.
    pub async fn scan<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        range: KeyRange,
        page: Page,
    ) -> Result<Vec<(K, V)>, StoreError> {
        reading::scan(&*self.reads, table, &range, page).await
    }
}

//! The engine in memory, for tests: same semantics, nothing on disk.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Batch, Direction, Engine, Family, KeyRange, Page, Poison, Position, Reads, Recent, RowBytes,
    Snapshot, StoreError,
};

/// Rows of every family.
type Rows = BTreeMap<(Family, Vec<u8>), Bytes>;

/// Keeps everything in memory, and forgets it when dropped.
#[derive(Debug)]
pub struct MemoryEngine {
    rows: RwLock<Arc<Rows>>,
    recent: Arc<Recent>,
    poison: Arc<Poison>,
}

impl Default for MemoryEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryEngine {
    /// Makes an empty engine.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rows: RwLock::new(Arc::default()),
            recent: Arc::new(Recent::new(Position::ZERO)),
            poison: Arc::default(),
        }
    }

    /// Returns all rows as they are now.
    fn now(&self) -> Result<View, StoreError> {
        self.poison.check()?;
        Ok(View(Arc::clone(&self.rows.read().unwrap_or_else(PoisonError::into_inner))))
    }
}

/// All rows as they were at one moment.
#[derive(Debug)]
struct View(Arc<Rows>);

impl View {
    fn get(&self, family: Family, key: &[u8]) -> Option<Bytes> {
        self.0.get(&(family, key.to_vec())).cloned()
    }

    fn scan(&self, family: Family, range: &KeyRange, page: Page) -> Vec<RowBytes> {
        if range.is_empty() {
            return Vec::new();
        }
        let rows = self.0.range((family, range.start().to_vec())..(family, range.end().to_vec()));
        let copy = |((_, key), value): (&(Family, Vec<u8>), &Bytes)| {
            (Bytes::copy_from_slice(key), value.clone())
        };
        match page.direction {
            Direction::Forward => rows.take(page.limit).map(copy).collect(),
            Direction::Backward => rows.rev().take(page.limit).map(copy).collect(),
        }
    }
}

#[async_trait]
impl Reads for View {
    async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get(family, key))
    }

    async fn multi_get(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        Ok(keys.iter().map(|key| self.get(family, key)).collect())
    }

    async fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, StoreError> {
        Ok(self.scan(family, range, page))
    }
}

#[async_trait]
impl Reads for MemoryEngine {
    async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.now()?.get(family, key))
    }

    async fn multi_get(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        Reads::multi_get(&self.now()?, family, keys).await
    }

    async fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, StoreError> {
        Ok(self.now()?.scan(family, range, page))
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        let mut shared = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        self.poison.check()?;
        for expected in batch.expectations() {
            let found = shared.get(&(expected.family, expected.key.clone()));
            if found.map(|value| &**value) != expected.value.as_deref() {
                return Err(StoreError::Conflict { table: expected.table });
            }
        }
        let position = self.recent.position().next();
        let (changes, entries) = batch.resolve(position);
        let rows = Arc::make_mut(&mut shared);
        for change in changes {
            let key = (change.family, change.key);
            match change.value {
                Some(value) => rows.insert(key, value.into()),
                None => rows.remove(&key),
            };
        }
        self.recent.publish(position, entries);
        Ok(position)
    }

    fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    fn poison(&self) -> &Arc<Poison> {
        &self.poison
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.poison.check()?;
        let rows = self.rows.read().unwrap_or_else(PoisonError::into_inner);
        Ok(Snapshot::new(Arc::new(View(Arc::clone(&rows))), self.recent.position()))
    }

    async fn disk_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.poison.check()
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.poison.close();
        Ok(())
    }
}

//! An engine that fails when told, for tests of what holds after a crash.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Batch, Engine, Family, KeyRange, Page, Poison, Position, Reads, Recent, RowBytes, Snapshot,
    StoreError,
};

/// Which of the two a crash was: both look alike to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing of the batch was written.
    BeforeWrite,
    /// The batch was written, but nobody heard of it.
    AfterWrite,
}

/// Passes everything on to another engine until the commit that is to fail.
///
/// From then on it answers nothing, as a crashed program would; the engine below lives on, so that
/// a test can open a new store on it and see what is there.
#[derive(Debug)]
pub struct FaultyEngine {
    inner: Arc<dyn Engine>,
    poison: Arc<Poison>,
    fault: Fault,
    commits_left: AtomicU64,
}

impl FaultyEngine {
    /// Lets `commits` commits through and fails the one after them.
    #[must_use]
    pub fn new(inner: Arc<dyn Engine>, commits: u64, fault: Fault) -> Self {
        Self { inner, poison: Arc::default(), fault, commits_left: AtomicU64::new(commits) }
    }

    /// Checks that both engines may be used.
    fn check(&self) -> Result<(), StoreError> {
        self.poison.check()
    }
}

#[async_trait]
impl Reads for FaultyEngine {
    async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.check()?;
        self.inner.get(family, key).await
    }

    async fn multi_get(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.check()?;
        self.inner.multi_get(family, keys).await
    }

    async fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, StoreError> {
        self.check()?;
        self.inner.scan(family, range, page).await
    }
}

#[async_trait]
impl Engine for FaultyEngine {
    fn name(&self) -> &'static str {
        "faulty"
    }

    async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        self.check()?;
        let count = |left: u64| left.checked_sub(1);
        if self.commits_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count).is_ok() {
            return self.inner.commit(batch).await;
        }
        if self.fault == Fault::AfterWrite {
            self.inner.commit(batch).await?;
        }
        Err(self.poison.fail("a fault was injected"))
    }

    fn recent(&self) -> &Arc<Recent> {
        self.inner.recent()
    }

    fn poison(&self) -> &Arc<Poison> {
        &self.poison
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.check()?;
        self.inner.snapshot().await
    }

    async fn disk_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.inner.disk_bytes().await
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.check()?;
        self.inner.flush().await
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.poison.close();
        Ok(())
    }
}

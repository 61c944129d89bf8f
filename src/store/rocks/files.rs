//! Reading: from memory on the spot, from disk on a thread that may wait.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use rocksdb::{
    ColumnFamily, DB, DBPinnableSlice, ErrorKind, ReadOptions, ReadTier, WriteBatch, WriteOptions,
    properties,
};
use self_cell::self_cell;

use super::options::column_family;
use crate::{Direction, Family, KeyRange, Page, Poison, Reads, RowBytes, StoreError};

/// Most rows read without leaving the async thread.
const INLINE_ROWS_MAX: usize = 512;

/// Where a read may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// Only where it does not wait.
    Memory,
    /// Anywhere.
    Disk,
}

/// The moment whose rows are read.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    /// As the rows are.
    Now,
    /// As they were.
    Then(&'a rocksdb::Snapshot<'a>),
}

/// Why a read gave nothing.
#[derive(Debug)]
pub(super) enum Miss {
    /// It would have had to wait for the disk.
    NotInMemory,
    /// It went wrong.
    Error(StoreError),
}

impl From<Miss> for StoreError {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Error(error) => error,
            Miss::NotInMemory => {
                Self::Engine { reason: "a read from disk did not read the disk".to_owned() }
            }
        }
    }
}

impl From<StoreError> for Miss {
    fn from(error: StoreError) -> Self {
        Self::Error(error)
    }
}

/// RocksDB, and whether it may still be believed.
pub(super) struct Database {
    db: DB,
    poison: Arc<Poison>,
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Database").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

impl Database {
    /// Makes it of an open RocksDB.
    pub(super) const fn new(db: DB, poison: Arc<Poison>) -> Self {
        Self { db, poison }
    }

    /// Returns what tells whether it failed.
    pub(super) const fn poison(&self) -> &Arc<Poison> {
        &self.poison
    }

    /// Returns a family's handle.
    pub(super) fn family(&self, family: Family) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(column_family(family)).ok_or_else(|| StoreError::Engine {
            reason: format!("column family {} is missing", family.name()),
        })
    }

    /// Tells a read that has to wait from one that went wrong; corruption poisons.
    fn miss(&self, error: &rocksdb::Error) -> Miss {
        match error.kind() {
            ErrorKind::Incomplete => Miss::NotInMemory,
            ErrorKind::Corruption => {
                Miss::Error(self.poison.fail(format!("a file is damaged: {error}")))
            }
            _ => Miss::Error(StoreError::Engine { reason: error.to_string() }),
        }
    }

    /// Reads one row.
    pub(super) fn get(
        &self,
        at: At<'_>,
        tier: Tier,
        family: Family,
        key: &[u8],
    ) -> Result<Option<Bytes>, Miss> {
        self.poison.check()?;
        let found = self.db.get_pinned_cf_opt(self.family(family)?, key, &read_options(at, tier));
        self.copy(found)
    }

    /// Reads several rows.
    pub(super) fn multi_get(
        &self,
        at: At<'_>,
        tier: Tier,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, Miss> {
        self.poison.check()?;
        let options = read_options(at, tier);
        let family = self.family(family)?;
        let found = self.db.batched_multi_get_cf_opt(family, keys, false, &options).into_iter();
        let values: Vec<_> = found.map(|found| self.copy(found)).collect::<Result<_, _>>()?;
        // Where RocksDB lacks a block, it gives an empty value here rather than saying so, even for
        // a row that there is not.
        let is_doubtful = |value: &Option<Bytes>| value.as_ref().is_some_and(Bytes::is_empty);
        if tier == Tier::Memory && values.iter().any(is_doubtful) {
            return Err(Miss::NotInMemory);
        }
        Ok(values)
    }

    /// Copies a value out of RocksDB's memory.
    fn copy(
        &self,
        found: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>,
    ) -> Result<Option<Bytes>, Miss> {
        found
            .map(|value| value.map(|value| Bytes::copy_from_slice(&value)))
            .map_err(|error| self.miss(&error))
    }

    /// Reads a page of a range.
    pub(super) fn scan(
        &self,
        at: At<'_>,
        tier: Tier,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, Miss> {
        self.poison.check()?;
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let mut options = read_options(at, tier);
        options.set_iterate_lower_bound(range.start());
        options.set_iterate_upper_bound(range.end());
        let mut rows = Vec::new();
        let mut iterator = self.db.raw_iterator_cf_opt(self.family(family)?, options);
        match page.direction {
            Direction::Forward => iterator.seek_to_first(),
            Direction::Backward => iterator.seek_to_last(),
        }
        while rows.len() < page.limit {
            let Some((key, value)) = iterator.item() else { break };
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            if rows.len() == page.limit {
                break;
            }
            match page.direction {
                Direction::Forward => iterator.next(),
                Direction::Backward => iterator.prev(),
            }
        }
        iterator.status().map_err(|error| self.miss(&error))?;
        Ok(rows)
    }

    /// Writes a batch; nothing may be believed any more where that fails.
    pub(super) fn write(
        &self,
        batch: WriteBatch,
        options: &WriteOptions,
    ) -> Result<(), StoreError> {
        self.poison.check()?;
        self.db.write_opt(batch, options).map_err(|error| {
            self.poison.fail(format!("a commit could not be written to disk: {error}"))
        })
    }

    /// Moves what is only in the write-ahead log into files.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        let failed = |error: rocksdb::Error| {
            self.poison.fail(format!("rows could not be moved into their files: {error}"))
        };
        self.db.flush_wal(true).map_err(failed)?;
        for family in Family::ALL {
            self.db.flush_cf(self.family(family)?).map_err(failed)?;
        }
        Ok(())
    }

    /// Returns the size of all files but the write-ahead log, in bytes.
    pub(super) fn disk_bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0_u64;
        for family in Family::ALL {
            let size = self
                .db
                .property_int_value_cf(self.family(family)?, properties::TOTAL_SST_FILES_SIZE)
                .map_err(|error| StoreError::Engine { reason: error.to_string() })?;
            bytes = bytes.saturating_add(size.unwrap_or_default());
        }
        Ok(bytes)
    }
}

/// Returns the options of one read.
fn read_options(at: At<'_>, tier: Tier) -> ReadOptions {
    let mut options = ReadOptions::default();
    if tier == Tier::Memory {
        options.set_read_tier(ReadTier::BlockCache);
    }
    if let At::Then(snapshot) = at {
        options.set_snapshot(snapshot);
    }
    options
}

/// Names the type for `self_cell`.
type RocksSnapshot<'a> = rocksdb::Snapshot<'a>;

self_cell! {
    /// A moment, held together with the database that it belongs to.
    pub(super) struct Held {
        owner: Arc<Database>,
        #[not_covariant]
        dependent: RocksSnapshot,
    }
}

impl Held {
    /// Holds the rows as they are now.
    pub(super) fn take(database: Arc<Database>) -> Self {
        Self::new(database, |database| database.db.snapshot())
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Held").field(self.borrow_owner()).finish()
    }
}

/// What rows are read from.
pub(super) trait Source: fmt::Debug + Send + Sync + 'static {
    /// Runs a read.
    fn read<T>(&self, work: impl FnOnce(&Database, At<'_>) -> T) -> T;
}

impl Source for Database {
    fn read<T>(&self, work: impl FnOnce(&Database, At<'_>) -> T) -> T {
        work(self, At::Now)
    }
}

impl Source for Held {
    fn read<T>(&self, work: impl FnOnce(&Database, At<'_>) -> T) -> T {
        self.with_dependent(|database, snapshot| work(database, At::Then(snapshot)))
    }
}

/// Reads for async callers.
#[derive(Debug)]
pub(super) struct Files<S>(pub(super) Arc<S>);

impl<S: Source> Files<S> {
    /// Runs a read that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database, At<'_>) -> Result<T, Miss> + Send + 'static,
    ) -> Result<T, StoreError> {
        metrics::counter!("store_reads_from_disk_total").increment(1);
        let source = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || source.read(work).map_err(StoreError::from))
            .await
            .map_err(|error| StoreError::Engine { reason: error.to_string() })?
    }
}

#[async_trait]
impl<S: Source> Reads for Files<S> {
    async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.0.read(|database, at| database.get(at, Tier::Memory, family, key)) {
            Ok(value) => Ok(value),
            Err(Miss::Error(error)) => Err(error),
            Err(Miss::NotInMemory) => {
                let key = key.to_vec();
                self.blocking(move |database, at| database.get(at, Tier::Disk, family, &key)).await
            }
        }
    }

    async fn multi_get(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        if keys.len() <= INLINE_ROWS_MAX {
            match self.0.read(|database, at| database.multi_get(at, Tier::Memory, family, keys)) {
                Ok(values) => return Ok(values),
                Err(Miss::Error(error)) => return Err(error),
                Err(Miss::NotInMemory) => {}
            }
        }
        let keys = keys.to_vec();
        self.blocking(move |database, at| database.multi_get(at, Tier::Disk, family, &keys)).await
    }

    async fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, StoreError> {
        if page.limit <= INLINE_ROWS_MAX {
            match self.0.read(|database, at| database.scan(at, Tier::Memory, family, range, page)) {
                Ok(rows) => return Ok(rows),
                Err(Miss::Error(error)) => return Err(error),
                Err(Miss::NotInMemory) => {}
            }
        }
        let range = range.clone();
        self.blocking(move |database, at| database.scan(at, Tier::Disk, family, &range, page)).await
    }
}

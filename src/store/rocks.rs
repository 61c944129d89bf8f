//! The engine on RocksDB: the default.

use std::{fs, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use rocksdb::DB;

use crate::{
    Batch, Engine, Family, KeyRange, Page, Poison, Position, Reads, Recent, RowBytes, Snapshot,
    StoreError, Value,
    rocks::{
        commit::Committer,
        files::{At, Database, Files, Held, Tier},
    },
    tables::{LOG, NEWEST},
};

mod commit;
mod files;
#[cfg(test)]
mod full_disk_tests;
#[cfg(test)]
mod kill_tests;
mod options;
mod queue;
#[cfg(test)]
mod tests;

/// How the engine uses memory and disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// Memory for blocks that were read and rows not yet in files, in MiB.
    pub cache_mib: u64,
    /// Whether each commit is on the disk before it is acknowledged. Without it, a commit survives
    /// the end of the process, but not of the machine.
    pub sync_writes: bool,
}

impl Default for RocksOptions {
    fn default() -> Self {
        Self { cache_mib: 256, sync_writes: true }
    }
}

/// Keeps everything in RocksDB, in one directory.
#[derive(Debug)]
pub struct RocksEngine {
    /// Before the files, so that its thread ends first.
    committer: Committer,
    files: Files<Database>,
    recent: Arc<Recent>,
    poison: Arc<Poison>,
}

impl RocksEngine {
    /// Opens the directory, which is made where it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process uses it, [`StoreError::Engine`] where its files
    /// can't be opened.
    pub async fn open(path: &Path, options: RocksOptions) -> Result<Self, StoreError> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Self::open_blocking(&path, options))
            .await
            .map_err(|error| StoreError::Engine { reason: error.to_string() })?
    }

    /// Opens the directory on this thread.
    fn open_blocking(path: &Path, options: RocksOptions) -> Result<Self, StoreError> {
        create_directory(path).map_err(|error| StoreError::Engine {
            reason: format!("can't make the directory {}: {error}", path.display()),
        })?;
        let (settings, families) = options::all(options);
        let db = DB::open_cf_descriptors(&settings, path, families)
            .map_err(|error| explain_open(path, &error))?;
        let poison = Arc::<Poison>::default();
        let database = Arc::new(Database::new(db, Arc::clone(&poison)));
        let newest = newest(&database)?;
        let recent = Arc::new(Recent::new(newest));
        let committer =
            Committer::start(Arc::clone(&database), Arc::clone(&recent), options.sync_writes)?;
        Ok(Self { committer, files: Files(database), recent, poison })
    }

    /// Runs slow work on the database on a thread for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let database = Arc::clone(&self.files.0);
        tokio::task::spawn_blocking(move || work(&database))
            .await
            .map_err(|error| StoreError::Engine { reason: error.to_string() })?
    }
}

/// Makes a directory that also survives a power cut.
fn create_directory(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// Says why a directory could not be opened.
fn explain_open(path: &Path, error: &rocksdb::Error) -> StoreError {
    let reason = error.as_ref().to_owned();
    let locked =
        reason.contains("While lock file") || reason.contains("lock hold by current process");
    if locked {
        return StoreError::Locked { path: path.display().to_string(), reason };
    }
    StoreError::Engine { reason: format!("can't open {}: {reason}", path.display()) }
}

/// Finds the position of the newest commit.
fn newest(database: &Database) -> Result<Position, StoreError> {
    let key = NEWEST.key(&()).into_bytes()?;
    let newest = database
        .get(At::Now, Tier::Disk, NEWEST.family(), &key)?
        .map(|bytes| <Position as Value>::decode(&bytes))
        .transpose()?
        .unwrap_or_default();
    let last = database.scan(At::Now, Tier::Disk, LOG.family(), &LOG.all(), Page::last(1))?;
    if let Some((key, _)) = last.first() {
        let (logged, _) = LOG.decode_key(key)?;
        if logged > newest {
            return Err(StoreError::corrupt(format!(
                "the log goes on to {logged}, past the newest commit {newest}"
            )));
        }
    }
    Ok(newest)
}

#[async_trait]
impl Reads for RocksEngine {
    async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.files.get(family, key).await
    }

    async fn multi_get(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.files.multi_get(family, keys).await
    }

    async fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, StoreError> {
        self.files.scan(family, range, page).await
    }
}

#[async_trait]
impl Engine for RocksEngine {
    fn name(&self) -> &'static str {
        "rocks"
    }

    async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        self.poison.check()?;
        // What the committer's thread will compare is brought into the cache by others.
        for expected in batch.expectations() {
            self.files.get(expected.family, &expected.key).await?;
        }
        self.committer.commit(batch).await
    }

    fn recent(&self) -> &Arc<Recent> {
        &self.recent
    }

    fn poison(&self) -> &Arc<Poison> {
        &self.poison
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.poison.check()?;
        let files = Files(Arc::new(Held::take(Arc::clone(&self.files.0))));
        let key = NEWEST.key(&()).into_bytes()?;
        let newest = files.get(NEWEST.family(), &key).await?;
        let position = newest
            .map(|bytes| <Position as Value>::decode(&bytes))
            .transpose()?
            .unwrap_or_default();
        Ok(Snapshot::new(Arc::new(files), position))
    }

    async fn disk_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.blocking(Database::disk_bytes).await.map(Some)
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.poison.check()?;
        self.blocking(Database::flush).await
    }

    async fn close(&self) -> Result<(), StoreError> {
        if let Some(thread) = self.committer.stop() {
            self.blocking(move |_| thread.wait()).await?;
        }
        if self.poison.check().is_err() {
            return Ok(());
        }
        let flushed = self.blocking(Database::flush).await;
        self.poison.close();
        flushed
    }
}

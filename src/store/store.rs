//! The store: tables over an engine.

use std::{path::Path, sync::Arc, time::Instant};

use tokio::sync::watch;

use crate::{
    Batch, Engine, Key, KeyRange, LogEntry, MemoryEngine, Page, Position, RocksEngine,
    RocksOptions, Snapshot, StoreError, Table, Tail, Value, log, migrate, reading,
};

#[cfg(test)]
mod tests;

/// Version of the store's own tables.
const SCHEMA_VERSION: u64 = 1;

/// A handle of the store; clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    engine: Arc<dyn Engine>,
}

/// How the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Name of the engine.
    pub engine: &'static str,
    /// Position of the newest commit.
    pub position: Position,
    /// Bytes used on disk, if the engine knows.
    pub disk_bytes: Option<u64>,
}

impl Store {
    /// Opens the store in a directory, which is made where it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another process uses it, [`StoreError::SchemaTooNew`] where a
    /// newer program wrote it, [`StoreError::Engine`] where its files can't be opened.
    pub async fn open_rocks(path: &Path, options: RocksOptions) -> Result<Self, StoreError> {
        Self::open(Arc::new(RocksEngine::open(path, options).await?)).await
    }

    /// Opens the store on an engine, and checks the schema version of the store's own tables.
    ///
    /// # Errors
    /// [`StoreError::SchemaTooNew`] where a newer program wrote it; errors of the engine.
    pub async fn open(engine: Arc<dyn Engine>) -> Result<Self, StoreError> {
        let store = Self::with_engine(engine);
        migrate::run(&store, "store", SCHEMA_VERSION, &[]).await?;
        Ok(store)
    }

    /// Makes an empty store in memory, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self::with_engine(Arc::new(MemoryEngine::new()))
    }

    /// Makes a store on an engine as it is, without checking its schema version.
    #[must_use]
    pub fn with_engine(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// Returns the engine below.
    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.engine
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
        reading::get(&*self.engine, table, key).await
    }

    /// Returns several rows, in the order of their keys, all as of one moment.
    ///
    /// # Errors
    /// Where a row can't be read.
    pub async fn multi_get<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        keys: &[K],
    ) -> Result<Vec<Option<V>>, StoreError> {
        reading::multi_get(&*self.engine, table, keys).await
    }

    /// Returns a page of a range, all rows as of one moment.
    ///
    /// # Errors
    /// Where a row can't be read.
    pub async fn scan<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        range: KeyRange,
        page: Page,
    ) -> Result<Vec<(K, V)>, StoreError> {
        reading::scan(&*self.engine, table, &range, page).await
    }

    /// Returns a view of all rows as they are now.
    ///
    /// # Errors
    /// Where the store has failed.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.engine.snapshot().await
    }

    /// Commits a batch: when this returns, it is durable and every read sees it.
    ///
    /// Once called, the batch may be written even if the returned future is dropped.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where an expectation does not hold; [`StoreError::TooLarge`] and
    /// [`StoreError::Encode`] where the batch can't be written: nothing was written then. After
    /// [`StoreError::Failed`] nobody knows until the store is opened anew.
    pub async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        batch.check()?;
        let begin = Instant::now();
        let result = self.engine.commit(batch).await;
        match &result {
            Ok(_) => {
                metrics::counter!("store_commits_total", "result" => "ok").increment(1);
                metrics::histogram!("store_commit_seconds").record(begin.elapsed().as_secs_f64());
            }
            Err(StoreError::Conflict { .. }) => {
                metrics::counter!("store_commits_total", "result" => "conflict").increment(1);
            }
            Err(_) => {
                metrics::counter!("store_commits_total", "result" => "error").increment(1);
            }
        }
        result
    }

    /// Returns the position of the newest commit; everything up to it can be read.
    #[must_use]
    pub fn position(&self) -> Position {
        self.engine.recent().position()
    }

    /// Returns a channel that holds the position of the newest commit.
    #[must_use]
    pub fn positions(&self) -> watch::Receiver<Position> {
        self.engine.recent().watch()
    }

    /// Returns a reader of all log rows after a position, which waits for more.
    #[must_use]
    pub fn tail(&self, after: Position) -> Tail {
        Tail::new(Arc::clone(&self.engine), after)
    }

    /// Returns log rows after a position, in order: about `limit`, but all rows of a batch or none.
    ///
    /// # Errors
    /// Where the log can't be read.
    pub async fn read_log(
        &self,
        after: Position,
        limit: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        log::read_batches(&*self.engine, after, limit).await
    }

    /// Deletes the log rows up to and including a position, which no follower wants any more.
    ///
    /// # Errors
    /// Where the log can't be read or the rows can't be deleted.
    pub async fn trim_log(&self, upto: Position) -> Result<(), StoreError> {
        log::trim(self, upto).await
    }

    /// Returns a channel that holds the reason once the store has failed. The program must stop.
    #[must_use]
    pub fn failed(&self) -> watch::Receiver<Option<String>> {
        self.engine.poison().watch()
    }

    /// Checks the store, and tells how it is.
    ///
    /// # Errors
    /// Where the store has failed or is closed.
    pub async fn health(&self) -> Result<Health, StoreError> {
        self.engine.poison().check()?;
        Ok(Health {
            engine: self.engine.name(),
            position: self.position(),
            disk_bytes: self.engine.disk_bytes().await?,
        })
    }

    /// Moves what is only in the write-ahead log into its final files, so that opening is quick.
    /// What was committed is durable without it.
    ///
    /// # Errors
    /// Where the files can't be written.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.engine.flush().await
    }

    /// Finishes all commits, flushes, and refuses further calls. Another process can open the
    /// directory once every clone of this handle is gone too.
    ///
    /// # Errors
    /// Where the files can't be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.engine.close().await
    }
}

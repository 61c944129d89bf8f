//! What a storage engine must do. [`crate::conformance`] checks that it does.

use std::{fmt::Debug, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Batch, Family, KeyRange, Page, Poison, Position, Recent, Snapshot, StoreError};

/// Encoded key and value of a row that was read.
pub type RowBytes = (Bytes, Bytes);

/// Reads encoded rows: an engine as it is now, or as it was when a snapshot was taken.
#[async_trait]
pub trait Reads: Debug + Send + Sync {
    /// Returns the value of a row.
    async fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Returns the values of rows, in the order of the keys, all as of one moment.
    async fn multi_get(
        &self,
        family: Family,
        keys: &[Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Returns a page of the rows in a range, all as of one moment.
    async fn scan(
        &self,
        family: Family,
        range: &KeyRange,
        page: Page,
    ) -> Result<Vec<RowBytes>, StoreError>;
}

/// A storage engine.
#[async_trait]
pub trait Engine: Reads {
    /// Returns the name of the engine.
    fn name(&self) -> &'static str;

    /// Checks the batch's expectations, gives it the next position, fills its holes, and writes it
    /// whole: when this returns, the batch is durable, readable, and in [`Engine::recent`].
    ///
    /// Once called, the batch may be written even if the returned future is dropped.
    async fn commit(&self, batch: Batch) -> Result<Position, StoreError>;

    /// Returns the newest commits, through which positions become visible.
    fn recent(&self) -> &Arc<Recent>;

    /// Returns what tells that the engine has failed.
    fn poison(&self) -> &Arc<Poison>;

    /// Returns a view of all rows as they are now.
    async fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Returns the bytes that the engine uses on disk, if it knows.
    async fn disk_bytes(&self) -> Result<Option<u64>, StoreError>;

    /// Moves what is only in memory and in the write-ahead log into its final files.
    async fn flush(&self) -> Result<(), StoreError>;

    /// Finishes all commits and refuses further calls.
    async fn close(&self) -> Result<(), StoreError>;
}

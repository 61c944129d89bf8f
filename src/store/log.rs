//! The change log: what was committed, in order, for whoever follows.

use std::{ops::Bound, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Batch, Engine, Page, Position, Reads, Store, StoreError, reading,
    tables::{FOLLOWERS, LOG, LogPlace, LogRow},
};

mod recent;
#[cfg(test)]
mod tests;

pub use recent::Recent;

/// Most rows that are read from disk at once.
const PAGE_ROWS: usize = 1_000;

/// A row of the change log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Position of the commit that wrote it.
    pub position: Position,
    /// Place within its batch, from 0 on.
    pub index: u32,
    /// What kind of row it is; topics are shared out like table numbers.
    pub topic: u16,
    /// What it says.
    pub payload: Bytes,
}

impl LogEntry {
    /// Returns where in the log the row is.
    pub(crate) const fn place(&self) -> LogPlace {
        LogPlace { position: self.position, index: self.index }
    }

    /// Returns the row as it is stored.
    pub(crate) fn row(&self) -> LogRow {
        LogRow { topic: self.topic, payload: self.payload.clone() }
    }
}

/// Reads the log onwards from a position: from memory where it can, from disk where it must.
#[derive(Debug)]
pub struct Tail {
    engine: Arc<dyn Engine>,
    waiter: Waiter,
    place: LogPlace,
}

impl Tail {
    /// Makes a tail that begins after a position.
    pub(crate) fn new(engine: Arc<dyn Engine>, after: Position) -> Self {
        let waiter = Waiter::new(&*engine);
        Self { engine, waiter, place: LogPlace::after(after) }
    }

    /// Returns the next log rows, at least one, in order; waits where there is none yet.
    /// It loses nothing when the future is dropped.
    ///
    /// # Errors
    /// Where the store has failed or is closed, or the log can't be read.
    pub async fn next(&mut self) -> Result<Arc<[LogEntry]>, StoreError> {
        loop {
            self.engine.poison().check()?;
            self.waiter.mark();
            let rows = match self.engine.recent().after(self.place) {
                Some(rows) => rows,
                None => read(&*self.engine, self.place, PAGE_ROWS).await?.into(),
            };
            if let Some(last) = rows.last() {
                self.place = last.place();
                return Ok(rows);
            }
            self.waiter.wait().await?;
        }
    }
}

/// Waits for new commits, or the end of the store.
#[derive(Debug)]
pub(crate) struct Waiter {
    positions: watch::Receiver<Position>,
    ended: watch::Receiver<bool>,
}

impl Waiter {
    /// Makes a waiter on an engine.
    pub(crate) fn new(engine: &dyn Engine) -> Self {
        Self { positions: engine.recent().watch(), ended: engine.poison().ended() }
    }

    /// Counts all commits so far as seen.
    pub(crate) fn mark(&mut self) {
        self.positions.mark_unchanged();
    }

    /// Waits for a commit since the last mark.
    pub(crate) async fn wait(&mut self) -> Result<(), StoreError> {
        tokio::select! {
            changed = self.positions.changed() => changed.map_err(|_| StoreError::Closed),
            _ = self.ended.wait_for(|ended| *ended) => Ok(()),
        }
    }
}

/// Returns up to `limit` rows after a place that are visible now, from memory or disk.
pub(crate) async fn read(
    engine: &dyn Engine,
    place: LogPlace,
    limit: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let recent = engine.recent();
    if let Some(rows) = recent.read(place, limit) {
        return Ok(rows);
    }
    read_disk(engine, place, recent.position(), limit).await
}

/// Returns up to `limit` rows after a place and up to a position, from disk.
async fn read_disk(
    reads: &dyn Reads,
    place: LogPlace,
    upto: Position,
    limit: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let after = (place.position, place.index);
    let range = LOG.between(Bound::Excluded(&after), Bound::Included(&upto));
    let rows = reading::scan(reads, &LOG, &range, Page::first(limit)).await?;
    let entries = rows.into_iter().map(|((position, index), row)| LogEntry {
        position,
        index,
        topic: row.topic,
        payload: row.payload,
    });
    Ok(entries.collect())
}

/// Returns about `limit` rows after a position, all rows of a batch or none.
pub(crate) async fn read_batches(
    engine: &dyn Engine,
    after: Position,
    limit: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let mut rows = read(engine, LogPlace::after(after), limit.saturating_add(1)).await?;
    if rows.len() <= limit {
        return Ok(rows);
    }
    let Some(cut) = rows.last().map(|row| row.position) else {
        return Ok(rows);
    };
    rows.truncate(limit);
    rows.retain(|row| row.position < cut);
    if rows.is_empty() && limit > 0 {
        rows = read_disk(engine, LogPlace::after(after), cut, usize::MAX).await?;
    }
    Ok(rows)
}

/// Deletes the rows up to a position, but none that a follower has not done yet.
pub(crate) async fn trim(store: &Store, upto: Position) -> Result<(), StoreError> {
    let mut upto = upto.min(store.position());
    let mut names = FOLLOWERS.all();
    loop {
        let page = store.scan(&FOLLOWERS, names, Page::first(PAGE_ROWS)).await?;
        let Some((last, _)) = page.last() else { break };
        names = FOLLOWERS.between::<_, ()>(Bound::Excluded(last), Bound::Unbounded);
        for (_, place) in page {
            upto = upto.min(Position::new(place.position.get().saturating_sub(1)));
        }
    }
    let mut rows = LOG.between::<(), _>(Bound::Unbounded, Bound::Included(&upto));
    loop {
        let page = store.scan(&LOG, rows, Page::first(PAGE_ROWS)).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        rows = LOG.between(Bound::Excluded(last), Bound::Included(&upto));
        let mut batch = Batch::new();
        for (key, _) in &page {
            batch.delete(&LOG, key);
        }
        store.commit(batch).await?;
    }
}

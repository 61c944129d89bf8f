//! A durable place in the log, moved in the same batch as the work that was done.

use std::fmt;

use crate::{
    Batch, LogEntry, Position, Store, StoreError,
    log::{self, Waiter},
    tables::{self, LogPlace},
};

#[cfg(test)]
mod tests;

/// Follows the log from where it was before the program stopped.
///
/// A follower does its work for some rows and commits that work together with
/// [`Follower::advance`]; so each row's work is done exactly once. One follower of a name runs at
/// a time.
pub struct Follower {
    store: Store,
    waiter: Waiter,
    name: String,
    begin: LogPlace,
    place: LogPlace,
}

impl Follower {
    /// Takes up the follower with this name; a new one begins with the first log row.
    ///
    /// # Errors
    /// Where its place can't be read.
    pub async fn new(store: Store, name: &str) -> Result<Self, StoreError> {
        Self::starting_after(store, name, Position::ZERO).await
    }

    /// Takes up the follower with this name; a new one begins after a position.
    ///
    /// # Errors
    /// Where its place can't be read.
    pub async fn starting_after(
        store: Store,
        name: &str,
        after: Position,
    ) -> Result<Self, StoreError> {
        let name = name.to_owned();
        let place = store.get(&tables::FOLLOWERS, &name).await?;
        let waiter = Waiter::new(store.engine());
        let begin = LogPlace::after(after);
        Ok(Self { store, waiter, name, begin, place: place.unwrap_or(begin) })
    }

    /// Returns up to `limit` rows that follow the last one done, at least one, in order; waits
    /// where there is none yet. Until [`Follower::advance`] it returns the same rows again.
    ///
    /// # Errors
    /// Where the store has failed or is closed, or the log can't be read.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<LogEntry>, StoreError> {
        loop {
            self.store.engine().poison().check()?;
            self.waiter.mark();
            let rows = log::read(self.store.engine(), self.place, limit.max(1)).await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
            self.waiter.wait().await?;
        }
    }

    /// Counts all rows up to this one as done, once the batch is committed.
    /// Where the commit fails, [`Follower::rewind`] before going on.
    pub fn advance(&mut self, batch: &mut Batch, upto: &LogEntry) {
        self.place = self.place.max(upto.place());
        batch.put(&tables::FOLLOWERS, &self.name, &self.place);
    }

    /// Goes back to the last place that was committed, after a commit that failed.
    ///
    /// # Errors
    /// Where its place can't be read.
    pub async fn rewind(&mut self) -> Result<(), StoreError> {
        let place = self.store.get(&tables::FOLLOWERS, &self.name).await?;
        self.place = place.unwrap_or(self.begin);
        Ok(())
    }

    /// Returns the position of the last row done.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.place.position
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Follower")
            .field("name", &self.name)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

//! Durable queues, one per destination, with the time of the next attempt.

use std::{fmt, ops::Bound};

use crate::{Batch, Family, Key, Page, Position, Reader, Store, StoreError, Table, Value, Writer};

#[cfg(test)]
mod tests;

/// A durable queue per destination: what is pushed in a batch stays until it is removed.
pub struct Outbox<D, T> {
    items: Table<(D, Position, u32), T>,
    retries: Table<D, Retry>,
}

/// An item that waits in an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<T> {
    /// Position of the commit that pushed it.
    pub position: Position,
    /// Its number among the items that this commit pushed.
    pub number: u32,
    /// What is to be delivered.
    pub value: T,
}

/// How delivery to a destination went, and when to try again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// Attempts in a row that failed.
    pub failures: u32,
    /// No attempt before this time, in milliseconds since the Unix epoch.
    pub not_before_ms: u64,
}

/// How long to wait after failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Wait after the first failure, in milliseconds; doubled after each further one.
    pub first_ms: u64,
    /// Longest wait, in milliseconds.
    pub longest_ms: u64,
}

impl Retry {
    /// Returns what holds after one more failure at `now_ms`.
    #[must_use]
    pub fn after_failure(self, now_ms: u64, backoff: Backoff) -> Self {
        let factor = 1_u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let wait_ms = backoff.first_ms.saturating_mul(factor).min(backoff.longest_ms);
        Self {
            failures: self.failures.saturating_add(1),
            not_before_ms: now_ms.saturating_add(wait_ms),
        }
    }
}

impl Value for Retry {
    fn encode(&self, out: &mut Writer) {
        out.extend(&self.failures.to_be_bytes());
        out.extend(&self.not_before_ms.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Reader::new(bytes);
        let failures = u32::from_be_bytes(input.array()?);
        let not_before_ms = u64::from_be_bytes(input.array()?);
        input.finish()?;
        Ok(Self { failures, not_before_ms })
    }
}

impl<D: Key + Clone, T: Value> Outbox<D, T> {
    /// Names an outbox by the numbers of its two tables: one for items, one for retry times.
    #[must_use]
    pub const fn new(items: u16, retries: u16, name: &'static str) -> Self {
        Self {
            items: Table::new(items, name, Family::Index),
            retries: Table::new(retries, name, Family::Main),
        }
    }

    /// Appends an item to a destination's queue when the batch is committed.
    /// Items of one batch keep their order.
    pub fn push(&self, batch: &mut Batch, destination: &D, item: &T) {
        let number = batch.next_item();
        batch.put(&self.items, &(destination.clone(), Position::PENDING, number), item);
    }

    /// Returns up to `limit` items of a destination, oldest first. They stay in the queue.
    ///
    /// # Errors
    /// Where they can't be read.
    pub async fn peek(
        &self,
        store: &Store,
        destination: &D,
        limit: usize,
    ) -> Result<Vec<Item<T>>, StoreError> {
        let range = self.items.prefix(destination);
        let rows = store.scan(&self.items, range, Page::first(limit)).await?;
        let items =
            rows.into_iter().map(|((_, position, number), value)| Item { position, number, value });
        Ok(items.collect())
    }

    /// Removes delivered items when the batch is committed, and forgets earlier failures.
    pub fn remove(&self, batch: &mut Batch, destination: &D, items: &[Item<T>]) {
        for item in items {
            batch.delete(&self.items, &(destination.clone(), item.position, item.number));
        }
        batch.delete(&self.retries, destination);
    }

    /// Returns destinations that have items waiting, up to `limit`, in order, after one of them.
    ///
    /// # Errors
    /// Where they can't be read.
    pub async fn destinations(
        &self,
        store: &Store,
        after: Option<&D>,
        limit: usize,
    ) -> Result<Vec<D>, StoreError> {
        let mut found: Vec<D> = Vec::new();
        while found.len() < limit {
            let lower = match found.last().or(after) {
                Some(last) => Bound::Excluded(last),
                None => Bound::Unbounded,
            };
            let range = self.items.between::<_, ()>(lower, Bound::Unbounded);
            let row = store.scan(&self.items, range, Page::first(1)).await?.pop();
            let Some(((destination, ..), _)) = row else { break };
            found.push(destination);
        }
        Ok(found)
    }

    /// Returns how delivery to a destination went so far.
    ///
    /// # Errors
    /// Where it can't be read.
    pub async fn retry(&self, store: &Store, destination: &D) -> Result<Retry, StoreError> {
        Ok(store.get(&self.retries, destination).await?.unwrap_or_default())
    }

    /// Remembers how delivery to a destination went, when the batch is committed.
    pub fn set_retry(&self, batch: &mut Batch, destination: &D, retry: Retry) {
        if retry == Retry::default() {
            batch.delete(&self.retries, destination);
        } else {
            batch.put(&self.retries, destination, &retry);
        }
    }
}

impl<D, T> fmt::Debug for Outbox<D, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Outbox").field("items", &self.items).finish_non_exhaustive()
    }
}

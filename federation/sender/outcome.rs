//! What follows when a transaction came through, or did not.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::Bound,
    sync::Arc,
};

use ruma::ServerName;
use store::{Batch, Json, Key, Page, StoreError, Table, Value};

use super::{
    Shared,
    tables::{CATCH_UP, EDUS, OUTBOX, RETRIES, RetryRow},
    transaction::Open,
};

/// Wait after the first failure, in milliseconds; doubled after each further one.
pub(super) const BACKOFF_MS_FIRST: u64 = 1_000;

/// For how long a server counts as away for a moment, as for a restart, and the longest wait
/// meanwhile, in milliseconds: its users wait for messages when it is back. After that each wait is
/// half as long as the server has been away.
pub(super) const MOMENT_MS: u64 = 300_000;
pub(super) const MOMENT_BACKOFF_MS_MAX: u64 = 20_000;

/// Longest wait between two attempts, in milliseconds.
pub(super) const BACKOFF_MS_MAX: u64 = 3_600_000;

/// For how long a server may be away before only the rooms are noted in which it misses something,
/// in milliseconds.
pub(super) const BEHIND_AFTER_MS: u64 = 3_600_000;

/// How many events may wait for a server that is away before that, and how many for any.
pub(super) const EVENTS_AWAY_MAX: u64 = 1_000;
pub(super) const EVENTS_MAX: u64 = 50_000;

/// How many durable EDUs may wait for a server. Beyond it nothing more is told.
pub(super) const EDUS_MAX: usize = 10_000;

/// How many rows are deleted at a time.
const PAGE_LEN: usize = 500;

impl RetryRow {
    /// What holds after one more failure.
    pub(super) fn after_failure(
        self,
        server: &ServerName,
        now_ms: u64,
        retry_after_ms: Option<u64>,
    ) -> Self {
        let since_ms = if self.failures == 0 { now_ms } else { self.since_ms };
        let away_ms = now_ms.saturating_sub(since_ms);
        let wait_ms = if away_ms < MOMENT_MS {
            (BACKOFF_MS_FIRST << self.failures.min(16)).min(MOMENT_BACKOFF_MS_MAX)
        } else {
            (away_ms / 2).min(BACKOFF_MS_MAX)
        };
        // A little more or less, so that those who went away together do not come together.
        let mut hasher = DefaultHasher::new();
        (server.as_str(), self.failures, now_ms).hash(&mut hasher);
        let wait_ms = wait_ms - wait_ms / 10 + hasher.finish() % (wait_ms / 5).max(1);
        let wait_ms = wait_ms.max(retry_after_ms.unwrap_or(0).min(BACKOFF_MS_MAX));
        Self {
            failures: self.failures.saturating_add(1),
            since_ms,
            not_before_ms: now_ms.saturating_add(wait_ms),
            is_behind: self.is_behind,
        }
    }
}

impl Shared {
    /// Deletes what a transaction has brought, and forgets earlier failures.
    pub(super) async fn note_success(
        &self,
        server: &ServerName,
        open: &Open,
    ) -> Result<(), StoreError> {
        let was_well = self.destinations.with(server, |destination| {
            let was_well = destination.is_well();
            destination.retry = RetryRow::default();
            destination.events = destination.events.saturating_sub(open.events.len() as u64);
            destination.edus = destination.edus.saturating_sub(open.edus.len() as u64);
            was_well
        });
        let was_well = was_well.unwrap_or(true);
        if !was_well {
            tracing::info!(destination = %server, "a server is back");
        }
        let name = server.to_string();
        let done = || {
            let mut batch = Batch::new();
            for (position, index) in &open.events {
                batch.delete(&OUTBOX, &(name.clone(), *position, *index));
            }
            for (position, index) in &open.edus {
                batch.delete(&EDUS, &(name.clone(), *position, *index));
            }
            self.users.stage_to_device_sent(&mut batch, server, &open.to_device);
            if !was_well {
                batch.delete(&RETRIES, &name);
            }
            batch
        };
        let mut batch = done();
        for (room, event) in &open.missed {
            let key = (name.clone(), *room);
            batch.expect(&CATCH_UP, &key, Some(event));
            batch.delete(&CATCH_UP, &key);
        }
        if batch.is_empty() {
            return Ok(());
        }
        match self.store.commit(batch).await {
            // Something more was missed in one of the rooms: they are looked at again.
            Err(StoreError::Conflict { .. }) => {
                let batch = done();
                if batch.is_empty() { Ok(()) } else { self.store.commit(batch).await.map(drop) }
            }
            result => result.map(drop),
        }
    }

    /// Remembers that a transaction did not come through, and when to try again.
    pub(super) async fn note_failure(
        &self,
        server: &ServerName,
        retry_after_ms: Option<u64>,
        open: Option<Arc<Open>>,
    ) {
        let now_ms = self.now_ms();
        let retry = self.destinations.with(server, |destination| {
            let mut retry = destination.retry.after_failure(server, now_ms, retry_after_ms);
            let away_ms = now_ms.saturating_sub(retry.since_ms);
            retry.is_behind |= destination.has_missed
                || away_ms >= BEHIND_AFTER_MS
                || destination.events > EVENTS_AWAY_MAX;
            // From here on its queue is filled no longer.
            destination.retry = retry;
            destination.fleeting.clear_typing();
            if retry.is_behind {
                destination.fleeting.clear();
            } else {
                destination.open = open.filter(|open| open.is_fresh(now_ms));
            }
            retry
        });
        let Some(retry) = retry else { return };
        if retry.failures == 1 {
            tracing::info!(destination = %server, "a server does not take what we send");
        }
        let mut batch = Batch::new();
        batch.put(&RETRIES, &server.to_string(), &Json(retry));
        let mut result = self.store.commit(batch).await.map(drop);
        if retry.is_behind && result.is_ok() {
            result = self.fall_behind(server).await;
        }
        if let Err(error) = result {
            tracing::error!(%error, destination = %server, "a failure cannot be remembered");
        }
        self.destinations.give_up(server, retry);
        self.sooner.notify_one();
    }

    /// Deletes everything that waits for a server.
    pub(super) async fn drop_queue(&self, server: &ServerName) {
        let name = server.to_string();
        let result = async {
            self.delete_all(&OUTBOX, &name).await?;
            self.delete_all(&EDUS, &name).await?;
            self.delete_all(&CATCH_UP, &name).await?;
            let mut batch = Batch::new();
            batch.delete(&RETRIES, &name);
            self.store.commit(batch).await.map(drop)
        };
        if let Err(error) = result.await {
            tracing::error!(%error, destination = %server, "a queue cannot be dropped");
        }
        self.destinations.forget(server);
    }

    async fn delete_all<K: Key, V: Value>(
        &self,
        table: &Table<K, V>,
        server: &String,
    ) -> Result<(), StoreError> {
        loop {
            let range = table.between(Bound::Included(server), Bound::Included(server));
            let rows = self.store.scan(table, range, Page::first(PAGE_LEN)).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut batch = Batch::new();
            for (key, _) in &rows {
                batch.delete(table, key);
            }
            self.store.commit(batch).await?;
        }
    }
}

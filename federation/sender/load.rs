//! Taking up what was left when the program ended.

use std::{collections::BTreeSet, ops::Bound, sync::Arc, time::Duration};

use ruma::{OwnedServerName, ServerName};
use store::{Json, Key, Page, StoreError, Table, Value};

use super::{
    Shared,
    outcome::EVENTS_AWAY_MAX,
    tables::{CATCH_UP, EDUS, OUTBOX, RETRIES},
    transaction::SenderError,
};

/// How many rows are read at a time.
const PAGE_LEN: usize = 500;

/// How long it is waited after the store could not be read.
const PAUSE: Duration = Duration::from_millis(200);

/// A server that has been away for less than this, in milliseconds, is tried at once after a start;
/// after more it waits until it is due.
const FORGIVEN_MS: u64 = 1_800_000;

/// Loads what is known of servers that did not answer, and starts the tasks of those for whom
/// something waits. Tries until it can; `false` when the store is gone.
pub(super) async fn load(shared: &Arc<Shared>) -> bool {
    loop {
        match try_load(shared).await {
            Ok(()) => return true,
            Err(SenderError::Store(StoreError::Closed | StoreError::Failed { .. })) => {
                return false;
            }
            Err(error) => {
                tracing::warn!(%error, "what waits to be sent cannot be read, and is tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn try_load(shared: &Arc<Shared>) -> Result<(), SenderError> {
    let now_ms = shared.now_ms();
    let mut after: Option<String> = None;
    loop {
        let lower = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = RETRIES.between::<_, ()>(lower, Bound::Unbounded);
        let rows = shared.store.scan(&RETRIES, range, Page::first(PAGE_LEN)).await?;
        for (name, Json(retry)) in &rows {
            let mut retry = *retry;
            let Ok(server) = ServerName::parse(name) else { continue };
            if now_ms.saturating_sub(retry.since_ms) < FORGIVEN_MS {
                retry.not_before_ms = retry.not_before_ms.min(now_ms);
            }
            shared.destinations.remember(&server, retry);
        }
        match rows.into_iter().next_back() {
            Some((name, _)) => after = Some(name),
            None => break,
        }
    }
    let mut servers = destinations(shared, &OUTBOX).await?;
    servers.append(&mut destinations(shared, &EDUS).await?);
    let missed = destinations(shared, &CATCH_UP).await?;
    servers.extend(missed.iter().cloned());
    let to_device: BTreeSet<_> = shared.users.to_device_destinations().await?.into_iter().collect();
    servers.extend(to_device.iter().cloned());
    let mut counted = Vec::with_capacity(servers.len());
    for server in servers {
        let name = server.to_string();
        // Enough to know whether it is too much.
        let page = Page::first(usize::try_from(EVENTS_AWAY_MAX + 1).unwrap_or(PAGE_LEN));
        let events = shared.store.scan(&OUTBOX, OUTBOX.prefix(&name), page).await?.len();
        let edus = shared.store.scan(&EDUS, EDUS.prefix(&name), page).await?.len();
        counted.push((server, events as u64, edus as u64));
    }
    // All of them begin at the same time.
    for (server, events, edus) in counted {
        shared.touch(&server, |destination| {
            destination.events += events;
            destination.edus += edus;
            destination.has_missed |= missed.contains(&server);
            destination.has_to_device |= to_device.contains(&server);
        });
    }
    Ok(())
}

/// The servers that have rows in a table. Skips from one to the next.
async fn destinations<K: Key + ServerFirst, V: Value>(
    shared: &Shared,
    table: &Table<K, V>,
) -> Result<BTreeSet<OwnedServerName>, StoreError> {
    let mut found = BTreeSet::new();
    let mut last: Option<String> = None;
    loop {
        let lower = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let range = table.between::<_, ()>(lower, Bound::Unbounded);
        let row = shared.store.scan(table, range, Page::first(1)).await?.pop();
        let Some((key, _)) = row else { return Ok(found) };
        let name = key.server();
        found.extend(ServerName::parse(&name).ok());
        last = Some(name);
    }
}

/// A key that begins with a server.
trait ServerFirst {
    fn server(self) -> String;
}

impl<A, B> ServerFirst for (String, A, B) {
    fn server(self) -> String {
        self.0
    }
}

impl<A> ServerFirst for (String, A) {
    fn server(self) -> String {
        self.0
    }
}

//! Where the keys of other servers are kept: in memory and in the store.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedServerName, ServerName};
use store::{Batch, Json, Store, StoreError};
use tokio::sync::Mutex;

use crate::{
    keyring::document::{Document, ServerKeys},
    tables::{SERVER_KEYS, server_key},
};

/// How many servers' keys are expected to be needed at a time.
const SERVERS_MAX: usize = 10_000;

/// Memory for keys, in bytes.
const KEYS_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// About how much memory one key takes, in bytes.
const KEY_BYTES: u64 = 160;

/// The keys that we have, and when we last asked for which.
#[derive(Debug)]
pub(crate) struct Shelf {
    store: Store,
    known: Cache<OwnedServerName, Arc<ServerKeys>, BySize>,
    asked: Cache<OwnedServerName, Arc<Mutex<Asked>>>,
}

/// Weighs what is known of a server by the memory that it takes.
#[derive(Clone, Debug)]
struct BySize;

impl Weighter<OwnedServerName, Arc<ServerKeys>> for BySize {
    fn weight(&self, _: &OwnedServerName, known: &Arc<ServerKeys>) -> u64 {
        let document = known.document.as_ref().map_or(0, String::len) as u64;
        document.saturating_add((known.keys.len() as u64 + 1).saturating_mul(KEY_BYTES))
    }
}

/// When a server was last asked for its keys. Whoever holds the lock asks; the others wait for the
/// answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asked {
    /// When it last answered, if it did.
    pub(crate) answered_ms: Option<u64>,
    /// When it last failed.
    pub(crate) failed_ms: u64,
    /// Failures in a row.
    pub(crate) failures: u32,
}

impl Shelf {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            known: Cache::with_weighter(SERVERS_MAX, KEYS_BYTES_MAX, BySize),
            asked: Cache::new(SERVERS_MAX),
        }
    }

    /// What is known of a server's keys.
    pub(crate) async fn get(
        &self,
        server: &OwnedServerName,
    ) -> Result<Arc<ServerKeys>, StoreError> {
        if let Some(known) = self.known.get(server) {
            return Ok(known);
        }
        let stored = self.store.get(&SERVER_KEYS, &server_key(server)).await?;
        let keys = Arc::new(stored.map(|Json(keys)| keys).unwrap_or_default());
        // Only where nobody learned more meanwhile.
        self.known.get_or_insert_with(server, || Ok::<_, StoreError>(keys))
    }

    /// The right to ask a server.
    pub(crate) fn asked(&self, server: &ServerName) -> Arc<Mutex<Asked>> {
        let server = server.to_owned();
        self.asked
            .get_or_insert_with(&server, || Ok::<_, ()>(Arc::default()))
            .unwrap_or_else(|()| Arc::default())
    }

    /// Forgets a server's failures, where nobody is asking it just now.
    pub(crate) fn note_alive(&self, server: &ServerName) {
        if let Some(asked) = self.asked.get(server)
            && let Ok(mut asked) = asked.try_lock()
        {
            asked.failures = 0;
        }
    }

    /// Adds what a document says. Whoever calls this holds the right to ask the server.
    pub(crate) async fn learn(
        &self,
        server: &OwnedServerName,
        document: Document,
    ) -> Result<Arc<ServerKeys>, StoreError> {
        let mut keys = ServerKeys::clone(&*self.get(server).await?);
        keys.learn(document);
        let mut batch = Batch::new();
        let row = Json(keys);
        batch.put(&SERVER_KEYS, &server_key(server), &row);
        self.store.commit(batch).await?;
        let keys = Arc::new(row.0);
        self.known.insert(server.clone(), Arc::clone(&keys));
        Ok(keys)
    }
}

//! Which lists are being fetched, so that none is fetched twice at the same time, and none is kept
//! that changed meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use ruma::{OwnedServerName, OwnedUserId, ServerName, UserId};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, Semaphore};

/// Servers whose locks are kept before those that nobody holds are dropped.
const IDLE_LOCKS_MAX: usize = 1_024;

/// Lists that are fetched behind the scenes at the same time.
const RESYNCS_AT_ONCE: usize = 16;

/// The fetches under way.
#[derive(Clone, Debug)]
pub(crate) struct Fetching {
    inner: Arc<Mutex<Inner>>,
    /// Permits for fetches that no client waits for.
    pub(super) behind: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Inner {
    servers: HashMap<OwnedServerName, Weak<AsyncMutex<()>>>,
    /// Users being fetched, and whether something was told of them meanwhile.
    users: HashMap<OwnedUserId, bool>,
    /// Users who wait for a fetch behind the scenes.
    queued: HashMap<OwnedUserId, ()>,
}

/// Users being fetched, until it is dropped.
#[derive(Debug)]
pub(super) struct Fetch {
    fetching: Fetching,
    users: Vec<OwnedUserId>,
}

impl Default for Fetching {
    fn default() -> Self {
        Self { inner: Arc::default(), behind: Arc::new(Semaphore::new(RESYNCS_AT_ONCE)) }
    }
}

impl Fetching {
    /// Waits for the turn to fetch lists from a server.
    pub(super) async fn turn(&self, server: &ServerName) -> OwnedMutexGuard<()> {
        let lock = {
            let mut inner = self.lock();
            if inner.servers.len() > IDLE_LOCKS_MAX {
                inner.servers.retain(|_, lock| lock.strong_count() > 0);
            }
            match inner.servers.get(server).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    inner.servers.insert(server.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }

    /// Begins to fetch users. Whose turn it is holds the lock of their server.
    pub(super) fn begin(&self, users: Vec<OwnedUserId>) -> Fetch {
        let mut inner = self.lock();
        for user_id in &users {
            inner.users.insert(user_id.clone(), false);
        }
        drop(inner);
        Fetch { fetching: self.clone(), users }
    }

    /// Notes that something is told of a user. Says whether they are being fetched.
    pub(super) fn disturb(&self, user_id: &UserId) -> bool {
        match self.lock().users.get_mut(user_id) {
            Some(disturbed) => {
                *disturbed = true;
                true
            }
            None => false,
        }
    }

    /// Notes that a user waits for a fetch behind the scenes; false where they do already, or too
    /// many wait.
    pub(super) fn queue(&self, user_id: &UserId) -> bool {
        let mut inner = self.lock();
        inner.queued.len() < 64 * RESYNCS_AT_ONCE
            && inner.queued.insert(user_id.to_owned(), ()).is_none()
    }

    /// Notes that the fetch of a user behind the scenes begins.
    pub(super) fn unqueue(&self, user_id: &UserId) {
        self.lock().queued.remove(user_id);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetch {
    /// Whether nothing was told of a user since it began.
    pub(super) fn is_undisturbed(&self, user_id: &UserId) -> bool {
        self.fetching.lock().users.get(user_id) == Some(&false)
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let mut inner = self.fetching.lock();
        for user_id in &self.users {
            inner.users.remove(user_id);
        }
    }
}

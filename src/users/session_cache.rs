//! Sessions in memory, so that a request reads no disk to know who calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quick_cache::unsync::Cache;
use ruma::UserId;

use crate::{sessions::Session, tokens::TokenHash};

/// Sessions kept in memory at most.
const SESSIONS_MAX: usize = 20_000;

/// Sessions by the hash of their access token.
#[derive(Debug)]
pub(crate) struct SessionCache {
    entries: Mutex<Entries>,
}

#[derive(Debug)]
struct Entries {
    by_hash: Cache<TokenHash, Arc<Session>>,
    /// Grows whenever something is forgotten: what was read before must not be remembered after.
    epoch: u64,
}

/// The state of the cache before a read, which decides whether its result may be remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(u64);

impl Default for SessionCache {
    fn default() -> Self {
        let entries = Entries { by_hash: Cache::new(SESSIONS_MAX), epoch: 0 };
        Self { entries: Mutex::new(entries) }
    }
}

impl SessionCache {
    /// The session of a token, or the epoch to remember it with.
    pub(crate) fn get(&self, hash: &TokenHash) -> Result<Arc<Session>, Epoch> {
        let entries = self.lock();
        entries.by_hash.get(hash).cloned().ok_or(Epoch(entries.epoch))
    }

    /// Remembers a session that was read since `epoch`, unless something was forgotten since.
    pub(crate) fn remember(&self, epoch: Epoch, hash: TokenHash, session: &Arc<Session>) {
        let mut entries = self.lock();
        if entries.epoch == epoch.0 {
            entries.by_hash.insert(hash, Arc::clone(session));
        }
    }

    /// Forgets tokens. Called after the commit that ended or changed them.
    pub(crate) fn forget(&self, hashes: impl IntoIterator<Item = TokenHash>) {
        let mut entries = self.lock();
        entries.epoch += 1;
        for hash in hashes {
            entries.by_hash.remove(&hash);
        }
    }

    /// Forgets all tokens of a user. Called after the commit that changed the account.
    pub(crate) fn forget_user(&self, user_id: &UserId) {
        let mut entries = self.lock();
        entries.epoch += 1;
        entries.by_hash.retain(|_, session| *session.user_id != *user_id);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The clients that wait for news, by user.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedUserId, UserId};
use tokio::sync::{Notify, futures::Notified};

type ByUser = HashMap<OwnedUserId, Arc<Notify>>;

/// Everybody who waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiters {
    by_user: Arc<Mutex<ByUser>>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, ByUser> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a place to wait for news of a user.
    pub(crate) fn join(&self, user_id: &UserId) -> Waiting {
        let notify = Arc::clone(self.lock().entry(user_id.to_owned()).or_default());
        Waiting { waiters: self.clone(), user_id: user_id.to_owned(), notify }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Wakes the clients of a user.
    pub(crate) fn wake(&self, user_id: &UserId) {
        if let Some(notify) = self.lock().get(user_id) {
            notify.notify_waiters();
        }
    }

    /// Wakes the clients of all these users. Costs as much as the smaller of both sets.
    pub(crate) fn wake_many(&self, users: &BTreeSet<OwnedUserId>) {
        let by_user = self.lock();
        if users.len() < by_user.len() {
            for notify in users.iter().filter_map(|user_id| by_user.get(user_id)) {
                notify.notify_waiters();
            }
        } else {
            for (_, notify) in by_user.iter().filter(|(user_id, _)| users.contains(*user_id)) {
                notify.notify_waiters();
            }
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        for notify in self.lock().values() {
            notify.notify_waiters();
        }
    }
}

/// A place where one client waits. Its user is forgotten when the last one is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    waiters: Waiters,
    user_id: OwnedUserId,
    notify: Arc<Notify>,
}

impl Waiting {
    /// Completes at the next news. To be enabled before what is there already is looked at.
    pub(crate) fn news(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut by_user = self.waiters.lock();
        // Clones are made under the lock only: the map's and ours are the last two.
        if Arc::strong_count(&self.notify) <= 2 {
            by_user.remove(&self.user_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn alice() -> &'static UserId {
        user_id!("@alice:example.org")
    }

    fn bob() -> &'static UserId {
        user_id!("@bob:example.org")
    }

    async fn is_woken(news: std::pin::Pin<&mut Notified<'_>>) -> bool {
        tokio::select! {
            biased;
            () = news => true,
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn only_those_meant_are_woken() {
        let waiters = Waiters::default();
        let (first, second) = (waiters.join(alice()), waiters.join(bob()));
        let mut for_alice = std::pin::pin!(first.news());
        let mut for_bob = std::pin::pin!(second.news());
        for_alice.as_mut().enable();
        for_bob.as_mut().enable();
        waiters.wake_many(&BTreeSet::from([alice().to_owned()]));
        assert!(is_woken(for_alice.as_mut()).await);
        assert!(!is_woken(for_bob.as_mut()).await);
        waiters.wake(bob());
        assert!(is_woken(for_bob.as_mut()).await);
    }

    #[test]
    fn who_no_longer_waits_is_forgotten() {
        let waiters = Waiters::default();
        let first = waiters.join(alice());
        let second = waiters.join(alice());
        drop(first);
        assert!(!waiters.is_empty());
        drop(second);
        assert!(waiters.is_empty());
    }
}

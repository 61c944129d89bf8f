//! The servers that have something to be told, or did not answer the last time. Kept in memory, and
//! changed without waiting for anything.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rooms::RoomNumber;
use ruma::{OwnedServerName, ServerName};

use super::{edus::Fleeting, tables::RetryRow, transaction::Open};

/// How often a server that speaks to us is tried again before its time, at most, in milliseconds.
const ALIVE_PAUSE_MS: u64 = 5_000;

/// All such servers.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_name: HashMap<OwnedServerName, Destination>,
    /// Those that rest, by when they are to be tried again.
    due: BTreeSet<(u64, OwnedServerName)>,
}

/// One server.
#[derive(Debug, Default)]
pub(super) struct Destination {
    /// How it went so far.
    pub(super) retry: RetryRow,
    /// Whether its task runs, and whether there is something new for it since it looked.
    is_running: bool,
    again: bool,
    /// How many events wait for it, about.
    pub(super) events: u64,
    /// How many durable EDUs wait for it, about.
    pub(super) edus: u64,
    /// Whether there may be rows of rooms in which it has missed something.
    pub(super) has_missed: bool,
    /// The rooms of those rows, as far as they are known.
    pub(super) missed: HashSet<RoomNumber>,
    /// Whether there may be messages for its devices.
    pub(super) has_to_device: bool,
    /// What is fleeting.
    pub(super) fleeting: Fleeting,
    /// The transaction that did not come through, to be sent again as it was.
    pub(super) open: Option<Arc<Open>>,
    /// When it was last tried because it spoke to us.
    alive_ms: u64,
}

impl Destination {
    /// Whether it answered the last time.
    pub(super) fn is_well(&self) -> bool {
        self.retry.failures == 0
    }

    /// Whether it has been away for so long that only the rooms are noted in which it misses
    /// something.
    pub(super) fn is_behind(&self) -> bool {
        self.retry.is_behind
    }

    fn is_idle(&self) -> bool {
        self.is_well() && !self.is_running && self.fleeting.is_empty()
    }
}

/// What may be done after a look at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The task has to look again.
    Again,
    /// The task is over.
    Rest,
}

impl Destinations {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is to be told to a server. Tells whether its task has to be started now.
    pub(super) fn touch(
        &self,
        server: &ServerName,
        now_ms: u64,
        change: impl FnOnce(&mut Destination),
    ) -> bool {
        let mut inner = self.lock();
        if !inner.by_name.contains_key(server) {
            inner.by_name.insert(server.to_owned(), Destination::default());
        }
        let Some(destination) = inner.by_name.get_mut(server) else { return false };
        change(destination);
        destination.again = true;
        if destination.is_running || destination.retry.not_before_ms > now_ms {
            return false;
        }
        destination.is_running = true;
        true
    }

    /// Looks at, or changes, what is known of a server, if anything is; its task is left alone.
    pub(super) fn with<T>(
        &self,
        server: &ServerName,
        work: impl FnOnce(&mut Destination) -> T,
    ) -> Option<T> {
        self.lock().by_name.get_mut(server).map(work)
    }

    /// Takes over what the store says of a server that did not answer the last time.
    pub(super) fn remember(&self, server: &ServerName, retry: RetryRow) {
        let mut inner = self.lock();
        inner.due.insert((retry.not_before_ms, server.to_owned()));
        let destination = inner.by_name.entry(server.to_owned()).or_default();
        destination.retry = retry;
        destination.has_missed |= retry.is_behind;
    }

    /// The task of a server begins to look for what there is to be sent. `false` once the server is
    /// forgotten.
    pub(super) fn begin(&self, server: &ServerName) -> bool {
        self.with(server, |destination| destination.again = false).is_some()
    }

    /// The task of a server found nothing to be sent.
    pub(super) fn rest(&self, server: &ServerName) -> Next {
        let mut inner = self.lock();
        let Some(destination) = inner.by_name.get_mut(server) else { return Next::Rest };
        if destination.again {
            return Next::Again;
        }
        destination.is_running = false;
        // Every row has been looked at: the counts were estimates.
        destination.events = 0;
        destination.edus = 0;
        if destination.is_idle() {
            inner.by_name.remove(server);
        }
        Next::Rest
    }

    /// A transaction did not come through: the task of the server is over until it is due.
    pub(super) fn give_up(&self, server: &ServerName, retry: RetryRow) {
        let mut inner = self.lock();
        let Some(destination) = inner.by_name.get_mut(server) else { return };
        destination.is_running = false;
        destination.retry = retry;
        inner.due.insert((retry.not_before_ms, server.to_owned()));
    }

    /// Forgets a server.
    pub(super) fn forget(&self, server: &ServerName) {
        self.lock().by_name.remove(server);
    }

    /// Marks those as running whose time has come, and gives them, up to a limit; and when the next
    /// one's comes.
    pub(super) fn take_due(
        &self,
        now_ms: u64,
        limit: usize,
    ) -> (Vec<OwnedServerName>, Option<u64>) {
        let mut inner = self.lock();
        let Inner { by_name, due } = &mut *inner;
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some((at_ms, _)) = due.first()
        {
            if *at_ms > now_ms {
                return (taken, Some(*at_ms));
            }
            let Some((at_ms, server)) = due.pop_first() else { break };
            let Some(destination) = by_name.get_mut(&server) else { continue };
            // It may have been tried sooner, and be due at another time.
            if !destination.is_running && destination.retry.not_before_ms == at_ms {
                destination.is_running = true;
                taken.push(server);
            }
        }
        let next_ms = due.first().map(|(at_ms, _)| *at_ms);
        (taken, next_ms)
    }

    /// A server spoke to us. Tells whether its task has to be started now.
    pub(super) fn note_alive(&self, server: &ServerName, now_ms: u64) -> bool {
        let mut inner = self.lock();
        let Some(destination) = inner.by_name.get_mut(server) else { return false };
        let is_early = now_ms.saturating_sub(destination.alive_ms) < ALIVE_PAUSE_MS;
        if destination.is_well() || destination.is_running || is_early {
            return false;
        }
        destination.alive_ms = now_ms;
        destination.is_running = true;
        true
    }

    /// How many events and EDUs wait, and how many servers rest after a failure.
    pub(super) fn count(&self) -> (u64, u64, usize) {
        let inner = self.lock();
        let (mut events, mut edus, mut resting) = (0, 0, 0);
        for destination in inner.by_name.values() {
            events += destination.events;
            edus += destination.edus;
            resting += usize::from(!destination.is_well());
        }
        (events, edus, resting)
    }

    /// How many tasks run.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.lock().by_name.values().filter(|destination| destination.is_running).count()
    }

    /// How many servers are in memory.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().by_name.len()
    }
}

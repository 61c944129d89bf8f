//! Batches that wait for the committer, who takes them all at once.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::{Batch, Position, StoreError};

/// Callers that may wait for their commits; further ones wait for a place.
const PLACES: usize = 1_024;
/// Longest wait for those who were just answered to come again, as a part of the last write.
const PATIENCE_PART: u32 = 8;
/// Longest such wait.
const PATIENCE_MAX: Duration = Duration::from_micros(300);

/// A batch that waits to be written.
pub(super) struct Request {
    /// What is to be written.
    pub(super) batch: Batch,
    /// Who is to be told.
    pub(super) answer: oneshot::Sender<Result<Position, StoreError>>,
}

/// The queue. Whoever adds wakes the committer only if it waits for no more than there is.
pub(super) struct Queue {
    state: Mutex<State>,
    enough: Condvar,
    places: Semaphore,
}

/// What waits.
struct State {
    waiting: Vec<Request>,
    /// Number of requests that wake the committer.
    wanted: usize,
    /// Number of requests that will likely come soon; 0 where that is not worth a wait.
    expected: usize,
    /// How long they are worth waiting for.
    patience: Duration,
    closed: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: Vec::new(),
                wanted: 1,
                expected: 0,
                patience: Duration::ZERO,
                closed: false,
            }),
            enough: Condvar::new(),
            places: Semaphore::new(PLACES),
        }
    }
}

impl Queue {
    /// Waits for a place; it is given back when dropped.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        self.places.acquire().await.map_err(|_| StoreError::Closed)
    }

    /// Adds a request.
    pub(super) fn push(&self, request: Request) -> Result<(), StoreError> {
        let mut state = self.lock();
        if state.closed {
            return Err(StoreError::Closed);
        }
        state.waiting.push(request);
        let enough = state.waiting.len() >= state.wanted;
        drop(state);
        if enough {
            self.enough.notify_one();
        }
        Ok(())
    }

    /// Waits for requests and takes all of them; `None` once there can be no more.
    ///
    /// Those who were just answered are given a moment to come again, so that they share a sync
    /// with those who came meanwhile. Where there was only one, nobody waits.
    pub(super) fn take(&self) -> Option<Vec<Request>> {
        let mut state = self.lock();
        if state.waiting.len() < state.expected {
            state.wanted = state.expected;
            let patience = state.patience;
            let few = |state: &mut State| state.waiting.len() < state.wanted && !state.closed;
            let waited = self.enough.wait_timeout_while(state, patience, few);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wanted = 1;
        let none = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.enough.wait_while(state, none);
        state = waited.unwrap_or_else(PoisonError::into_inner);
        // Nobody needs to wake a committer that is at work.
        state.wanted = usize::MAX;
        let waiting = std::mem::take(&mut state.waiting);
        if waiting.is_empty() { None } else { Some(waiting) }
    }

    /// Remembers how many were answered and how long their write took, to guess what comes next.
    pub(super) fn answered(&self, count: usize, took: Duration) {
        let mut state = self.lock();
        let writers = count + state.waiting.len();
        state.expected = if writers > 1 { writers } else { 0 };
        state.patience = (took / PATIENCE_PART).min(PATIENCE_MAX);
    }

    /// Lets no more requests in; those that wait are still taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.enough.notify_one();
    }

    /// Lets no more requests in and forgets those that wait, whose callers then learn of it.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
    }

    /// Locks the state. No code that holds it can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! What a user has not seen yet: syncs, and who is woken by what.
//!
//! One notifier follows the store's log and remembers when each room and user changed last; one
//! builder makes the delta of a room. The kinds of sync are faces of both. This crate does not know
//! the HTTP of clients.

mod classic;
mod delta;
mod device_lists;
mod error;
mod filter;
mod ignored;
mod notifier;
mod request;
mod sent_members;
mod shape;
mod standing;
mod token;

#[cfg(test)]
mod tests;

use std::{pin::pin, sync::Arc, time::Duration};

use clock::Clock;
use rooms::{Position, Rooms};
use ruma::{
    UserId,
    api::client::sync::sync_events::{DeviceLists, v3::Response},
};
use store::Store;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use users::Users;

use crate::{
    classic::{Stretch, Wish},
    notifier::Notifier,
    sent_members::{KnownMembers, SentMembers},
};

pub use crate::{
    error::{Result, SyncError},
    filter::{TIMELINE_LIMIT_DEFAULT, TIMELINE_LIMIT_MAX},
    request::SyncRequest,
    token::SyncToken,
};

/// Longest wait of a sync, in milliseconds. A larger `timeout` is cut to this.
pub const SYNC_TIMEOUT_MS_MAX: u64 = 120_000;

/// Tells users what is new. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Syncing {
    pub(crate) inner: Arc<Inner>,
}

/// What all clones of [`Syncing`] share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) notifier: Notifier,
    sent_members: SentMembers,
    /// Names this run of the server in tokens.
    boot: u64,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// Counts a waiting sync while it exists.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("syncs_waiting").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("syncs_waiting").decrement(1);
    }
}

impl Syncing {
    /// Starts to follow the log. Has to be called within a tokio runtime.
    #[must_use]
    pub fn start(store: Store, rooms: Rooms, users: Users, clock: Arc<dyn Clock>) -> Self {
        let closing = CancellationToken::new();
        let notifier = Notifier::new(store, rooms.clone(), users.clone(), closing.clone());
        let inner = Inner {
            rooms,
            users,
            boot: clock.now_ms(),
            clock,
            notifier: notifier.clone(),
            sent_members: SentMembers::default(),
            closing,
            tasks: TaskTracker::new(),
        };
        let syncing = Self { inner: Arc::new(inner) };
        syncing.spawn(notifier.clone().follow_log());
        syncing.spawn(notifier.clone().follow_typing());
        syncing.spawn(notifier.clone().follow_presence());
        syncing.spawn(notifier.clone().trim_log());
        syncing.spawn(notifier.sweep_presence());
        syncing
    }

    /// Runs a task until it ends or we stop.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.inner.closing.clone();
        self.inner.tasks.spawn(async move {
            let _ = closing.run_until_cancelled(task).await;
        });
    }

    /// Answers all waiting syncs at once. Later ones do not wait.
    pub fn shutdown(&self) {
        self.inner.closing.cancel();
    }

    /// Answers all waiting syncs and ends the tasks that follow the log.
    pub async fn stop(&self) {
        self.shutdown();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Tells what is new to a device since it was told last; waits for something where there is
    /// nothing yet.
    ///
    /// # Errors
    /// [`SyncError::BadToken`] for a token from the future; errors of the rooms, the users and the
    /// store.
    pub async fn sync(&self, request: SyncRequest) -> Result<Response> {
        let inner = &self.inner;
        let state = request.set_presence.clone();
        let _watching = inner.users.watch_as(&request.user_id, state).await?;
        let known = if request.filter.room.state.lazy_load_options.is_disabled() {
            KnownMembers::none()
        } else {
            let device = (request.user_id.clone(), request.device_id.clone());
            inner.sent_members.begin(device, request.since)
        };
        if let Some(since) = request.since {
            // A token of another time, as from before a backup was restored, acknowledges nothing.
            let newest = self.now().await.position;
            if since.position > newest || since.to_device > newest {
                return Err(SyncError::BadToken { token: since.to_string() });
            }
            let (user_id, device_id) = (&request.user_id, &request.device_id);
            inner.users.acknowledge_inbox(user_id, device_id, since.to_device).await?;
        }
        let (response, next) = self.wait_for_news(&request, &known).await?;
        known.finish(next);
        Ok(response)
    }

    async fn wait_for_news(
        &self,
        request: &SyncRequest,
        known: &KnownMembers,
    ) -> Result<(Response, SyncToken)> {
        let inner = &self.inner;
        let timeout = Duration::from_millis(request.timeout_ms.min(SYNC_TIMEOUT_MS_MAX));
        let deadline = Instant::now() + timeout;
        let waiting = inner.notifier.wait_for(&request.user_id);
        let wish = Wish::new(request, known);
        let mut since = request.since;
        let mut counted = None;
        loop {
            // Whatever comes after this wakes us, whether or not the response below has it already.
            let mut news = pin!(waiting.news());
            news.as_mut().enable();
            let upto = self.now().await;
            if let Some(token) = since.filter(|since| since.position > upto.position) {
                return Err(SyncError::BadToken { token: token.to_string() });
            }
            let stretch = Stretch { since, upto };
            let (response, upto) = classic::respond(self, &wish, stretch).await?;
            let is_awaited = since.is_none()
                || request.full_state
                || !classic::is_empty(&response)
                || self.has_key_news(request, since)
                || inner.closing.is_cancelled()
                || Instant::now() >= deadline;
            if is_awaited {
                return Ok((response, upto));
            }
            // There was nothing for this client up to here: it goes on from here.
            since = Some(upto);
            counted.get_or_insert_with(Counted::new);
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep_until(deadline) => return Ok((response, upto)),
                () = inner.closing.cancelled() => return Ok((response, upto)),
            }
        }
    }

    /// The newest point up to which clients can be told. It is fixed before anything is read for
    /// them.
    async fn now(&self) -> SyncToken {
        let inner = &self.inner;
        let position = inner.notifier.position().await;
        SyncToken {
            position,
            boot: inner.boot,
            typing: inner.rooms.typing_version(),
            presence: inner.users.presence_version(),
            to_device: position,
        }
    }

    /// Whether a user's fallback keys were used up since they were told of them.
    fn has_key_news(&self, request: &SyncRequest, since: Option<SyncToken>) -> bool {
        let used = self.inner.notifier.marks().user_key_used(&request.user_id);
        since.is_some_and(|since| used > since.position)
    }

    /// Whose devices changed for a user between two points, and with whom they share no room any
    /// more.
    ///
    /// # Errors
    /// [`SyncError::BadToken`] for a token from the future; errors of the rooms, the users and the
    /// store.
    pub async fn key_changes(
        &self,
        user_id: &UserId,
        from: SyncToken,
        to: SyncToken,
    ) -> Result<DeviceLists> {
        let newest = self.inner.notifier.position().await;
        if from.position > newest {
            return Err(SyncError::BadToken { token: from.to_string() });
        }
        let memberships = self.inner.rooms.memberships(user_id).await?;
        let upto = to.position.min(newest);
        device_lists::between(self, user_id, &memberships, from.position, upto).await
    }

    /// The position up to which this handle has followed the log.
    pub async fn position(&self) -> Position {
        self.inner.notifier.position().await
    }
}

//! Who is online: kept in memory, with a version for each change, so that a follower can tell what
//! is new.
//!
//! Only status messages outlive a restart: after one, everybody is offline until they come back.

mod known;
mod receive;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clock::Clock;
use ruma::{OwnedUserId, UserId, presence::PresenceState};
use serde::{Deserialize, Serialize};
use store::{Batch, Json};
use tokio::sync::watch;

use self::known::Known;
use crate::{Users, error::Result, tables::PRESENCE_STATUS};

/// How long a user stays online after their last sync or activity, in milliseconds.
pub const PRESENCE_ONLINE_MS: u64 = 30_000;

/// How long a user counts as currently active after their last activity, in milliseconds.
pub const PRESENCE_ACTIVE_MS: u64 = 60_000;

/// How long a user of another server stays as they are unless their server tells of them again, in
/// milliseconds.
pub const REMOTE_PRESENCE_MS: u64 = 30 * 60_000;

/// Longest status message, in bytes. A longer one is cut.
pub const STATUS_MSG_BYTES_MAX: usize = 2_048;

/// The presence of a user at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whose.
    pub user_id: OwnedUserId,
    /// Online, unavailable or offline.
    pub state: PresenceState,
    /// What the user says of it.
    pub status_msg: Option<String>,
    /// When the user was last seen doing something, in milliseconds since the Unix epoch. `None`
    /// where that is not known.
    pub last_active_ms: Option<u64>,
    /// Whether the user is online and did something within the last minute.
    pub currently_active: bool,
}

/// What is stored of a user's presence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatusRow {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) status_msg: Option<String>,
}

/// The presences of all users that were seen since the start.
#[derive(Debug)]
pub(crate) struct Presences {
    known: Mutex<Known>,
    version: watch::Sender<u64>,
    clock: Arc<dyn Clock>,
}

impl Presences {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { known: Mutex::default(), version: watch::Sender::new(0), clock }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and tells the subscribers if that made a new version.
    fn change<T>(&self, with: impl FnOnce(&mut Known, u64) -> T) -> T {
        let now_ms = self.clock.now_ms();
        let (result, version) = {
            let mut known = self.lock();
            let result = with(&mut known, now_ms);
            (result, known.version())
        };
        self.version.send_if_modified(|old| {
            let is_new = *old < version;
            *old = (*old).max(version);
            is_new
        });
        result
    }
}

/// Proof that a client of a user is waiting for news, which keeps the user from going offline until
/// it is dropped.
#[derive(Debug)]
pub struct Watching {
    users: Users,
    user_id: OwnedUserId,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let presences = &self.users.inner.presence;
        let now_ms = presences.clock.now_ms();
        presences.lock().stop_watching(&self.user_id, now_ms);
    }
}

impl Users {
    /// The presence of a user; offline for one who never showed up.
    ///
    /// # Errors
    /// [`crate::UsersError::Store`] when the store fails.
    pub async fn presence(&self, user_id: &UserId) -> Result<Presence> {
        self.load_status(user_id).await?;
        let presences = &self.inner.presence;
        Ok(presences.lock().get(user_id, presences.clock.now_ms()))
    }

    /// Sets what a user says of themselves. Without a status message the old one is removed.
    ///
    /// # Errors
    /// [`crate::UsersError::Store`] when the store fails.
    pub async fn set_presence(
        &self,
        user_id: &UserId,
        state: PresenceState,
        status_msg: Option<String>,
    ) -> Result<()> {
        self.load_status(user_id).await?;
        let status_msg = status_msg.filter(|text| !text.is_empty()).map(cut);
        let presences = &self.inner.presence;
        let old = presences.lock().get(user_id, 0).status_msg;
        if old != status_msg {
            let mut batch = Batch::new();
            let row = Json(StatusRow { status_msg: status_msg.clone() });
            batch.put(&PRESENCE_STATUS, &user_id.to_string(), &row);
            self.store().commit(batch).await?;
        }
        presences.change(|known, now_ms| known.set(user_id, state, status_msg, now_ms));
        Ok(())
    }

    /// Takes note of a client that waits for news and wants its user to be seen in this state.
    /// Offline leaves the user as they are.
    ///
    /// # Errors
    /// [`crate::UsersError::Store`] when the store fails.
    pub async fn watch_as(
        &self,
        user_id: &UserId,
        state: PresenceState,
    ) -> Result<Option<Watching>> {
        if state == PresenceState::Offline {
            return Ok(None);
        }
        self.load_status(user_id).await?;
        self.inner.presence.change(|known, now_ms| known.start_watching(user_id, state, now_ms));
        Ok(Some(Watching { users: self.clone(), user_id: user_id.to_owned() }))
    }

    /// Takes note that a user did something, as sending an event. Who was unavailable is online
    /// again; who is offline stays so.
    pub fn note_active(&self, user_id: &UserId) {
        self.inner.presence.change(|known, now_ms| known.note_active(user_id, now_ms));
    }

    /// Makes offline those who have not been heard of for [`PRESENCE_ONLINE_MS`]. To be called
    /// every few seconds.
    pub fn sweep_presence(&self) {
        self.inner.presence.change(Known::sweep);
    }

    /// Whether a user is known to be online or unavailable, without reading anything.
    #[must_use]
    pub fn is_present(&self, user_id: &UserId) -> bool {
        let presences = &self.inner.presence;
        presences.lock().get(user_id, presences.clock.now_ms()).state != PresenceState::Offline
    }

    /// The version of the newest change of presence. 0 before the first.
    #[must_use]
    pub fn presence_version(&self) -> u64 {
        self.inner.presence.lock().version()
    }

    /// The presences whose newest change is after one version and not after another, in the order
    /// of their changes.
    #[must_use]
    pub fn presence_changes(&self, after: u64, upto: u64) -> Vec<Presence> {
        let presences = &self.inner.presence;
        presences.lock().changes(after, upto, presences.clock.now_ms())
    }

    /// Tells the version of the newest change of presence as it grows.
    #[must_use]
    pub fn subscribe_presence(&self) -> watch::Receiver<u64> {
        self.inner.presence.version.subscribe()
    }

    /// Reads the stored status message of a user who was not seen since the start.
    async fn load_status(&self, user_id: &UserId) -> Result<()> {
        if self.inner.presence.lock().knows(user_id) {
            return Ok(());
        }
        let row = self.store().get(&PRESENCE_STATUS, &user_id.to_string()).await?;
        if let Some(Json(StatusRow { status_msg: Some(status_msg) })) = row {
            self.inner.presence.lock().remember(user_id, status_msg);
        }
        Ok(())
    }
}

fn cut(mut text: String) -> String {
    let mut end = text.len().min(STATUS_MSG_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

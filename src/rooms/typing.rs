//! Who is typing. Kept in memory only; one timer ends what clients do not.

mod receive;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use clock::Clock;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::{
    sync::{Notify, broadcast},
    task::JoinHandle,
};

pub use self::receive::REMOTE_TYPING_MS;

use crate::{Rooms, error::Result};

/// Longest time that someone is shown as typing without saying so again, in milliseconds.
pub const TYPING_TIMEOUT_MS_MAX: u64 = 120_000;

/// How many changes a slow reader may be behind; then it has to look at all its rooms.
const CHANGES_MAX: usize = 1_024;

/// Of how many rooms in which nobody types any more it is remembered when they stopped.
const QUIET_ROOMS_MAX: usize = 10_000;

/// Who types where.
#[derive(Debug)]
pub(crate) struct Typing {
    shared: Arc<Shared>,
    timer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changes: broadcast::Sender<OwnedRoomId>,
    /// Told when somebody's time ends sooner than the timer expects.
    sooner: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the changes of all rooms.
    version: u64,
    rooms: HashMap<OwnedRoomId, RoomTyping>,
}

#[derive(Debug, Default)]
struct RoomTyping {
    /// The count when this room changed last.
    version: u64,
    /// Who types, and until when in milliseconds since the Unix epoch.
    users: BTreeMap<OwnedUserId, u64>,
}

impl Default for Typing {
    fn default() -> Self {
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let shared = Shared { state: Mutex::default(), changes, sooner: Notify::new() };
        Self { shared: Arc::new(shared), timer: Mutex::new(None) }
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, room_id: OwnedRoomId) {
        // Nobody listening is no error.
        let _ = self.changes.send(room_id);
    }

    /// Ends what is over by now.
    fn sweep(&self, now_ms: u64) {
        let mut changed = Vec::new();
        {
            let mut state = self.state();
            let State { version, rooms } = &mut *state;
            for (room_id, room) in rooms.iter_mut() {
                let before = room.users.len();
                room.users.retain(|_, until_ms| *until_ms > now_ms);
                if room.users.len() < before {
                    *version += 1;
                    room.version = *version;
                    changed.push(room_id.clone());
                }
            }
        }
        for room_id in changed {
            self.tell(room_id);
        }
    }

    /// When the next one stops typing.
    fn next_end_ms(&self) -> Option<u64> {
        self.state().rooms.values().flat_map(|room| room.users.values()).min().copied()
    }
}

impl State {
    /// Forgets the longest quiet rooms, when there are too many.
    fn tidy(&mut self) {
        if self.rooms.len() <= 2 * QUIET_ROOMS_MAX {
            return;
        }
        let quiet = self.rooms.values().filter(|room| room.users.is_empty());
        let mut versions: Vec<u64> = quiet.map(|room| room.version).collect();
        versions.sort_unstable();
        let kept = versions.len().saturating_sub(QUIET_ROOMS_MAX);
        let oldest = versions.get(kept).copied().unwrap_or_default();
        self.rooms.retain(|_, room| !room.users.is_empty() || room.version >= oldest);
    }
}

impl Typing {
    /// Says that a user types until a time; gives whether that was not known.
    fn start(&self, room_id: &RoomId, user: &UserId, until_ms: u64) {
        let is_new = {
            let mut state = self.shared.state();
            let next = state.version + 1;
            let room = state.rooms.entry(room_id.to_owned()).or_default();
            let is_new = room.users.insert(user.to_owned(), until_ms).is_none();
            if is_new {
                room.version = next;
                state.version = next;
                state.tidy();
            }
            is_new
        };
        self.shared.sooner.notify_one();
        if is_new {
            self.shared.tell(room_id.to_owned());
        }
    }

    /// Says that a user no longer types.
    pub(crate) fn stop(&self, room_id: &RoomId, user: &UserId) {
        let was_typing = {
            let mut state = self.shared.state();
            let next = state.version + 1;
            let Some(room) = state.rooms.get_mut(room_id) else { return };
            let was_typing = room.users.remove(user).is_some();
            if was_typing {
                room.version = next;
                state.version = next;
            }
            was_typing
        };
        if was_typing {
            self.shared.tell(room_id.to_owned());
        }
    }

    /// Ends the timer. What is in memory is of no use once the server stops.
    pub(crate) fn end(&self) {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(timer) = timer.take() {
            timer.abort();
        }
    }

    /// Starts the timer, if it does not run yet. It ends with the last handle of the rooms.
    fn ensure_timer(&self, clock: &Arc<dyn Clock>) {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        if timer.as_ref().is_none_or(JoinHandle::is_finished) {
            let shared = Arc::downgrade(&self.shared);
            *timer = Some(tokio::spawn(run_timer(shared, Arc::clone(clock))));
        }
    }
}

/// Sleeps until the next one's time is over, again and again. Aborted with the last handle of the
/// rooms.
async fn run_timer(shared: Weak<Shared>, clock: Arc<dyn Clock>) {
    while let Some(shared) = shared.upgrade() {
        let now_ms = clock.now_ms();
        shared.sweep(now_ms);
        let sooner = shared.sooner.notified();
        match shared.next_end_ms() {
            Some(end_ms) => {
                let wait = Duration::from_millis(end_ms.saturating_sub(now_ms).max(1));
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = sooner => {}
                }
            }
            None => sooner.await,
        }
    }
}

impl Rooms {
    /// Says that a user types in a room for so many milliseconds, or with `None` that they no
    /// longer do.
    ///
    /// # Errors
    /// [`crate::RoomsError::Forbidden`] when the user is not joined.
    pub async fn set_typing(
        &self,
        user: &UserId,
        room_id: &RoomId,
        timeout_ms: Option<u64>,
    ) -> Result<()> {
        let room = self.open_joined(user, room_id).await?;
        let typing = &self.inner.typing;
        match timeout_ms {
            Some(timeout_ms) if timeout_ms > 0 => {
                let until_ms = self.now_ms().saturating_add(timeout_ms.min(TYPING_TIMEOUT_MS_MAX));
                typing.start(&room.room_id, user, until_ms);
                typing.ensure_timer(&self.inner.clock);
            }
            _ => typing.stop(&room.room_id, user),
        }
        Ok(())
    }

    /// Who types in a room, in the order of their IDs, and when that changed last: a number that
    /// only grows, over all rooms. Zero where it never did.
    #[must_use]
    pub fn typing(&self, room_id: &RoomId) -> (u64, Vec<OwnedUserId>) {
        let state = self.inner.typing.shared.state();
        state
            .rooms
            .get(room_id)
            .map(|room| (room.version, room.users.keys().cloned().collect()))
            .unwrap_or_default()
    }

    /// The number of the newest change of who types anywhere.
    #[must_use]
    pub fn typing_version(&self) -> u64 {
        self.inner.typing.shared.state().version
    }

    /// Tells of each room in which somebody begins or ceases to type. A reader that is too slow has
    /// to look at all its rooms.
    #[must_use]
    pub fn typing_changes(&self) -> broadcast::Receiver<OwnedRoomId> {
        self.inner.typing.shared.changes.subscribe()
    }
}

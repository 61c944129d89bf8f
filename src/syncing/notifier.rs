//! Follows the log and what is fleeting, remembers when what changed, and wakes the clients that
//! wait for it.

pub(crate) mod marks;
pub(crate) mod waiters;

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use rooms::{Position, RoomNumber, Rooms, RoomsLogRow};
use ruma::{OwnedRoomId, OwnedUserId, UserId};
use store::{LogEntry, Store, StoreError};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use users::{Users, UsersLogRow};

use self::{
    marks::Marks,
    waiters::{Waiters, Waiting},
};
use crate::error::Result;

/// How many rows of the log are taken at a time.
const LOG_ROWS: usize = 1_000;

/// How long it is waited after the log could not be read.
const READ_PAUSE: Duration = Duration::from_millis(200);

/// How often the log is trimmed, and how many positions are left of it for those who lag behind.
const TRIM_INTERVAL: Duration = Duration::from_secs(600);
const LOG_POSITIONS_KEPT: u64 = 100_000;

/// How often those who are gone are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Remembers the newest changes and wakes who waits. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    rooms: Rooms,
    users: Users,
    marks: RwLock<Marks>,
    waiters: Waiters,
    /// Up to where the marks are complete.
    seen: watch::Sender<Position>,
    /// Nothing is followed any more.
    closing: CancellationToken,
}

/// Whom a run of log rows concerns.
#[derive(Debug, Default)]
struct Concerned {
    rooms: BTreeSet<RoomNumber>,
    users: BTreeSet<OwnedUserId>,
    /// Who sent events.
    senders: BTreeSet<OwnedUserId>,
    /// Whose devices changed.
    devices: BTreeSet<OwnedUserId>,
}

impl Notifier {
    /// A notifier that knows nothing of what happened before the store's position now.
    pub(crate) fn new(
        store: Store,
        rooms: Rooms,
        users: Users,
        closing: CancellationToken,
    ) -> Self {
        let baseline = store.position();
        let inner = Inner {
            store,
            rooms,
            users,
            marks: RwLock::new(Marks::new(baseline)),
            waiters: Waiters::default(),
            seen: watch::Sender::new(baseline),
            closing,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The newest changes.
    pub(crate) fn marks(&self) -> RwLockReadGuard<'_, Marks> {
        self.inner.marks.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place to wait for news of a user.
    pub(crate) fn wait_for(&self, user_id: &UserId) -> Waiting {
        self.inner.waiters.join(user_id)
    }

    /// A position up to which the marks are complete. What was committed before the call is
    /// included, unless we are closing.
    pub(crate) async fn position(&self) -> Position {
        let newest = self.inner.store.position();
        let mut seen = self.inner.seen.subscribe();
        tokio::select! {
            biased;
            // The sender lives as long as we do.
            _ = seen.wait_for(|seen| *seen >= newest) => {}
            () = self.inner.closing.cancelled() => {}
        }
        *self.inner.seen.borrow()
    }

    /// Follows the log until the store fails or closes.
    pub(crate) async fn follow_log(self) {
        let mut positions = self.inner.store.positions();
        let mut cursor = *self.inner.seen.borrow();
        loop {
            // Read before the rows: all rows up to it are there when they are read.
            let newest = *positions.borrow_and_update();
            match self.take_rows(&mut cursor, newest).await {
                Ok(()) => {}
                Err(StoreError::Closed) => return,
                Err(error @ StoreError::Failed { .. }) => {
                    tracing::error!(%error, "syncs can no longer follow the log");
                    self.inner.closing.cancel();
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the log cannot be read, and is tried again");
                    tokio::time::sleep(READ_PAUSE).await;
                    continue;
                }
            }
            if positions.changed().await.is_err() {
                return;
            }
        }
    }

    async fn take_rows(&self, cursor: &mut Position, newest: Position) -> Result<(), StoreError> {
        loop {
            let rows = self.inner.store.read_log(*cursor, LOG_ROWS).await?;
            let last = rows.last().map(|row| row.position);
            let concerned = self.mark(&rows);
            let seen = last.map_or(newest, |last| last.max(*cursor));
            self.inner.seen.send_if_modified(|old| {
                let is_new = *old < seen;
                *old = (*old).max(seen);
                is_new
            });
            self.wake(concerned).await;
            match last {
                Some(last) => *cursor = last,
                None => return Ok(()),
            }
        }
    }

    /// Takes note of what the rows say.
    fn mark(&self, rows: &[LogEntry]) -> Concerned {
        let mut concerned = Concerned::default();
        let mut marks = self.inner.marks.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let result = match row.topic {
                rooms::LOG_TOPIC => RoomsLogRow::decode(&row.payload)
                    .map(|change| self.mark_room(&mut marks, change, row.position, &mut concerned))
                    .map_err(|error| error.to_string()),
                users::LOG_TOPIC => UsersLogRow::decode(&row.payload)
                    .map(|change| mark_user(&mut marks, change, row.position, &mut concerned))
                    .map_err(|error| error.to_string()),
                _ => Ok(()),
            };
            if let Err(error) = result {
                tracing::error!(%error, position = row.position.get(), "a log row cannot be read");
            }
        }
        concerned
    }

    fn mark_room(
        &self,
        marks: &mut Marks,
        change: RoomsLogRow,
        position: Position,
        concerned: &mut Concerned,
    ) {
        match change {
            RoomsLogRow::Event { room, member, sender, .. } => {
                marks.event(room, position);
                concerned.rooms.insert(room);
                if member.is_some() {
                    marks.member(room, position);
                }
                if self.inner.rooms.is_local(&sender) {
                    concerned.senders.insert(sender);
                }
                let local = member.filter(|(user_id, _)| self.inner.rooms.is_local(user_id));
                if let Some((user_id, _)) = local {
                    concerned.users.insert(user_id);
                }
            }
            RoomsLogRow::Receipt { room, private: false, .. } => {
                marks.receipt(room, position);
                concerned.rooms.insert(room);
            }
            RoomsLogRow::Receipt { room, user, private: true, .. } => {
                marks.receipt(room, position);
                concerned.users.insert(user);
            }
            RoomsLogRow::Whole { room, .. } => {
                marks.event(room, position);
                concerned.rooms.insert(room);
            }
            RoomsLogRow::Outside { user, .. } => {
                concerned.users.insert(user);
            }
            // What is forgotten is no news: the leave has been, or will be.
            _ => {}
        }
    }

    async fn wake(&self, concerned: Concerned) {
        for sender in &concerned.senders {
            self.inner.users.note_active(sender);
        }
        let waiters = &self.inner.waiters;
        if waiters.is_empty() {
            return;
        }
        for user_id in &concerned.users {
            waiters.wake(user_id);
        }
        for room in concerned.rooms {
            self.wake_room(room).await;
        }
        for user_id in &concerned.devices {
            self.wake_who_knows(user_id).await;
        }
    }

    /// Wakes everybody in a room.
    async fn wake_room(&self, number: RoomNumber) {
        let rooms = &self.inner.rooms;
        let joined = match rooms.room_by_number(number).await {
            Ok(room) => rooms.joined_users(&room).await,
            Err(error) => Err(error),
        };
        match joined {
            Ok(users) => self.inner.waiters.wake_many(&users),
            Err(error) => {
                tracing::warn!(%error, "the members of a room are not known: all syncs are woken");
                self.inner.waiters.wake_all();
            }
        }
    }

    /// Wakes those who see that somebody types.
    pub(crate) async fn follow_typing(self) {
        let mut changes = self.inner.rooms.typing_changes();
        loop {
            match changes.recv().await {
                Ok(room_id) => self.wake_room_by_id(room_id).await,
                Err(broadcast::error::RecvError::Lagged(_)) => self.inner.waiters.wake_all(),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    async fn wake_room_by_id(&self, room_id: OwnedRoomId) {
        if self.inner.waiters.is_empty() {
            return;
        }
        match self.inner.rooms.room(&room_id).await {
            Ok(Some(room)) => self.wake_room(room.number).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "nobody is told that somebody types"),
        }
    }

    /// Wakes those who see that somebody's presence changed.
    pub(crate) async fn follow_presence(self) {
        let users = &self.inner.users;
        let mut versions = users.subscribe_presence();
        let mut done = 0;
        loop {
            let version = *versions.borrow_and_update();
            for presence in users.presence_changes(done, version) {
                self.wake_who_knows(&presence.user_id).await;
            }
            done = version;
            if versions.changed().await.is_err() {
                return;
            }
        }
    }

    /// Wakes a user and all who share a room with them.
    async fn wake_who_knows(&self, user_id: &UserId) {
        if self.inner.waiters.is_empty() {
            return;
        }
        self.inner.waiters.wake(user_id);
        let rooms = match self.inner.rooms.rooms_of(user_id).await {
            Ok(rooms) => rooms,
            Err(error) => {
                tracing::warn!(%error, "nobody is told of a presence");
                return;
            }
        };
        for room in rooms {
            self.wake_room(room).await;
        }
    }

    /// Deletes, again and again, what nobody will read of the log.
    pub(crate) async fn trim_log(self) {
        let mut ticks = tokio::time::interval(TRIM_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let upto = self.inner.seen.borrow().get().saturating_sub(LOG_POSITIONS_KEPT);
            if let Err(error) = self.inner.store.trim_log(Position::new(upto)).await {
                tracing::warn!(%error, "the log is not trimmed");
            }
        }
    }

    /// Looks, again and again, for users who are gone.
    pub(crate) async fn sweep_presence(self) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.inner.users.sweep_presence();
        }
    }
}

fn mark_user(
    marks: &mut Marks,
    change: UsersLogRow,
    position: Position,
    concerned: &mut Concerned,
) {
    match change {
        UsersLogRow::AccountData { user_id, .. } => {
            marks.account_data(&user_id, position);
            concerned.users.insert(user_id);
        }
        UsersLogRow::DeviceListChanged { user_id, .. } => {
            marks.device_list(position);
            concerned.devices.insert(user_id);
        }
        UsersLogRow::Signed { user_id } => {
            marks.signed(&user_id, position);
            concerned.users.insert(user_id);
        }
        UsersLogRow::FallbackKeyUsed { user_id, .. } => {
            marks.key_used(&user_id, position);
            concerned.users.insert(user_id);
        }
        UsersLogRow::ToDevice { user_ids } => concerned.users.extend(user_ids),
        _ => {}
    }
}

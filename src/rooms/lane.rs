//! The right to write one room: a lane, entered by one at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use ruma::RoomId;
use tokio::sync::OwnedMutexGuard;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    head::Head,
    room::Room,
    tables::{RoomNumber, StateRoot},
};

/// How many lanes are kept before the unused ones are looked for.
const SWEEP_LEN_MIN: usize = 1024;

/// Proof that we alone write a room, as long as it is held. No network I/O and no other lane may be
/// awaited meanwhile.
#[derive(Debug)]
pub struct Lane {
    room: Arc<Room>,
    pub(crate) head: Arc<Head>,
    pub(crate) held: Held,
}

/// The lock of a lane. A commit under way holds it too, so that a cancelled request does not let
/// another in too early.
pub(crate) type Held = Arc<OwnedMutexGuard<()>>;

impl Lane {
    pub(crate) fn new(room: Arc<Room>, head: Arc<Head>, held: Held) -> Self {
        Self { room, head, held }
    }

    /// The room that may be written.
    #[must_use]
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Where the room stands.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The room's current state.
    #[must_use]
    pub fn state(&self) -> StateRoot {
        self.head.state
    }
}

/// The lanes that someone holds or waits for.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: Mutex<HashMap<RoomNumber, Weak<tokio::sync::Mutex<()>>>>,
}

impl Lanes {
    pub(crate) async fn hold(&self, room: RoomNumber) -> Held {
        let lane = self.lane(room);
        Arc::new(lane.lock_owned().await)
    }

    fn lane(&self, room: RoomNumber) -> Arc<tokio::sync::Mutex<()>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(&room).and_then(Weak::upgrade) {
            return lane;
        }
        if lanes.len() >= SWEEP_LEN_MIN && lanes.len() == lanes.capacity() {
            lanes.retain(|_, lane| lane.strong_count() > 0);
        }
        let lane = Arc::new(tokio::sync::Mutex::new(()));
        lanes.insert(room, Arc::downgrade(&lane));
        lane
    }
}

impl Rooms {
    /// Waits for the lane of a room that we know, and enters it.
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when we do not know the room.
    pub async fn enter(&self, room_id: &RoomId) -> Result<Lane> {
        let room = self.load_room(room_id).await?;
        let held = self.inner.lanes.hold(room.number).await;
        let head = self.head(room.number).await?;
        Ok(Lane::new(room, head, held))
    }

    /// A room that must be known.
    pub(crate) async fn load_room(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        self.room(room_id).await?.ok_or(RoomsError::NotFound { what: "room" })
    }
}

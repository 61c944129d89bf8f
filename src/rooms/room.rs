//! A room as such: its number, its ID and the rules of its version.

use std::sync::Arc;

use ruma::{OwnedRoomId, RoomId, RoomVersionId, room_version_rules::RoomVersionRules};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    tables::{ROOM_NUMBERS, ROOMS, RoomNumber},
};

/// A room that we know. What is in it is asked of [`crate::Rooms`].
#[derive(Clone, Debug)]
pub struct Room {
    /// The number under which its rows are kept.
    pub number: RoomNumber,
    /// The ID by which the world knows it.
    pub room_id: OwnedRoomId,
    /// Its version.
    pub version: RoomVersionId,
    /// The rules of its version.
    pub rules: RoomVersionRules,
}

/// What is stored of a room as such.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RoomRecord {
    pub(crate) room_id: OwnedRoomId,
    pub(crate) version: RoomVersionId,
}

impl Rooms {
    /// A room by its ID; `None` when we do not know it.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn room(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        let room_id = room_id.to_owned();
        if let Some(room) = self.inner.caches.rooms.get(&room_id) {
            return Ok(Some(room));
        }
        let number = self.store().get(&ROOM_NUMBERS, &room_id.as_str().to_owned()).await?;
        match number {
            Some(number) => self.room_by_number(number).await.map(Some),
            None => Ok(None),
        }
    }

    /// A room by its number, which must be one of ours.
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when there is no such room.
    pub async fn room_by_number(&self, number: RoomNumber) -> Result<Arc<Room>> {
        let caches = &self.inner.caches;
        if let Some(room) = caches.rooms_by_number.get(&number) {
            return Ok(room);
        }
        let record = self.store().get(&ROOMS, &number).await?;
        let RoomRecord { room_id, version } =
            record.ok_or(RoomsError::NotFound { what: "room" })?.0;
        let Some(rules) = event::rules(&version) else {
            return Err(RoomsError::UnsupportedVersion { version });
        };
        let room = Arc::new(Room { number, room_id, version, rules });
        caches.keep_room(&room);
        Ok(room)
    }

    /// The number for a room that is not there yet: from the hash of its ID, or the next free one.
    pub(crate) async fn free_room_number(&self, room_id: &RoomId) -> Result<RoomNumber> {
        let hash = Sha256::digest(room_id.as_bytes());
        let bytes = hash.first_chunk::<8>().copied().unwrap_or_default();
        let mut number = u64::from_be_bytes(bytes);
        while self.store().get(&ROOMS, &RoomNumber::new(number)).await?.is_some() {
            number = number.wrapping_add(1);
        }
        Ok(RoomNumber::new(number))
    }
}

//! In which rooms a user is, and what they are there.

mod accept;
mod change;
mod grant;
pub(crate) mod handshake;
pub(crate) mod invited;
pub(crate) mod outside;
mod prepare_for;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use ruma::{OwnedRoomId, RoomId, UserId, events::room::member::MembershipState};
use store::{Json, Page, Position, Stamped};

use crate::{
    Rooms,
    cache::Weigh,
    error::Result,
    tables::{EventNumber, MEMBERSHIPS, MembershipRow, RoomNumber},
};

pub use self::accept::JoinGrant;
pub(crate) use self::change::MemberContent;

/// How many memberships are read from the store at a time.
const MEMBERSHIPS_PAGE_LEN: usize = 512;

/// The part of a user's profile that goes into member events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name to show.
    pub displayname: Option<String>,
    /// The `mxc://` address of the picture to show.
    pub avatar_url: Option<String>,
}

/// What a user is in one room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipRecord {
    /// The room.
    pub room: RoomNumber,
    /// The room's ID.
    pub room_id: OwnedRoomId,
    /// What the user is in it.
    pub membership: MembershipState,
    /// The member event that says so.
    pub event: EventNumber,
    /// When that event was accepted.
    pub position: Position,
    /// Whether the user has forgotten the room since.
    pub forgotten: bool,
}

/// What a user of this server is in every room that they have been invited to, have joined or have
/// left.
#[derive(Clone, Debug, Default)]
pub struct Memberships {
    rooms: BTreeMap<RoomNumber, MembershipRecord>,
}

impl Memberships {
    /// What the user is in a room, if they ever were anything.
    #[must_use]
    pub fn get(&self, room: RoomNumber) -> Option<&MembershipRecord> {
        self.rooms.get(&room)
    }

    /// What the user is in the room of an ID.
    #[must_use]
    pub fn by_id(&self, room_id: &RoomId) -> Option<&MembershipRecord> {
        self.iter().find(|record| record.room_id == room_id)
    }

    /// Whether the user is joined to a room.
    #[must_use]
    pub fn is_joined(&self, room: RoomNumber) -> bool {
        self.get(room).is_some_and(|record| record.membership == MembershipState::Join)
    }

    /// All records, in the order of the rooms' numbers.
    pub fn iter(&self) -> impl Iterator<Item = &MembershipRecord> {
        self.rooms.values()
    }

    /// The records of the rooms where the user is joined.
    pub fn joined(&self) -> impl Iterator<Item = &MembershipRecord> {
        self.iter().filter(|record| record.membership == MembershipState::Join)
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether the user has never been anything anywhere.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl Weigh for Memberships {
    fn weigh(&self) -> u64 {
        200 + 200 * self.rooms.len() as u64
    }
}

impl Rooms {
    /// What a user is in all rooms. Empty for users of other servers.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn memberships(&self, user: &UserId) -> Result<Arc<Memberships>> {
        let cache = &self.inner.caches.memberships;
        let key = user.to_owned();
        if let Some(cached) = cache.get(&key) {
            return Ok(cached);
        }
        let ticket = cache.ticket(&key);
        let memberships = Arc::new(self.read_memberships(user).await?);
        cache.fill(&key, &memberships, ticket);
        Ok(memberships)
    }

    /// The rooms where a user is joined.
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn joined_rooms(&self, user: &UserId) -> Result<Vec<OwnedRoomId>> {
        let memberships = self.memberships(user).await?;
        Ok(memberships.joined().map(|record| record.room_id.clone()).collect())
    }

    /// Whether a user is joined to a room now.
    pub(crate) async fn is_joined(&self, user: &UserId, room: RoomNumber) -> Result<bool> {
        Ok(self.memberships(user).await?.is_joined(room))
    }

    async fn read_memberships(&self, user: &UserId) -> Result<Memberships> {
        let all = user.as_str().to_owned();
        let mut range = MEMBERSHIPS.prefix(&all);
        let mut rooms = BTreeMap::new();
        loop {
            let page = Page::first(MEMBERSHIPS_PAGE_LEN);
            let rows = self.store().scan(&MEMBERSHIPS, range, page).await?;
            let full = rows.len() == MEMBERSHIPS_PAGE_LEN;
            let last = rows.last().map(|(key, _)| key.clone());
            rooms.extend(rows.into_iter().map(|((_, room), row)| (room, record(room, row))));
            match last {
                Some(last) if full => {
                    range = MEMBERSHIPS.between(Bound::Excluded(&last), Bound::Included(&all));
                }
                _ => return Ok(Memberships { rooms }),
            }
        }
    }
}

fn record(room: RoomNumber, row: Stamped<Json<MembershipRow>>) -> MembershipRecord {
    let Stamped { position, value: Json(row) } = row;
    MembershipRecord {
        room,
        room_id: row.room_id,
        membership: row.membership,
        event: row.event,
        position,
        forgotten: row.forgotten,
    }
}

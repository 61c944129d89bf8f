//! Whose devices a user has to look at anew, and whose no longer: those in a room with them.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user)
//!
//! Encrypted or not, every room counts: a client may begin to follow the members of a room before
//! it is told that the room became encrypted, and looking at a list too often does no harm.

use std::collections::BTreeSet;

use rooms::{MembershipRecord, Memberships, Position, Room, Rooms, StateRoot};
use ruma::{
    OwnedUserId, UserId,
    api::client::sync::sync_events::DeviceLists,
    events::{StateEventType, room::member::MembershipState},
};

use crate::{Syncing, error::Result, standing};

/// Who came into the view of a user, and who went out of it.
#[derive(Debug, Default)]
struct Movements {
    came: BTreeSet<OwnedUserId>,
    went: BTreeSet<OwnedUserId>,
}

/// The stretch that is asked about.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    after: Position,
    upto: Position,
}

/// Whose devices changed for a user after a point, up to another and including it, and with whom
/// they share no room any more.
pub(crate) async fn between(
    syncing: &Syncing,
    viewer: &UserId,
    memberships: &Memberships,
    after: Position,
    upto: Position,
) -> Result<DeviceLists> {
    if upto <= after {
        return Ok(DeviceLists::new());
    }
    let inner = &syncing.inner;
    let (lists_mark, signed_mark) = {
        let marks = inner.notifier.marks();
        (marks.device_lists(), marks.user_signed(viewer))
    };
    let mut movements = Movements::default();
    for record in moved_rooms(syncing, memberships, after) {
        movements.add(&inner.rooms, viewer, record, Stretch { after, upto }).await?;
    }
    let mut changed = BTreeSet::new();
    if lists_mark > after {
        for user_id in inner.users.device_list_changes(after, upto).await? {
            if user_id == viewer || shares_room(&inner.rooms, memberships, &user_id).await? {
                changed.insert(user_id);
            }
        }
    }
    if signed_mark > after {
        changed.extend(inner.users.signed_master_changes(viewer, after, upto).await?);
    }
    let mut lists = DeviceLists::new();
    movements.came.remove(viewer);
    changed.extend(movements.came);
    for user_id in movements.went {
        // Who went from one of several common rooms is still followed.
        if user_id != viewer && !shares_room(&inner.rooms, memberships, &user_id).await? {
            changed.remove(&user_id);
            lists.left.push(user_id);
        }
    }
    lists.changed = changed.into_iter().collect();
    Ok(lists)
}

/// Whether somebody is in a room with the user of these memberships.
pub(crate) async fn shares_room(rooms: &Rooms, mine: &Memberships, other: &UserId) -> Result<bool> {
    let theirs = rooms.rooms_of(other).await?;
    Ok(theirs.into_iter().any(|room| mine.is_joined(room)))
}

/// The rooms of a user where somebody may have come or gone since a point.
fn moved_rooms<'a>(
    syncing: &Syncing,
    memberships: &'a Memberships,
    after: Position,
) -> Vec<&'a MembershipRecord> {
    let marks = syncing.inner.notifier.marks();
    memberships
        .iter()
        .filter(|record| {
            let is_joined = record.membership == MembershipState::Join;
            record.position > after || (is_joined && marks.room(record.room).member > after)
        })
        .collect()
}

impl Movements {
    /// Adds who came into and went out of the view of a user by what happened in a room.
    async fn add(
        &mut self,
        rooms: &Rooms,
        viewer: &UserId,
        record: &MembershipRecord,
        stretch: Stretch,
    ) -> Result<()> {
        let Some(room) = rooms.room(&record.room_id).await? else { return Ok(()) };
        let now = standing::at(rooms, viewer, record, stretch.upto).await?;
        let before = standing::at(rooms, viewer, record, stretch.after).await?;
        let is_in = |standing: Option<standing::Standing>| {
            standing.is_some_and(|standing| standing.membership == MembershipState::Join)
        };
        match (is_in(before), is_in(now)) {
            (false, false) => {}
            (false, true) => self.came.extend(rooms.joined_users(&room).await?.iter().cloned()),
            (true, true) => self.compare(rooms, &room, stretch).await?,
            (true, false) => {
                self.went.extend(rooms.joined_users(&room).await?.iter().cloned());
                let mut moved = Self::default();
                moved.compare(rooms, &room, stretch).await?;
                self.went.extend(moved.went);
            }
        }
        Ok(())
    }

    /// Adds who came and went in a room where the user stayed.
    async fn compare(&mut self, rooms: &Rooms, room: &Room, stretch: Stretch) -> Result<()> {
        let then = rooms.state_at(room, stretch.after).await?;
        let Some(now) = rooms.state_at(room, stretch.upto).await? else { return Ok(()) };
        if then == Some(now) {
            return Ok(());
        }
        for (entry, event) in rooms.state_diff(room, then, now).await? {
            if entry.kind != StateEventType::RoomMember {
                continue;
            }
            let Ok(user_id) = OwnedUserId::try_from(entry.key.as_str()) else { continue };
            let was_in = match then {
                Some(then) => is_joined(rooms, room, then, &user_id).await?,
                None => false,
            };
            let is_in = match event {
                Some(event) => {
                    let event = rooms.load_event(room, event).await?;
                    event.pdu.membership() == Some(MembershipState::Join)
                }
                None => false,
            };
            match (was_in, is_in) {
                (false, true) => drop(self.came.insert(user_id)),
                (true, false) => drop(self.went.insert(user_id)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Whether a user is joined in a state of a room.
async fn is_joined(rooms: &Rooms, room: &Room, root: StateRoot, user_id: &UserId) -> Result<bool> {
    let key = (StateEventType::RoomMember, user_id.to_string());
    let found = rooms.state_numbers(room, root, &[key]).await?;
    let Some(number) = found.into_iter().flatten().next() else { return Ok(false) };
    let event = rooms.load_event(room, number).await?;
    Ok(event.pdu.membership() == Some(MembershipState::Join))
}

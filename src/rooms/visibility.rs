//! Who may see which event: the history visibility, and the standing of the one who asks.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use event::Pdu;
use ruma::{
    RoomId, UserId,
    events::{
        StateEventType, TimelineEventType,
        room::{
            history_visibility::{HistoryVisibility, RoomHistoryVisibilityEventContent},
            member::MembershipState,
        },
    },
};
use store::Position;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    receive::DUMMY_EVENT,
    room::Room,
    stored_event::StoredEvent,
    tables::StateRoot,
};

/// How many member events of a user are looked at to find when they last left a room that they had
/// joined.
const MEMBER_EVENTS_MAX: usize = 64;

/// What decides over an event in one state of the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Around {
    pub(crate) visibility: HistoryVisibility,
    /// The viewer's membership; leave for one who never was anything.
    pub(crate) membership: MembershipState,
}

/// Whether the viewer joined the room at any point after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Later {
    /// They did.
    Joined,
    /// They did not.
    NotJoined,
}

impl Around {
    /// The rule for one state.
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-8)
    pub(crate) fn allows(&self, later: Later) -> bool {
        match self.visibility {
            HistoryVisibility::WorldReadable => true,
            _ if self.membership == MembershipState::Join => true,
            HistoryVisibility::Invited => self.membership == MembershipState::Invite,
            HistoryVisibility::Joined => false,
            // Shared, and whatever we do not understand.
            _ => later == Later::Joined,
        }
    }
}

/// Whether a viewer may see an event, by the states before and after it.
pub(crate) fn may_see(
    event: &Pdu,
    viewer: &UserId,
    before: &Around,
    after: &Around,
    later: Later,
) -> bool {
    let changes_rule = event.kind == TimelineEventType::RoomHistoryVisibility
        && event.state_key.as_deref() == Some("");
    let changes_viewer = event.kind == TimelineEventType::RoomMember
        && event.state_key.as_deref() == Some(viewer.as_str());
    if changes_rule || changes_viewer {
        before.allows(later) || after.allows(later)
    } else {
        after.allows(later)
    }
}

/// How a user stands to a room, as far as reading goes.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// They are joined.
    Joined,
    /// They were joined until this event.
    Left(Arc<StoredEvent>),
    /// They never were joined, or have forgotten it.
    Stranger,
}

impl Standing {
    /// Whether the user joined after an event. Somebody who left was joined until then.
    fn later(&self, event: &StoredEvent) -> Later {
        match self {
            Self::Joined => Later::Joined,
            Self::Left(leave) if (event.position, event.index) < (leave.position, leave.index) => {
                Later::Joined
            }
            Self::Left(_) | Self::Stranger => Later::NotJoined,
        }
    }
}

/// Up to where a user may read a room at all.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// Up to now.
    Now,
    /// Up to the event by which they left, inclusive.
    Until(Arc<StoredEvent>),
}

impl Access {
    /// The state that the user sees: the current one, or that in which they left.
    pub(crate) fn state(&self, current: StateRoot) -> StateRoot {
        match self {
            Self::Now => current,
            Self::Until(leave) => leave.state_after,
        }
    }
}

impl Rooms {
    /// How a user stands to a room.
    pub(crate) async fn standing(&self, user: &UserId, room: &Room) -> Result<Standing> {
        let memberships = self.memberships(user).await?;
        let Some(record) = memberships.get(room.number) else { return Ok(Standing::Stranger) };
        if record.membership == MembershipState::Join {
            return Ok(Standing::Joined);
        }
        if record.forgotten {
            return Ok(Standing::Stranger);
        }
        let mut event = self.load_event(room, record.event).await?;
        for _ in 0..MEMBER_EVENTS_MAX {
            let Some(earlier) = &event.prev_state else { break };
            let Some(earlier) = self.event_by_id(room, earlier).await? else { break };
            if earlier.pdu.membership() == Some(MembershipState::Join) {
                return Ok(Standing::Left(event));
            }
            event = earlier;
        }
        Ok(Standing::Stranger)
    }

    /// A room for a reader, and up to where they may read it. What is not there and what may not be
    /// read look the same.
    pub(crate) async fn open_for(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Access)> {
        let refused = || RoomsError::forbidden("you are not in this room, and it is not public");
        let room = self.room(room_id).await?.ok_or_else(refused)?;
        let access = match self.standing(viewer, &room).await? {
            Standing::Joined => Access::Now,
            _ if self.is_world_readable(&room).await? => Access::Now,
            Standing::Left(leave) => Access::Until(leave),
            Standing::Stranger => return Err(refused()),
        };
        Ok((room, access))
    }

    /// As [`Rooms::open_for`], for the state and the members: those who left see them as they were
    /// then, even where everybody may read the room now.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3roomsroomidstate)
    pub(crate) async fn open_state_for(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Access)> {
        let (room, access) = self.open_for(viewer, room_id).await?;
        let access = match (access, self.standing(viewer, &room).await?) {
            (Access::Now, Standing::Left(leave)) => Access::Until(leave),
            (access, _) => access,
        };
        Ok((room, access))
    }

    /// Whether everybody may read what is said in a room now.
    pub(crate) async fn is_world_readable(&self, room: &Room) -> Result<bool> {
        let root = self.current_state(room).await?;
        let kind = StateEventType::RoomHistoryVisibility;
        let event = self.state_event(room, root, &kind, "").await?;
        Ok(event.map_or(HistoryVisibility::Shared, |event| visibility_in(&event))
            == HistoryVisibility::WorldReadable)
    }
}

/// What an `m.room.history_visibility` event sets.
pub(crate) fn visibility_in(event: &Pdu) -> HistoryVisibility {
    event
        .content_as::<RoomHistoryVisibilityEventContent>()
        .map_or(HistoryVisibility::Shared, |content| content.history_visibility)
}

/// Looks at the events of one room with the eyes of one viewer, and remembers what it has looked
/// up.
pub(crate) struct Lens<'a> {
    rooms: &'a Rooms,
    room: &'a Room,
    viewer: &'a UserId,
    standing: Standing,
    seen: HashMap<StateRoot, Arc<Around>>,
}

impl<'a> Lens<'a> {
    pub(crate) async fn new(rooms: &'a Rooms, room: &'a Room, viewer: &'a UserId) -> Result<Self> {
        let standing = rooms.standing(viewer, room).await?;
        Ok(Self { rooms, room, viewer, standing, seen: HashMap::new() })
    }

    /// Whether the viewer may see an event.
    pub(crate) async fn shows(&mut self, event: &StoredEvent) -> Result<bool> {
        let outlier = event.position == Position::ZERO;
        let dummy = event.pdu.kind.to_string() == DUMMY_EVENT;
        if event.rejected || event.soft_failed || outlier || dummy {
            return Ok(false);
        }
        let after = self.around(event.state_after).await?;
        let before = if event.pdu.is_state() {
            self.around(event.state_before).await?
        } else {
            Arc::clone(&after)
        };
        let later = self.standing.later(event);
        Ok(may_see(&event.pdu, self.viewer, &before, &after, later))
    }

    /// The viewer's membership once an event was made.
    pub(crate) async fn membership(&mut self, event: &StoredEvent) -> Result<MembershipState> {
        Ok(self.around(event.state_after).await?.membership.clone())
    }

    async fn around(&mut self, root: StateRoot) -> Result<Arc<Around>> {
        if let Some(around) = self.seen.get(&root) {
            return Ok(Arc::clone(around));
        }
        let keys = [
            (StateEventType::RoomHistoryVisibility, String::new()),
            (StateEventType::RoomMember, self.viewer.to_string()),
        ];
        let numbers = self.rooms.state_numbers(self.room, root, &keys).await?;
        let numbers: Vec<_> = numbers.into_iter().flatten().collect();
        let mut around =
            Around { visibility: HistoryVisibility::Shared, membership: MembershipState::Leave };
        for event in self.rooms.events(self.room, &numbers).await? {
            match event.pdu.membership() {
                Some(membership) => around.membership = membership,
                None if event.pdu.kind == TimelineEventType::RoomHistoryVisibility => {
                    around.visibility = visibility_in(&event.pdu);
                }
                None => {}
            }
        }
        let around = Arc::new(around);
        self.seen.insert(root, Arc::clone(&around));
        Ok(around)
    }
}

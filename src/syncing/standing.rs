//! What a user is in each room at a point, though they may have become something else since.

use rooms::{EventNumber, MembershipRecord, Position, Room, Rooms};
use ruma::{
    UserId,
    events::{StateEventType, room::member::MembershipState},
};

use crate::error::Result;

/// What a user is in a room at a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) membership: MembershipState,
    /// The member event that says so.
    pub(crate) event: EventNumber,
    /// When that event was accepted.
    pub(crate) position: Position,
}

/// What the user of a record was in the room at a point; `None` where they were nothing.
pub(crate) async fn at(
    rooms: &Rooms,
    user_id: &UserId,
    record: &MembershipRecord,
    upto: Position,
) -> Result<Option<Standing>> {
    if record.position <= upto {
        return Ok(Some(Standing {
            membership: record.membership.clone(),
            event: record.event,
            position: record.position,
        }));
    }
    let Some(room) = rooms.room(&record.room_id).await? else { return Ok(None) };
    in_state(rooms, user_id, &room, upto).await
}

/// What a user was in a room at a point, by the room's state.
pub(crate) async fn in_state(
    rooms: &Rooms,
    user_id: &UserId,
    room: &Room,
    upto: Position,
) -> Result<Option<Standing>> {
    let Some(root) = rooms.state_at(room, upto).await? else { return Ok(None) };
    let key = (StateEventType::RoomMember, user_id.as_str().to_owned());
    let found = rooms.state_numbers(room, root, &[key]).await?;
    let Some(number) = found.into_iter().flatten().next() else { return Ok(None) };
    let event = rooms.load_event(room, number).await?;
    Ok(event.pdu.membership().map(|membership| Standing {
        membership,
        event: number,
        position: event.position,
    }))
}

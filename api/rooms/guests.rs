//! Guests: which rooms let them in, and their leave where a room no longer does.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#guest-access)

use rooms::{Room, Rooms};
use ruma::{
    RoomId, UserId,
    events::{
        StateEventType,
        room::guest_access::{GuestAccess, RoomGuestAccessEventContent},
    },
};
use tracing::Instrument as _;
use users::Users;

use crate::{
    auth::{Session, guests_may_not},
    error::ApiError,
};

/// Refuses a guest who wants to join a room that is closed to guests.
pub(super) async fn check_join(
    rooms: &Rooms,
    session: &Session,
    room_id: &RoomId,
) -> Result<(), ApiError> {
    if !session.guest {
        return Ok(());
    }
    match rooms.room(room_id).await? {
        Some(room) if lets_guests_in(rooms, &room).await? => Ok(()),
        _ => Err(guests_may_not()),
    }
}

/// Makes this server's guests leave a room whose guest access has changed, if it is closed to them.
/// That goes on after the answer; who cannot be made to leave is passed over.
pub(super) fn see_out(rooms: &Rooms, users: &Users, room_id: &RoomId) {
    let (here, users, room_id) = (rooms.clone(), users.clone(), room_id.to_owned());
    let span = tracing::info_span!("see_out", room.id = %room_id);
    let work = async move {
        if let Err(error) = see_all_out(&here, &users, &room_id).await {
            tracing::warn!(%error, "guests could not be made to leave");
        }
    };
    rooms.spawn(work.instrument(span));
}

async fn see_all_out(rooms: &Rooms, users: &Users, room_id: &RoomId) -> Result<(), ApiError> {
    let Some(room) = rooms.room(room_id).await? else { return Ok(()) };
    if lets_guests_in(rooms, &room).await? {
        return Ok(());
    }
    for user_id in rooms.joined_users(&room).await?.iter() {
        if let Err(error) = see_one_out(rooms, users, room_id, user_id).await {
            tracing::warn!(user.id = %user_id, %error, "a guest could not be made to leave");
        }
    }
    Ok(())
}

async fn see_one_out(
    rooms: &Rooms,
    users: &Users,
    room_id: &RoomId,
    user_id: &UserId,
) -> Result<(), ApiError> {
    let account = users.account(user_id).await?;
    if account.is_some_and(|account| account.guest) {
        rooms.leave(user_id, room_id, None).await?;
    }
    Ok(())
}

async fn lets_guests_in(rooms: &Rooms, room: &Room) -> Result<bool, ApiError> {
    let root = rooms.current_state(room).await?;
    let event = rooms.state_event(room, root, &StateEventType::RoomGuestAccess, "").await?;
    let content = event.and_then(|event| event.content_as::<RoomGuestAccessEventContent>().ok());
    Ok(content.is_some_and(|content| content.guest_access == GuestAccess::CanJoin))
}

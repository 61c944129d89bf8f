//! What other servers may read of a room: its events, its state, and what allows them.
//!
//! A server reads a room in which it has a joined user. One whose users have all gone still gets
//! the events of the time when it was there, so that it can understand how it came to leave.
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events)

mod auth_chain;
mod by_time;
mod lens;
mod state;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use event::Pdu;
use ruma::{EventId, RoomId, ServerName};

use self::lens::ServerLens;
pub(crate) use self::state::ServerStates;
pub use self::state::{NumberedId, StateForServer};
use crate::{
    Rooms,
    error::{Result, RoomsError},
    room::Room,
    tables::EVENT_ROOMS,
};

impl Rooms {
    /// One event for another server: in its redacted form where the history visibility hides it.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when we do not have it, or have refused it.
    /// - [`RoomsError::Forbidden`] when the server is not in the event's room.
    pub async fn event_for(&self, server: &ServerName, event_id: &EventId) -> Result<Arc<Pdu>> {
        let missing = || RoomsError::NotFound { what: "event" };
        let number = self.store().get(&EVENT_ROOMS, &event_id.as_str().to_owned()).await?;
        let room = self.room_by_number(number.ok_or_else(missing)?).await?;
        let mut lens = self.lens_for(server, &room).await?;
        let event = self.event_by_id(&room, event_id).await?.ok_or_else(missing)?;
        if event.rejected {
            return Err(missing());
        }
        lens.view(&event).await
    }

    /// A room that we are in, for a server that may ask about it.
    async fn open_for_server(&self, server: &ServerName, room_id: &RoomId) -> Result<Arc<Room>> {
        let missing = || RoomsError::NotFound { what: "room" };
        let room = self.room(room_id).await?.ok_or_else(missing)?;
        if self.head_of(&room).await?.extremities().is_empty() {
            return Err(missing());
        }
        self.check_acl(&room, server).await?;
        Ok(room)
    }

    /// The eyes of a server on a room. Refuses one that never was in it.
    async fn lens_for<'a>(
        &'a self,
        server: &'a ServerName,
        room: &'a Room,
    ) -> Result<ServerLens<'a>> {
        ServerLens::new(self, room, server).await?.ok_or_else(|| {
            RoomsError::forbidden(format!("{server} is not in the room {}", room.room_id))
        })
    }
}

//! Finding an event by the time at which it was made.

use ruma::{OwnedEventId, RoomId, ServerName, api::Direction};

use crate::{
    Rooms,
    error::{Result, RoomsError},
};

impl Rooms {
    /// The event of a room closest to a time, in milliseconds since the Unix epoch, and its time:
    /// the first at or after it, or going backwards the last at or before it.
    ///
    /// # Errors
    /// - [`RoomsError::Forbidden`] when the server may not ask about the room.
    /// - [`RoomsError::NotFound`] when there is no such event that the server may see.
    pub async fn event_near_for(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        timestamp_ms: u64,
        direction: Direction,
    ) -> Result<(OwnedEventId, u64)> {
        let room = self.open_for_server(server, room_id).await?;
        let mut lens = self.lens_for(server, &room).await?;
        let mut pages = self.events_by_time(&room, timestamp_ms, direction);
        while let Some(mut events) = pages.next(self).await? {
            if direction == Direction::Backward {
                // A page is in the order of time, and its last event the nearest.
                events.reverse();
            }
            for event in events {
                if lens.was_there(&event).await? {
                    let made_ms = event.pdu.origin_server_ts.0.into();
                    return Ok((event.pdu.event_id.clone(), made_ms));
                }
            }
        }
        Err(RoomsError::NotFound { what: "an event of that time" })
    }
}

//! Single events, and the state of a room, as one user may see them.

use std::sync::Arc;

use ruma::{EventId, RoomId, UserId, events::StateEventType};

use crate::{
    Rooms, ServedEvent,
    error::{Result, RoomsError},
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    visibility::{Access, Lens},
};

/// What is said where there is no event, and where it may not be seen.
const NO_EVENT: RoomsError = RoomsError::NotFound { what: "event" };

impl Rooms {
    /// Shows one event.
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when there is no such event that the viewer may see.
    pub async fn event(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<ServedEvent> {
        let (room, _) = self.open_event_room(viewer, room_id).await?;
        let mut lens = Lens::new(self, &room, viewer).await?;
        let event = self.visible_event(&room, &mut lens, event_id).await?;
        self.dress(&mut lens, &room, vec![event]).await?.pop().ok_or(NO_EVENT)
    }

    /// Shows the state of a room: the current one, or to those who left the one in which they did.
    ///
    /// # Errors
    /// [`RoomsError::Forbidden`] when the viewer may not read the room.
    pub async fn state(&self, viewer: &UserId, room_id: &RoomId) -> Result<Vec<ServedEvent>> {
        let (room, access) = self.open_state_for(viewer, room_id).await?;
        let root = access.state(self.current_state(&room).await?);
        let numbers = self.select_state(&room, root, &StateSelect::All).await?;
        let events = self.events(&room, &numbers).await?;
        self.serve_all(viewer, &room, events).await
    }

    /// Shows one event of the state that [`Rooms::state`] shows.
    ///
    /// # Errors
    /// - [`RoomsError::Forbidden`] when the viewer may not read the room.
    /// - [`RoomsError::NotFound`] when the state has no such event.
    pub async fn state_event_for(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
        kind: &StateEventType,
        key: &str,
    ) -> Result<ServedEvent> {
        let (room, access) = self.open_state_for(viewer, room_id).await?;
        let root = access.state(self.current_state(&room).await?);
        let entry = [(kind.clone(), key.to_owned())];
        let found = self.state_numbers(&room, root, &entry).await?;
        let numbers: Vec<_> = found.into_iter().flatten().collect();
        let events = self.events(&room, &numbers).await?;
        let served = self.serve_all(viewer, &room, events).await?;
        served.into_iter().next().ok_or(RoomsError::NotFound { what: "state event" })
    }

    /// As [`Rooms::open_for`], for one who asks for an event: not to be let in looks like the event
    /// not being there.
    pub(crate) async fn open_event_room(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Access)> {
        match self.open_for(viewer, room_id).await {
            Err(RoomsError::Forbidden { .. }) => Err(NO_EVENT),
            opened => opened,
        }
    }

    /// An event of a room, if the viewer may see it.
    pub(crate) async fn visible_event(
        &self,
        room: &Room,
        lens: &mut Lens<'_>,
        event_id: &EventId,
    ) -> Result<Arc<StoredEvent>> {
        let event = self.event_by_id(room, event_id).await?.ok_or(NO_EVENT)?;
        if lens.shows(&event).await? { Ok(event) } else { Err(NO_EVENT) }
    }
}

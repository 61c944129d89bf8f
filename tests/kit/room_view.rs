//! What a server holds of a room, looked at from below, to compare servers.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{EventNumber, Position, RoomsError};
use ruma::RoomId;

use super::server::TestServer;

/// What a server holds of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomView {
    /// The current state: event IDs by type and state key.
    pub(crate) state: BTreeMap<(String, String), String>,
    /// Events that have their place in the room's graph and were not rejected, soft-failed ones
    /// included.
    pub(crate) accepted: BTreeSet<String>,
    /// Events that were not rejected and are shown to nobody.
    pub(crate) soft_failed: BTreeSet<String>,
    /// Events that were rejected.
    pub(crate) rejected: BTreeSet<String>,
    /// The newest accepted events.
    pub(crate) extremities: BTreeSet<String>,
}

impl RoomView {
    /// How many users have a membership in the current state, whichever it is.
    pub(crate) fn members(&self) -> usize {
        self.state.keys().filter(|(kind, _)| kind == "m.room.member").count()
    }
}

impl TestServer {
    /// What this server holds of a room; nothing where it does not know it.
    pub(crate) async fn room_view(&self, room_id: &str) -> RoomView {
        let rooms = self.server().rooms();
        let room_id = RoomId::parse(room_id).unwrap();
        let Some(room) = rooms.room(&room_id).await.unwrap() else { return RoomView::default() };
        let mut view = RoomView::default();
        let head = rooms.head_of(&room).await.unwrap();
        for (entry, number) in rooms.state_diff(&room, None, head.state()).await.unwrap() {
            let event = rooms.load_event(&room, number.unwrap()).await.unwrap();
            let key = (entry.kind.to_string(), entry.key);
            view.state.insert(key, event.pdu.event_id.to_string());
        }
        for number in head.extremities() {
            let event = rooms.load_event(&room, *number).await.unwrap();
            view.extremities.insert(event.pdu.event_id.to_string());
        }
        for number in 1.. {
            let event = match rooms.load_event(&room, EventNumber::new(number)).await {
                Ok(event) => event,
                Err(RoomsError::Damaged { .. } | RoomsError::NotFound { .. }) => break,
                Err(error) => panic!("{error}"),
            };
            let event_id = event.pdu.event_id.to_string();
            if event.rejected {
                view.rejected.insert(event_id);
            } else if event.position != Position::ZERO {
                if event.soft_failed {
                    view.soft_failed.insert(event_id.clone());
                }
                view.accepted.insert(event_id);
            }
        }
        view
    }
}

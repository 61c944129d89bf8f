//! The state of a room as servers ask for it: what they get is remembered for a while, since it
//! costs as much as the room is large, and servers tend to ask for the same.

use std::sync::Arc;

use quick_cache::{Weighter, sync::Cache};
use ruma::{EventId, OwnedEventId, RoomId, ServerName};
use tokio::sync::Semaphore;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    room::Room,
    state::StateSelect,
    tables::{EventNumber, RoomNumber, StateRoot},
};

/// How many states may be gathered at once.
const GATHERING_MAX: usize = 2;

/// Memory for gathered states, in bytes.
const STATES_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// What one entry of a gathered state takes, about, in bytes.
const ENTRY_BYTES: u64 = 80;

/// How many events are read at a time.
const CHUNK_LEN: usize = 500;

/// An event by number and by ID.
pub type NumberedId = (EventNumber, OwnedEventId);

/// A state of a room with its auth chain, for another server.
#[derive(Clone, Debug, Default)]
pub struct StateForServer {
    /// The state events.
    pub state: Vec<NumberedId>,
    /// The events that allow them, and those that allow these, and so on.
    pub auth_chain: Vec<NumberedId>,
}

/// Weighs states by their length.
#[derive(Clone, Copy, Debug)]
struct ByLength;

type States = Cache<(RoomNumber, StateRoot), Arc<StateForServer>, ByLength>;

impl Weighter<(RoomNumber, StateRoot), Arc<StateForServer>> for ByLength {
    fn weight(&self, _: &(RoomNumber, StateRoot), state: &Arc<StateForServer>) -> u64 {
        let entries = state.state.len() + state.auth_chain.len();
        200 + ENTRY_BYTES * u64::try_from(entries).unwrap_or(u64::MAX / ENTRY_BYTES)
    }
}

/// The states that servers asked for last.
#[derive(Debug)]
pub(crate) struct ServerStates {
    known: States,
    gathering: Semaphore,
}

impl Default for ServerStates {
    fn default() -> Self {
        Self {
            known: Cache::with_weighter(256, STATES_BYTES_MAX, ByLength),
            gathering: Semaphore::new(GATHERING_MAX),
        }
    }
}

impl Rooms {
    /// The state of a room just before an event, with its auth chain, for another server.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when we do not have the event, or do not know the state there.
    /// - [`RoomsError::Forbidden`] when the server was not in the room then and is not now.
    pub async fn state_for(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<(Arc<Room>, Arc<StateForServer>)> {
        let room = self.open_for_server(server, room_id).await?;
        if self.is_partial(room.number) {
            return Err(RoomsError::Partial);
        }
        if self.is_partial(room.number) {
            return Err(RoomsError::Partial);
        }
        let mut lens = self.lens_for(server, &room).await?;
        let event = self.event_by_id(&room, event_id).await?;
        let event = event.ok_or(RoomsError::NotFound { what: "event" })?;
        let is_first = event.pdu.prev_events.is_empty();
        if event.state_before == StateRoot::EMPTY && !is_first {
            return Err(RoomsError::NotFound { what: "the state at this event" });
        }
        if !lens.was_there(&event).await? {
            return Err(RoomsError::forbidden(format!("{server} was not in the room then")));
        }
        let state = self.gather_state(&room, event.state_before).await?;
        Ok((room, state))
    }

    /// A state with its auth chain.
    pub(crate) async fn gather_state(
        &self,
        room: &Room,
        root: StateRoot,
    ) -> Result<Arc<StateForServer>> {
        let states = &self.inner.server_states;
        let gather = async {
            let _permit = states.gathering.acquire().await.map_err(|_| RoomsError::Stopping)?;
            self.gather(room, root).await.map(Arc::new)
        };
        states.known.get_or_insert_async(&(room.number, root), gather).await
    }

    async fn gather(&self, room: &Room, root: StateRoot) -> Result<StateForServer> {
        let numbers = self.select_state(room, root, &StateSelect::All).await?;
        let mut state = Vec::with_capacity(numbers.len());
        let mut auth_events = Vec::new();
        for chunk in numbers.chunks(CHUNK_LEN) {
            for event in self.events(room, chunk).await? {
                state.push((event.number, event.pdu.event_id.clone()));
                auth_events.extend(event.pdu.auth_events.iter().cloned());
            }
        }
        let auth_chain = self.auth_chain_of(room, auth_events).await?;
        Ok(StateForServer { state, auth_chain })
    }
}

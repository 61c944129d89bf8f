//! Fetching the state of a partial room.

use std::{collections::HashMap, sync::Arc, time::Duration};

use event::VerifiedPdu;
use ruma::{EventId, OwnedServerName, events::StateEventType};
use tracing::Instrument as _;

use super::PartialRow;
use crate::{
    Rooms,
    error::{Result, RoomsError},
    remote::{RemoteError, RemoteState},
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    tables::RoomNumber,
};

/// How long it is waited before servers are asked again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// Most servers that are asked in one round.
const SERVERS_ASKED_MAX: usize = 5;

/// How many events of a state are stored at a time. Few in tests, which would not get there else.
const CHUNK_LEN: usize = if cfg!(test) { 16 } else { 4_000 };

/// What came of a round.
enum Round {
    /// The room is whole, or we are in it no more.
    Done,
    /// No server could help.
    NobodyHelped,
}

impl Rooms {
    /// Fetches the whole state of a room while everything else goes on.
    pub(crate) fn complete_behind(&self, room: RoomNumber) {
        let rooms = self.clone();
        let span = tracing::info_span!("complete_room", room = room.get());
        let work = async move {
            let closing = rooms.inner.closing.clone();
            let _ = closing.run_until_cancelled(rooms.complete(room)).await;
        };
        self.inner.tasks.spawn(work.instrument(span));
    }

    async fn complete(&self, number: RoomNumber) {
        let mut pause = PAUSE_MIN;
        for round in 0.. {
            match self.complete_once(number, round).await {
                Ok(Round::Done) => return,
                Ok(Round::NobodyHelped) => {}
                Err(RoomsError::Stopping) => return,
                Err(error) => tracing::warn!(%error, "a room could not be completed"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks some of the servers, others in each round.
    async fn complete_once(&self, number: RoomNumber, round: usize) -> Result<Round> {
        let Some(row) = self.partial_row(number).await?.filter(|row| !row.whole) else {
            return Ok(Round::Done);
        };
        let room = self.room_by_number(number).await?;
        if !self.is_resident(&room).await? {
            // Nobody of ours is left who would care; the next join brings a new state.
            return self.finish(&room, &row, None).await;
        }
        let join = self.load_event(&room, row.join).await?;
        let remote = &self.inner.config.remote;
        let mut servers: Vec<&OwnedServerName> = row.servers.iter().collect();
        let asked = round.saturating_mul(SERVERS_ASKED_MAX) % servers.len().max(1);
        servers.rotate_left(asked);
        servers.sort_by_key(|server| !remote.is_reachable(server));
        for server in servers.into_iter().take(SERVERS_ASKED_MAX) {
            match remote.state(server, &room, &join.pdu.event_id).await {
                Ok(state) => match self.lacks_known(&room, &join, &state).await? {
                    None => {
                        self.store_ahead(&room, &state.state, &state.auth_chain).await?;
                        return self.finish(&room, &row, Some(state)).await;
                    }
                    Some(why) => {
                        let error = RemoteError::BadAnswer { server: server.clone(), why };
                        tracing::info!(%error, room.id = %room.room_id, "no whole state");
                    }
                },
                Err(error) => tracing::info!(%error, room.id = %room.room_id, "no whole state"),
            }
        }
        Ok(Round::NobodyHelped)
    }

    /// Puts a state that was fetched in the place of what we had.
    async fn finish(
        &self,
        room: &Arc<Room>,
        row: &PartialRow,
        state: Option<RemoteState>,
    ) -> Result<Round> {
        let done = self.make_whole(room, row, state).await?;
        Ok(if done { Round::Done } else { Round::NobodyHelped })
    }

    /// Why a state cannot be the whole one before our join: it lacks some of what we know of that.
    async fn lacks_known(
        &self,
        room: &Room,
        join: &StoredEvent,
        state: &RemoteState,
    ) -> Result<Option<String>> {
        let told: HashMap<(StateEventType, &str), &EventId> = state
            .state
            .iter()
            .map(VerifiedPdu::pdu)
            .filter_map(|pdu| Some((pdu.state_entry()?, &*pdu.event_id)))
            .collect();
        for known in self.state_events(room, join.state_before, &StateSelect::All).await? {
            let Some((kind, key)) = known.state_entry() else { continue };
            let is_create = kind == StateEventType::RoomCreate;
            let why = match told.get(&(kind.clone(), key)) {
                Some(id) if is_create && **id != known.event_id => "has another create event",
                Some(_) => continue,
                None => "lacks",
            };
            return Ok(Some(format!("its state {why} ({kind}, {key:?})")));
        }
        Ok(None)
    }

    /// Stores the events of a large state as outliers, some at a time, so that the commit that
    /// needs them does not become too large.
    pub(crate) async fn store_ahead(
        &self,
        room: &Room,
        state: &[VerifiedPdu],
        auth_chain: &[VerifiedPdu],
    ) -> Result<()> {
        if state.len() + auth_chain.len() <= CHUNK_LEN {
            return Ok(());
        }
        let mut events: Vec<&VerifiedPdu> = state.iter().chain(auth_chain).collect();
        // What allows an event lies before it.
        events.sort_by_key(|event| event.pdu().depth);
        events.dedup_by_key(|event| &event.pdu().event_id);
        for chunk in events.chunks(CHUNK_LEN) {
            let entrance = self.enter_any(&room.room_id, &room.version).await?;
            let mut assembly = entrance.assembly(self);
            assembly.import_outliers(chunk.iter().copied().cloned()).await?;
            if assembly.outliers.is_empty() {
                continue;
            }
            let known = Arc::clone(entrance.lane.room());
            let held = &entrance.lane.held;
            self.commit_assembly(assembly, entrance.rows(), held, &known).await?;
            self.inner.caches.keep_room(&known);
        }
        Ok(())
    }
}

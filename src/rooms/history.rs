//! What was said before a hole in the timeline: fetched from other servers when somebody reads so
//! far.
//!
//! Such events stand in the timeline just before the event behind the hole, and change nothing of
//! what the room is now.
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events)

mod assemble;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use event::VerifiedPdu;
use ruma::{OwnedEventId, OwnedServerName};
use store::{Json, Position};

use crate::{
    Rooms,
    error::Result,
    outliers::Entry,
    receive::{fetch::Receiving, order},
    room::Room,
    stored_event::StoredEvent,
    tables::{GAPS, GapRow, TIMELINE},
};

/// Most events that are asked for at once.
const EVENTS_MAX: u16 = 100;

/// Fewest events that are asked for at once.
const EVENTS_MIN: u16 = 20;

/// Most events named in one request.
const NAMED_MAX: usize = 20;

/// Most servers that are asked.
const SERVERS_MAX: usize = 5;

/// Most events of one answer for which the state before them is asked for.
const STATES_MAX: usize = 3;

/// How long somebody may wait for what was said before a hole.
const TIME_MAX: Duration = Duration::from_secs(20);

/// How long a hole that nobody could fill is left alone, in milliseconds.
const FUTILE_MS: u64 = 60_000;

/// What another server gave for a hole.
pub(crate) struct Haul {
    /// The events, the oldest first.
    events: Vec<VerifiedPdu>,
    /// What decides over them, and the states before some of them.
    outliers: Vec<VerifiedPdu>,
    states: HashMap<OwnedEventId, Vec<Entry>>,
}

impl Rooms {
    /// Asks other servers for what is missing in a hole, about as many events as are wanted. Tells
    /// whether there is something new to be read.
    pub(crate) async fn fill_hole(
        &self,
        room: &Room,
        position: Position,
        wanted: usize,
    ) -> Result<bool> {
        let futile = &self.inner.caches.futile;
        let key = (room.number, position);
        if futile.get(&key).is_some_and(|tried| tried.saturating_add(FUTILE_MS) > self.now_ms()) {
            return Ok(false);
        }
        let Some(Json(row)) = self.store().get(&GAPS, &key).await? else { return Ok(true) };
        let Some(behind) = self.behind(room, position).await? else { return Ok(false) };
        let room = self.load_room(&room.room_id).await?;
        let filling = self.fill_from_servers(&room, position, row, &behind, wanted);
        let filled = match tokio::time::timeout(TIME_MAX, filling).await {
            Ok(filled) => filled?,
            Err(_) => false,
        };
        if !filled {
            futile.insert(key, self.now_ms());
        }
        Ok(filled)
    }

    async fn fill_from_servers(
        &self,
        room: &Arc<Room>,
        position: Position,
        row: GapRow,
        behind: &Arc<StoredEvent>,
        wanted: usize,
    ) -> Result<bool> {
        if !self.is_resident(room).await? {
            return Ok(false);
        }
        let wanted = u16::try_from(wanted).unwrap_or(EVENTS_MAX).clamp(EVENTS_MIN, EVENTS_MAX);
        for server in self.servers_for_history(room, behind).await? {
            let Some(haul) = self.haul(room, &server, &row, wanted).await? else { continue };
            if self.bring_in(room, position, &row, behind, haul).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The event behind a hole.
    async fn behind(&self, room: &Room, position: Position) -> Result<Option<Arc<StoredEvent>>> {
        let row = self.store().get(&TIMELINE, &(room.number, position, 0)).await?;
        match row.map(|row| row.event) {
            Some(number) => self.load_event(room, number).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whom to ask: the server of the event behind the hole, then those with the most users.
    async fn servers_for_history(
        &self,
        room: &Room,
        behind: &StoredEvent,
    ) -> Result<Vec<OwnedServerName>> {
        let first = behind.pdu.sender.server_name().to_owned();
        let joined = self.joined_servers(room).await?;
        let first = Some(first).filter(|server| joined.contains(server));
        let remote = &self.inner.config.remote;
        let mut servers: Vec<OwnedServerName> = Vec::new();
        for server in first.into_iter().chain(joined.by_users()) {
            let fits = server != *self.server_name() && !servers.contains(&server);
            if fits && servers.len() < SERVERS_MAX && remote.is_reachable(&server) {
                servers.push(server);
            }
        }
        Ok(servers)
    }

    /// Asks one server for what is missing.
    async fn haul(
        &self,
        room: &Arc<Room>,
        server: &OwnedServerName,
        row: &GapRow,
        wanted: u16,
    ) -> Result<Option<Haul>> {
        let remote = Arc::clone(&self.inner.config.remote);
        let mut receiving = Receiving::new(self, Arc::clone(room), server);
        let named: Vec<OwnedEventId> = row.missing.iter().take(NAMED_MAX).cloned().collect();
        let asked = remote.backfill(server, room, &named, wanted);
        let Ok(events) = receiving.ask(asked).await else { return Ok(None) };
        let mut pool = HashMap::new();
        for event in events.into_iter().take(usize::from(EVENTS_MAX)) {
            if !self.is_placed(room, &event.pdu().event_id).await? {
                receiving.pool(&mut pool, [event]);
            }
        }
        let events = order::oldest_first(&row.missing, pool);
        if events.is_empty() {
            return Ok(None);
        }
        let mut haul = Haul { events, outliers: Vec::new(), states: HashMap::new() };
        self.haul_states(&mut receiving, server, &mut haul).await?;
        Ok(Some(haul))
    }

    /// Asks for the states before those events that follow what is still missing, and for what
    /// decides over the others.
    async fn haul_states(
        &self,
        receiving: &mut Receiving<'_>,
        server: &OwnedServerName,
        haul: &mut Haul,
    ) -> Result<()> {
        let room = Arc::clone(&receiving.room);
        let ids: Vec<OwnedEventId> =
            haul.events.iter().map(|event| event.pdu().event_id.clone()).collect();
        let mut pool: HashMap<OwnedEventId, VerifiedPdu> = HashMap::new();
        for event in &haul.events {
            let pdu = event.pdu();
            let mut on_edge = false;
            for prev in &pdu.prev_events {
                on_edge |= !ids.contains(prev) && !self.is_placed(&room, prev).await?;
            }
            if on_edge
                && haul.states.len() < STATES_MAX
                && let Ok(state) = receiving.state_before(server, &pdu.event_id, &mut pool).await?
            {
                haul.states.insert(pdu.event_id.clone(), state);
            }
        }
        // Events of the haul may decide over others of it.
        pool.extend(
            haul.events
                .iter()
                .filter(|event| event.pdu().is_state())
                .map(|event| (event.pdu().event_id.clone(), event.clone())),
        );
        for event in &haul.events {
            let deciding: Vec<OwnedEventId> =
                crate::outliers::deciding(event.pdu(), &room).collect();
            if receiving.lacking(&deciding, &pool).await?.is_empty() {
                continue;
            }
            let mut supply = crate::receive::place::Supply::default();
            // Without them the event is passed over.
            let found = receiving.auth_events(event.pdu(), &deciding, &mut supply).await?;
            if found.is_ok() {
                receiving.pool(&mut pool, supply.outliers);
            }
        }
        pool.retain(|id, _| !ids.contains(id));
        haul.outliers = pool.into_values().collect();
        Ok(())
    }
}

/// The index of an event that was fetched into a hole: the `count`-th before its end, from 1.
pub(crate) fn index_of(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).saturating_neg()
}

/// The last part of the key of such an event's row.
pub(crate) fn key_of(index: i64) -> u64 {
    u64::MAX.saturating_sub(index.min(0).unsigned_abs())
}

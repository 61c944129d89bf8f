//! Servers that were away for long: instead of all events, they get the newest of each room, and
//! ask for what they want of the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use rooms::{EventNumber, Pdu, RoomNumber, RoomsError};
use ruma::ServerName;
use store::{Batch, Json, Page, StoreError};

use super::{
    Shared,
    outcome::EDUS_MAX,
    tables::{CATCH_UP, EDUS, OUTBOX, QueuedEdu, QueuedEvent},
    transaction::{Open, PDUS_MAX, SenderError},
};

/// Most events of one room, which are then its newest.
const EVENTS_OF_ROOM_MAX: usize = 10;

/// How many rows of the queue are replaced at a time.
const PAGE_LEN: usize = 500;

impl Shared {
    /// Replaces the queue of a server by the rooms in which it misses something.
    pub(super) async fn fall_behind(&self, server: &ServerName) -> Result<(), StoreError> {
        let name = server.to_string();
        loop {
            let rows =
                self.store.scan(&OUTBOX, OUTBOX.prefix(&name), Page::first(PAGE_LEN)).await?;
            if rows.is_empty() {
                break;
            }
            let mut newest: BTreeMap<RoomNumber, EventNumber> = BTreeMap::new();
            let mut batch = Batch::new();
            for (key, QueuedEvent { room, event }) in &rows {
                let known = newest.entry(*room).or_default();
                *known = (*known).max(*event);
                batch.delete(&OUTBOX, key);
            }
            for (room, event) in newest {
                let key = (name.clone(), room);
                let old = self.store.get(&CATCH_UP, &key).await?;
                batch.expect(&CATCH_UP, &key, old.as_ref());
                batch.put(&CATCH_UP, &key, &event.max(old.unwrap_or_default()));
            }
            match self.store.commit(batch).await {
                Ok(_) | Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.destinations.with(server, |destination| {
            destination.has_missed = true;
            destination.events = 0;
            destination.open = None;
        });
        self.thin_out_edus(&name).await
    }

    /// Keeps the newest of EDUs that are about the same: the server asks for the rest.
    async fn thin_out_edus(&self, server: &String) -> Result<(), StoreError> {
        let rows = self.store.scan(&EDUS, EDUS.prefix(server), Page::last(EDUS_MAX)).await?;
        let mut seen = BTreeSet::new();
        let mut batch = Batch::new();
        for (key, Json(edu)) in rows {
            let about = match edu {
                QueuedEdu::Device { user, .. } => QueuedEdu::Device { user, stream: 0 },
                QueuedEdu::SigningKeys { user } => QueuedEdu::SigningKeys { user },
            };
            if !seen.insert(about) {
                batch.delete(&EDUS, &key);
            }
        }
        if batch.is_empty() { Ok(()) } else { self.store.commit(batch).await.map(drop) }
    }

    /// Adds the newest events of rooms in which a server has missed something.
    pub(super) async fn add_missed(
        &self,
        server: &ServerName,
        open: &mut Open,
    ) -> Result<(), SenderError> {
        let may_have =
            self.destinations.with(server, |destination| mem::take(&mut destination.has_missed));
        if may_have != Some(true) {
            return Ok(());
        }
        let result = self.add_missed_rooms(server, open).await;
        if result.as_ref().map_or(true, |more| *more) || !open.missed.is_empty() {
            // Those that are added stay until the server has them.
            self.destinations.with(server, |destination| destination.has_missed = true);
        }
        result.map(drop)
    }

    /// Tells whether there are more rooms.
    async fn add_missed_rooms(
        &self,
        server: &ServerName,
        open: &mut Open,
    ) -> Result<bool, SenderError> {
        let range = CATCH_UP.prefix(&server.to_string());
        let rows = self.store.scan(&CATCH_UP, range, Page::first(PDUS_MAX)).await?;
        for ((_, room), event) in rows {
            let newest = self.newest_of(server, QueuedEvent { room, event }).await?;
            let is_full = open.transaction.pdus.len() + newest.len() > PDUS_MAX;
            if !open.has_room() || is_full {
                return Ok(true);
            }
            for pdu in newest {
                open.add(pdu);
            }
            open.missed.push((room, event));
        }
        Ok(false)
    }

    /// The newest events of a room for a server that missed this one. For one that is no longer in
    /// the room, that is it.
    async fn newest_of(
        &self,
        server: &ServerName,
        missed: QueuedEvent,
    ) -> Result<Vec<Arc<Pdu>>, SenderError> {
        let room = match self.rooms.room_by_number(missed.room).await {
            Ok(room) => room,
            Err(RoomsError::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(Vec::new()),
        };
        if !self.rooms.joined_servers(&room).await?.contains(server) {
            return Ok(self.queued_pdu(missed).await?.into_iter().collect());
        }
        let head = self.rooms.head_of(&room).await?;
        let mut numbers = head.extremities().to_vec();
        numbers.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        numbers.truncate(EVENTS_OF_ROOM_MAX);
        numbers.reverse();
        let mut newest = Vec::with_capacity(numbers.len());
        for event in self.rooms.events(&room, &numbers).await? {
            // What is its own it has.
            if event.pdu.sender.server_name() != server {
                newest.push(Arc::clone(&event.pdu));
            }
        }
        Ok(newest)
    }
}

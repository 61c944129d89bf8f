//! The auth chain of events as servers ask for it.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use event::Pdu;
use ruma::{EventId, OwnedEventId, RoomId, ServerName};

use super::NumberedId;
use crate::{
    Rooms,
    auth_chain::AUTH_CHAIN_LEN_MAX,
    error::{Result, RoomsError},
    room::Room,
    tables::EventNumber,
};

/// How many events are read at a time.
const CHUNK_LEN: usize = 500;

/// Most events of an auth chain that are given whole.
const EVENTS_MAX: usize = 20_000;

impl Rooms {
    /// The auth chain of an event, without the event.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when we do not have the event.
    /// - [`RoomsError::Forbidden`] when the server was not in the room then and is not now.
    pub async fn auth_chain_for(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event_id: &EventId,
    ) -> Result<Vec<Arc<Pdu>>> {
        let room = self.open_for_server(server, room_id).await?;
        let mut lens = self.lens_for(server, &room).await?;
        let event = self.event_by_id(&room, event_id).await?;
        let event = event.ok_or(RoomsError::NotFound { what: "event" })?;
        if !lens.was_there(&event).await? {
            return Err(RoomsError::forbidden(format!("{server} was not in the room then")));
        }
        let chain = self.auth_chain_of(&room, event.pdu.auth_events.clone()).await?;
        if chain.len() > EVENTS_MAX {
            return Err(RoomsError::invalid("the auth chain is too long to be sent"));
        }
        let numbers: Vec<EventNumber> = chain.into_iter().map(|(number, _)| number).collect();
        let events = self.events(&room, &numbers).await?;
        Ok(events.into_iter().map(|event| Arc::clone(&event.pdu)).collect())
    }

    /// Some events and those that allow them, and so on, as far as we have them; the oldest first.
    /// Reads them level by level.
    pub(crate) async fn auth_chain_of(
        &self,
        room: &Room,
        start: Vec<OwnedEventId>,
    ) -> Result<Vec<NumberedId>> {
        let mut met: HashSet<OwnedEventId> = start.iter().cloned().collect();
        let mut chain: BTreeSet<NumberedId> = BTreeSet::new();
        let mut level: Vec<OwnedEventId> = met.iter().cloned().collect();
        while !level.is_empty() {
            let mut next = Vec::new();
            for ids in level.chunks(CHUNK_LEN) {
                let numbers: Vec<EventNumber> =
                    self.event_numbers(room, ids).await?.into_iter().flatten().collect();
                for event in self.events(room, &numbers).await? {
                    chain.insert((event.number, event.pdu.event_id.clone()));
                    for id in &event.pdu.auth_events {
                        if met.insert(id.clone()) {
                            next.push(id.clone());
                        }
                    }
                }
            }
            if met.len() > AUTH_CHAIN_LEN_MAX {
                return Err(RoomsError::invalid("an auth chain is too long"));
            }
            level = next;
        }
        Ok(chain.into_iter().collect())
    }
}

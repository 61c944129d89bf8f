//! Receiving events of other servers: the checks that the specification wants, with what they need
//! fetched before the room's lane is entered.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu)
//!
//! 1. to 3., form, signatures and hash: a [`VerifiedPdu`] has passed them.
//! 4. by its auth events, 5. by the state before it, 6. by the current state: [`place`].

mod dummy;
pub(crate) mod fetch;
mod gap;
pub(crate) mod order;
pub(crate) mod place;
mod state;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use event::{Pdu, VerifiedPdu};
use ruma::{OwnedEventId, ServerName, events::TimelineEventType};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    receive::{fetch::Lack, place::Outcome},
    room::Room,
    stored_event::StoredEvent,
    tables::{ENTERED, TIMELINE},
};

pub(crate) use self::dummy::DUMMY_EVENT;

/// What became of an event that another server sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// We had it already.
    Known,
    /// It is in the room's timeline now.
    Accepted,
    /// It was allowed where it stands but is no longer: it is kept and shown to nobody.
    SoftFailed {
        /// The rule that it breaks, as a sentence for people.
        why: String,
    },
    /// It is not allowed, or what it builds upon is not to be had from anybody.
    Rejected {
        /// The reason, as a sentence for people.
        why: String,
    },
    /// It is of a room in which we have no user.
    NotOurs,
}

/// How often an event is tried again when its room was written to by someone else meanwhile.
const TRIES_MAX: u32 = 5;

impl Rooms {
    /// Takes an event that another server sent, with whatever it takes to understand it: fetches
    /// missing events and states from `origin` or other servers in the room. Answers once all is
    /// durable.
    ///
    /// # Errors
    /// - [`RoomsError::Incomplete`] when servers that could help were not to be reached: to be
    ///   tried again later.
    /// - [`RoomsError::Store`] and the like.
    pub async fn receive(&self, origin: &ServerName, event: VerifiedPdu) -> Result<Received> {
        let Some(room) = self.resident_room(event.pdu()).await? else {
            return Ok(Received::NotOurs);
        };
        if let Some(seen) = self.seen(&room, event.pdu()).await? {
            return Ok(seen);
        }
        fetch::Receiving::new(self, room, origin).run(event).await
    }

    /// As [`Rooms::receive`], without asking anybody: `None` when something is missing, and nothing
    /// has been done then.
    ///
    /// # Errors
    /// [`RoomsError::Store`] and the like.
    pub async fn receive_if_ready(
        &self,
        origin: &ServerName,
        event: VerifiedPdu,
    ) -> Result<Option<Received>> {
        let Some(room) = self.resident_room(event.pdu()).await? else {
            return Ok(Some(Received::NotOurs));
        };
        if let Some(seen) = self.seen(&room, event.pdu()).await? {
            return Ok(Some(seen));
        }
        let lack = self.lack(&room, event.pdu()).await?;
        // A policy server may have to be asked.
        if !lack.is_empty() || !self.is_policed(&room, event.pdu()).await? {
            tracing::debug!(%origin, event.id = %event.pdu().event_id, "an event has to wait");
            return Ok(None);
        }
        match self.try_place(&room, &event, &place::Supply::default()).await? {
            Outcome::Done(received) => Ok(Some(received)),
            Outcome::Lacks(_) => Ok(None),
        }
    }

    /// The room of an event, if we have a user in it and can therefore judge the event.
    async fn resident_room(&self, pdu: &Pdu) -> Result<Option<Arc<Room>>> {
        let Some(room) = self.room(&pdu.room_id).await? else { return Ok(None) };
        let head = self.head_of(&room).await?;
        if head.extremities().is_empty() {
            return Ok(None);
        }
        let servers = self.joined_servers(&room).await?;
        Ok(servers.contains(self.server_name()).then_some(room))
    }

    /// What is known of an event without looking at its place.
    async fn seen(&self, room: &Room, pdu: &Pdu) -> Result<Option<Received>> {
        if let Some(event) = self.event_by_id(room, &pdu.event_id).await? {
            // What was part of the state when we came is history: were it to come in as news, it
            // would bring that state back.
            if event.position != store::Position::ZERO {
                return Ok(Some(Received::Known));
            }
            if let Some(join) = self.entered_with(room).await?
                && (event.number < join.number || event.pdu.depth < join.pdu.depth)
            {
                return Ok(Some(Received::Known));
            }
        }
        if pdu.kind == TimelineEventType::RoomCreate {
            // A room that we are in has its create event already.
            let why = "the room has another create event".to_owned();
            return Ok(Some(Received::Rejected { why }));
        }
        if pdu.prev_events.is_empty() {
            let why = "it follows no event".to_owned();
            return Ok(Some(Received::Rejected { why }));
        }
        Ok(None)
    }

    /// Our join when we last came into a room from outside.
    async fn entered_with(&self, room: &Room) -> Result<Option<Arc<StoredEvent>>> {
        let row = self.store().get(&ENTERED, &room.number).await?;
        let Some(position) = row.map(|row| row.position) else { return Ok(None) };
        let row = self.store().get(&TIMELINE, &(room.number, position, 0)).await?;
        match row {
            Some(row) => self.load_event(room, row.event).await.map(Some),
            None => Ok(None),
        }
    }

    /// What an event builds upon and we do not have.
    async fn lack(&self, room: &Room, pdu: &Pdu) -> Result<Lack> {
        let auth: Vec<OwnedEventId> = crate::outliers::deciding(pdu, room).collect();
        let found = self.event_numbers(room, &auth).await?;
        let auth_events =
            auth.into_iter().zip(found).filter(|(_, n)| n.is_none()).map(|(id, _)| id).collect();
        let mut prev_events = Vec::new();
        for id in &pdu.prev_events {
            let event = self.event_by_id(room, id).await?;
            let placed = event.is_some_and(|event| event.position != store::Position::ZERO);
            if !placed && !prev_events.contains(id) {
                prev_events.push(id.clone());
            }
        }
        Ok(Lack { auth_events, prev_events })
    }

    /// Places an event in the lane of its room, again where someone else was faster.
    async fn try_place(
        &self,
        room: &Arc<Room>,
        event: &VerifiedPdu,
        supply: &place::Supply,
    ) -> Result<Outcome> {
        for _ in 0..TRIES_MAX {
            match self.place_received(room, event.clone(), supply).await {
                Err(RoomsError::Store(store::StoreError::Conflict { .. })) => {}
                done => return done,
            }
        }
        self.place_received(room, event.clone(), supply).await
    }
}

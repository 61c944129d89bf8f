//! The events between what we have and one that came.

use std::{collections::HashMap, sync::Arc};

use event::VerifiedPdu;
use ruma::OwnedEventId;
use store::Page;

use crate::{
    Rooms,
    error::Result,
    receive::{fetch::Receiving, order},
    remote::Gap,
    room::Room,
    tables::TIMELINE,
};

/// Most events that are asked for at once. Servers give no more than 20.
const ANSWER_LEN: u16 = 20;

/// How often is asked for what is missing before one event.
const ROUNDS_MAX: u32 = 25;

/// Most events named in one request.
const NAMED_MAX: usize = 20;

impl Receiving<'_> {
    /// Asks the server that sent an event for those that come before it, the oldest first. Asks on
    /// as long as its answers are full.
    pub(super) async fn missing_events(&mut self, event: &VerifiedPdu) -> Result<Vec<VerifiedPdu>> {
        let mut pool: HashMap<OwnedEventId, VerifiedPdu> = HashMap::new();
        let earliest = self.rooms.extremity_ids(&self.room).await?;
        let min_depth = self.rooms.least_depth(&self.room).await?;
        let mut latest = vec![event.pdu().event_id.clone()];
        let (remote, room, origin) = (self.remote(), Arc::clone(&self.room), self.origin);
        for _ in 0..ROUNDS_MAX {
            let gap = Gap { latest, earliest: earliest.clone(), min_depth, limit: ANSWER_LEN };
            let asked = remote.missing_events(origin, &room, gap);
            let Ok(events) = self.ask(asked).await else { break };
            let full = events.len() >= usize::from(ANSWER_LEN);
            let before = pool.len();
            for found in events.into_iter().take(ANSWER_LEN.into()) {
                let id = &found.pdu().event_id;
                if *id != event.pdu().event_id && !self.rooms.is_placed(&self.room, id).await? {
                    self.pool(&mut pool, [found]);
                }
            }
            if !full || pool.len() == before {
                break;
            }
            latest = self.edge(event, &pool).await?;
            if latest.is_empty() {
                break;
            }
        }
        Ok(order::oldest_first(&event.pdu().prev_events, pool))
    }

    /// The events that follow what is still missing.
    async fn edge(
        &self,
        event: &VerifiedPdu,
        pool: &HashMap<OwnedEventId, VerifiedPdu>,
    ) -> Result<Vec<OwnedEventId>> {
        let mut edge = Vec::new();
        for found in pool.values().chain([event]) {
            for prev in &found.pdu().prev_events {
                if !pool.contains_key(prev) && !self.rooms.is_placed(&self.room, prev).await? {
                    edge.push((found.pdu().depth, found.pdu().event_id.clone()));
                    break;
                }
            }
        }
        edge.sort_unstable();
        Ok(edge.into_iter().map(|(_, id)| id).take(NAMED_MAX).collect())
    }
}

impl Rooms {
    /// The IDs of the newest forward extremities.
    pub(crate) async fn extremity_ids(&self, room: &Room) -> Result<Vec<OwnedEventId>> {
        let head = self.head_of(room).await?;
        let newest: Vec<_> = head.extremities.iter().rev().take(NAMED_MAX).copied().collect();
        let events = self.events(room, &newest).await?;
        Ok(events.into_iter().map(|event| event.pdu.event_id.clone()).collect())
    }

    /// Whether an event has its place in the graph.
    pub(crate) async fn is_placed(&self, room: &Room, id: &ruma::EventId) -> Result<bool> {
        let event = self.event_by_id(room, id).await?;
        Ok(event.is_some_and(|event| event.position != store::Position::ZERO))
    }

    /// The depth at which our timeline begins: what was before that is history.
    async fn least_depth(&self, room: &Room) -> Result<u64> {
        let range = TIMELINE.prefix(&room.number);
        let rows = self.store().scan(&TIMELINE, range, Page::first(1)).await?;
        let Some((_, row)) = rows.into_iter().next() else { return Ok(0) };
        Ok(self.load_event(room, row.event).await?.pdu.depth.into())
    }
}

//! Walking back through a room's graph for another server.

use std::{
    collections::{BTreeSet, BinaryHeap, HashSet, VecDeque},
    sync::Arc,
};

use event::Pdu;
use ruma::{OwnedEventId, RoomId, ServerName};

use super::lens::ServerLens;
use crate::{
    Rooms, error::Result, remote::Gap, room::Room, stored_event::StoredEvent, tables::EventNumber,
};

/// Most events of one answer.
const LIMIT_MAX: usize = 100;

/// Most events that are looked at for one answer.
const LOOKS_MAX: usize = 1_000;

/// Most events that a request may name.
const NAMED_MAX: usize = 200;

/// Bytes of events after which an answer ends.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the walk came by: as much as one answer may hold.
#[derive(Default)]
struct Bag {
    events: Vec<Arc<Pdu>>,
    bytes: usize,
}

impl Bag {
    fn put(&mut self, pdu: Arc<Pdu>) {
        self.bytes += pdu.json.len();
        self.events.push(pdu);
    }

    fn is_full(&self, limit: usize) -> bool {
        self.events.len() >= limit || self.bytes >= BYTES_MAX
    }
}

impl Rooms {
    /// Some events and those before them, the newest first; what the history visibility hides from
    /// the server in redacted form.
    ///
    /// # Errors
    /// [`crate::RoomsError::Forbidden`] when the server may not ask about the room.
    pub async fn backfill_for(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        from: &[OwnedEventId],
        limit: usize,
    ) -> Result<Vec<Arc<Pdu>>> {
        let room = self.open_for_server(server, room_id).await?;
        let mut lens = self.lens_for(server, &room).await?;
        let limit = limit.min(LIMIT_MAX);
        let mut bag = Bag::default();
        let mut met: HashSet<EventNumber> = HashSet::new();
        let mut ahead: BinaryHeap<(u64, EventNumber)> = BinaryHeap::new();
        let from = from.get(..NAMED_MAX).unwrap_or(from);
        self.meet(&room, from, &mut met, &mut ahead).await?;
        for _ in 0..LOOKS_MAX {
            if bag.is_full(limit) {
                break;
            }
            let Some((_, number)) = ahead.pop() else { break };
            let event = self.load_event(&room, number).await?;
            self.meet(&room, &event.pdu.prev_events, &mut met, &mut ahead).await?;
            put_seen(&mut bag, &mut lens, &event).await?;
        }
        Ok(bag.events)
    }

    /// Adds events that were not met yet to those that lie ahead, by their depth.
    async fn meet(
        &self,
        room: &Room,
        event_ids: &[OwnedEventId],
        met: &mut HashSet<EventNumber>,
        ahead: &mut BinaryHeap<(u64, EventNumber)>,
    ) -> Result<()> {
        let numbers = self.event_numbers(room, event_ids).await?;
        let numbers: Vec<_> = numbers.into_iter().flatten().filter(|n| met.insert(*n)).collect();
        for event in self.events(room, &numbers).await? {
            ahead.push((event.pdu.depth.into(), event.number));
        }
        Ok(())
    }

    /// The events between some that the server has and some whose ancestors it lacks: those nearest
    /// to the latter, the oldest first.
    ///
    /// # Errors
    /// [`crate::RoomsError::Forbidden`] when the server may not ask about the room.
    pub async fn missing_events_for(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        gap: &Gap,
    ) -> Result<Vec<Arc<Pdu>>> {
        let room = self.open_for_server(server, room_id).await?;
        let mut lens = self.lens_for(server, &room).await?;
        let limit = usize::from(gap.limit).min(LIMIT_MAX);
        let latest = gap.latest.get(..NAMED_MAX).unwrap_or(&gap.latest);
        let mut met: HashSet<OwnedEventId> = gap.earliest.iter().chain(latest).cloned().collect();
        let known = self.event_numbers(&room, latest).await?;
        let known: Vec<_> = known.into_iter().flatten().collect();
        let mut ahead: VecDeque<OwnedEventId> = VecDeque::new();
        for event in self.events(&room, &known).await? {
            let prev = event.pdu.prev_events.iter();
            ahead.extend(prev.filter(|id| met.insert((*id).clone())).cloned());
        }
        let mut bag = Bag::default();
        for _ in 0..LOOKS_MAX {
            if bag.is_full(limit) {
                break;
            }
            let Some(id) = ahead.pop_front() else { break };
            let Some(event) = self.event_by_id(&room, &id).await? else { continue };
            if u64::from(event.pdu.depth) < gap.min_depth {
                continue;
            }
            let prev = event.pdu.prev_events.iter();
            ahead.extend(prev.filter(|id| met.insert((*id).clone())).cloned());
            put_seen(&mut bag, &mut lens, &event).await?;
        }
        Ok(oldest_first(bag.events))
    }
}

/// Keeps an event as a server sees it. What we refused is not passed on, and what was said before
/// or after a server was there does not concern it.
async fn put_seen(bag: &mut Bag, lens: &mut ServerLens<'_>, event: &StoredEvent) -> Result<()> {
    if !event.rejected && lens.was_there(event).await? {
        bag.put(lens.view(event).await?);
    }
    Ok(())
}

/// Orders events by depth, and so that none comes before one that it follows.
fn oldest_first(events: Vec<Arc<Pdu>>) -> Vec<Arc<Pdu>> {
    let order: BTreeSet<(u64, usize)> = events
        .iter()
        .enumerate()
        // Of equal depth, those met later are the older ones.
        .map(|(at, pdu)| (pdu.depth.into(), events.len() - at))
        .collect();
    order.into_iter().filter_map(|(_, back)| events.get(events.len() - back).cloned()).collect()
}

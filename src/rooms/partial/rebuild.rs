//! Putting the whole state of a room in the place of the partial one, at every event since our
//! join.

use std::{collections::HashMap, ops::Bound, sync::Arc};

use store::{Batch, Json, Page, Position, Stamped};

use super::{Extent, PartialRow};
use crate::{
    Rooms,
    append::Assembly,
    error::Result,
    log_row::{LOG_TOPIC, RoomsLogRow},
    remote::RemoteState,
    room::Room,
    state::trie::{self, Changes, Overlay},
    stored_event::StoredEvent,
    tables::{EVENT_META, EVENTS_BY_TIME, EventNumber, PARTIAL, StateRoot, TIMELINE, TimelineRow},
};

/// How many rows are read at a time.
const PAGE_LEN: usize = 512;

/// The states of a room as they should have been.
struct Rebuilding {
    /// What was missing from all of them.
    missing: Changes,
    /// What events that turn out to be refused had replaced.
    refused: HashMap<EventNumber, Option<EventNumber>>,
    /// The new root for each old one.
    roots: HashMap<StateRoot, StateRoot>,
    /// The last old root and the new one.
    last: (StateRoot, StateRoot),
}

impl Rooms {
    /// Makes a partial room whole by the state before our join; without one where we are in it no
    /// more. `false` when we turn out to be in it again: then the state is needed.
    pub(super) async fn make_whole(
        &self,
        room: &Arc<Room>,
        row: &PartialRow,
        state: Option<RemoteState>,
    ) -> Result<bool> {
        let lane = self.enter(&room.room_id).await?;
        // The room may have been left and joined again while the lane was somebody else's.
        let now = self.partial_row(room.number).await?;
        if now.is_none_or(|now| now.whole || now.join != row.join) {
            return Ok(true);
        }
        if state.is_none() && self.is_resident(room).await? {
            return Ok(false);
        }
        let mut assembly = Assembly::new(self, Arc::clone(room), Arc::clone(&lane.head));
        assembly.whole = true;
        if let Some(state) = state {
            let join = self.load_event(room, row.join).await?;
            let whole = assembly.import(state.state, state.auth_chain).await?;
            assembly.rebuild(&join, whole).await?;
        }
        let mut extra = Batch::new();
        let done = PartialRow { servers: Vec::new(), whole: true, ..row.clone() };
        extra.put(&PARTIAL, &room.number, &Stamped::pending(Json(done)));
        let log = RoomsLogRow::Whole { room: room.number, room_id: room.room_id.clone() };
        extra.log(LOG_TOPIC, log.encode()?);
        // Whoever the log wakes must not take the room for partial, or for whole since long.
        let partials = &self.inner.partials;
        partials.set(room.number, Extent::BecomingWhole);
        let written = self.commit_assembly(assembly, extra, &lane.held, room).await;
        self.inner.caches.joined_servers.drop_value(&room.number);
        match written {
            Ok((position, _)) => {
                partials.set(room.number, Extent::Whole(position));
                tracing::info!(room.id = %room.room_id, "the room is whole");
                Ok(true)
            }
            Err(error) => {
                partials.set(room.number, Extent::Partial);
                Err(error)
            }
        }
    }
}

impl Assembly<'_> {
    /// Changes the states at all events since our join as if the whole state before it had been
    /// known. What it refuses is taken out of the timeline.
    async fn rebuild(&mut self, join: &StoredEvent, whole: StateRoot) -> Result<()> {
        let stored = self.stored_nodes();
        let nodes = Overlay { base: &stored, new: &self.nodes };
        let differences = trie::diff(&nodes, join.state_before, whole).await?;
        let missing: Changes = differences
            .into_iter()
            .filter(|difference| difference.from.is_none())
            .map(|difference| (difference.key, difference.to))
            .collect();
        let before = self.changed_state(join.state_before, &missing).await?;
        let mut rebuilding = Rebuilding {
            missing,
            refused: HashMap::new(),
            roots: HashMap::from([
                (join.state_before, before),
                (StateRoot::EMPTY, StateRoot::EMPTY),
            ]),
            last: (join.state_before, before),
        };
        for number in self.placed_since(join).await? {
            self.rebuild_at(&mut rebuilding, number).await?;
        }
        self.rebuild_timeline(&mut rebuilding, join.position).await?;
        let old = self.head.state;
        self.head.state = self.rebuilt(&mut rebuilding, old).await?;
        self.note_members(old, self.head.state).await
    }

    /// The events that have got their places since our join, in the order of the timeline.
    async fn placed_since(&self, join: &StoredEvent) -> Result<Vec<EventNumber>> {
        let room = self.room.number;
        let mut found: Vec<(Position, i64, EventNumber)> = Vec::new();
        let mut range = EVENT_META.prefix(&room);
        loop {
            let page = Page::first(PAGE_LEN);
            let rows = self.rooms.store().scan(&EVENT_META, range, page).await?;
            let full = rows.len() == PAGE_LEN;
            let last = rows.last().map(|(key, _)| *key);
            found.extend(rows.into_iter().filter_map(|((_, number), meta)| {
                let place = (meta.position, meta.value.index);
                (place >= (join.position, join.index)).then_some((place.0, place.1, number))
            }));
            match last {
                Some(last) if full => {
                    range = EVENT_META.between(Bound::Excluded(&last), Bound::Included(&room));
                }
                _ => break,
            }
        }
        found.sort_unstable();
        Ok(found.into_iter().map(|(_, _, number)| number).collect())
    }

    /// Changes the states around one event.
    async fn rebuild_at(&mut self, rebuilding: &mut Rebuilding, number: EventNumber) -> Result<()> {
        let event = self.event(number).await?;
        let before = self.rebuilt(rebuilding, event.state_before).await?;
        let entry = event.pdu.state_entry().map(|(kind, key)| (kind, key.to_owned()));
        let replaced = match &entry {
            Some(entry) => self.find(before, std::slice::from_ref(entry)).await?.pop().flatten(),
            None => None,
        };
        let mut event = StoredEvent::clone(&event);
        if !event.rejected
            && let Err(why) = self.allows(&event.pdu, before).await?
        {
            tracing::info!(event.id = %event.pdu.event_id, %why, "an event is refused after all");
            rebuilding.refused.insert(number, replaced);
            let mut pdu = event::Pdu::clone(&event.pdu);
            pdu.rejected = true;
            event.pdu = Arc::new(pdu);
            event.rejected = true;
        }
        event.state_after = if event.rejected {
            before
        } else {
            self.rebuilt(rebuilding, event.state_after).await?
        };
        event.state_before = before;
        event.prev_state = match replaced.filter(|_| !event.rejected) {
            Some(replaced) => Some(self.event(replaced).await?.pdu.event_id.clone()),
            None => None,
        };
        self.redacted.insert(number, Arc::new(event));
        Ok(())
    }

    /// Changes the room's state at each row of the timeline.
    async fn rebuild_timeline(
        &mut self,
        rebuilding: &mut Rebuilding,
        since: Position,
    ) -> Result<()> {
        let room = self.room.number;
        let mut range = TIMELINE.between(Bound::Included(&(room, since)), Bound::Included(&room));
        loop {
            let rows = self.rooms.store().scan(&TIMELINE, range, Page::first(PAGE_LEN)).await?;
            let full = rows.len() == PAGE_LEN;
            let last = rows.last().map(|(key, _)| *key);
            for (key, row) in rows {
                if rebuilding.refused.contains_key(&row.event) {
                    let event = self.event(row.event).await?;
                    let time = (room, event.pdu.origin_server_ts.0.into(), row.event);
                    self.rows.delete(&TIMELINE, &key);
                    self.rows.delete(&EVENTS_BY_TIME, &time);
                    continue;
                }
                let state = self.rebuilt(rebuilding, row.state).await?;
                self.rows.put(&TIMELINE, &key, &TimelineRow { state, ..row });
            }
            match last {
                Some(last) if full => {
                    range = TIMELINE.between(Bound::Excluded(&last), Bound::Included(&room));
                }
                _ => return Ok(()),
            }
        }
    }

    /// The state that stands for an old one: with what was missing, and without what is refused.
    /// Costs as much as the old state differs from the one before.
    async fn rebuilt(&mut self, rebuilding: &mut Rebuilding, old: StateRoot) -> Result<StateRoot> {
        if let Some(new) = rebuilding.roots.get(&old) {
            return Ok(*new);
        }
        let (last_old, last_new) = rebuilding.last;
        let stored = self.stored_nodes();
        let nodes = Overlay { base: &stored, new: &self.nodes };
        let mut changes = Changes::new();
        for difference in trie::diff(&nodes, last_old, old).await? {
            let to = match difference.to {
                Some(event) => rebuilding.refused.get(&event).copied().unwrap_or(Some(event)),
                None => rebuilding.missing.get(&difference.key).copied().flatten(),
            };
            changes.insert(difference.key, to);
        }
        let new = self.changed_state(last_new, &changes).await?;
        rebuilding.roots.insert(old, new);
        rebuilding.last = (old, new);
        Ok(new)
    }
}

//! Giving fetched events their place in a hole.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use event::{Pdu, VerifiedPdu};
use ruma::{EventId, OwnedEventId, events::TimelineEventType};
use store::{Batch, Json, Position, StoreError};

use super::{Haul, index_of, key_of};
use crate::{
    Rooms,
    append::{
        Accepted, Assembly,
        accept::{Place, Spot},
    },
    error::{Result, RoomsError},
    outliers::{check_by_auth_events, deciding},
    room::Room,
    stored_event::StoredEvent,
    tables::{EVENTS_BY_TIME, GAPS, GapRow, HISTORY, StateRoot, TimelineRow},
};

/// Most events that are remembered as missing in one hole.
const MISSING_LEN_MAX: usize = 1_000;

impl Rooms {
    /// Stores what was fetched for a hole. Tells whether there is something new.
    pub(super) async fn bring_in(
        &self,
        room: &Arc<Room>,
        position: Position,
        row: &GapRow,
        behind: &Arc<StoredEvent>,
        haul: Haul,
    ) -> Result<bool> {
        let mut lane = self.enter(&room.room_id).await?;
        let key = (room.number, position);
        let now = self.store().get(&GAPS, &key).await?;
        if now.as_ref().map(|Json(now)| now) != Some(row) {
            // Somebody else was faster.
            return Ok(true);
        }
        let mut assembly = Assembly::new(self, Arc::clone(room), Arc::clone(&lane.head));
        let Haul { events, outliers, mut states } = haul;
        assembly.import_outliers(outliers).await?;
        let fetched = row.fetched.saturating_add(events.len() as u64);
        let mut fresh = Vec::new();
        for (count, event) in (0..fetched.saturating_add(1)).rev().zip(events) {
            let state = match states.remove(&event.pdu().event_id) {
                Some(entries) => Some(assembly.state_of(entries).await?),
                None => None,
            };
            let spot = Spot { position, index: index_of(count) };
            if let Some(pdu) = assembly.place_before(event, state, behind, spot).await? {
                fresh.push(pdu);
            }
        }
        if fresh.is_empty() {
            return Ok(false);
        }
        let row_now = GapRow { missing: assembly.still_missing(row, &fresh).await?, fetched };
        let mut extra = Batch::new();
        extra.expect(&GAPS, &key, Some(&Json(row.clone())));
        if row_now.missing.is_empty() {
            extra.delete(&GAPS, &key);
        } else {
            extra.put(&GAPS, &key, &Json(row_now));
        }
        match self.commit(&mut lane, assembly, extra).await {
            Ok(_) | Err(RoomsError::Store(StoreError::Conflict { .. })) => Ok(true),
            Err(error) => Err(error),
        }
    }
}

impl Assembly<'_> {
    /// Gives an event a place in a hole. `None` when what it builds upon is missing.
    async fn place_before(
        &mut self,
        event: VerifiedPdu,
        state: Option<StateRoot>,
        behind: &StoredEvent,
        spot: Spot,
    ) -> Result<Option<Arc<Pdu>>> {
        let pdu = event.into_pdu();
        if self.placed(&pdu.event_id).await?.is_some() {
            return Ok(None);
        }
        let auth: Vec<OwnedEventId> = deciding(&pdu, &self.room).collect();
        let known = self.known(&auth).await?;
        if auth.iter().any(|id| !known.contains_key(id)) {
            return Ok(None);
        }
        let before = match state {
            Some(state) => state,
            None => self.left_by_prev(&pdu, behind).await?,
        };
        let decides = |id: &EventId| known.get(id).map(|event| Arc::clone(&event.pdu));
        let by_auth_events = check_by_auth_events(&pdu, &self.room, decides).is_ok();
        let known = self.look_up(&pdu).await?;
        // The room's own create event has been known since the join.
        let allowed = if pdu.kind == TimelineEventType::RoomCreate {
            known.outlier.is_some()
        } else {
            self.allows(&pdu, before).await?.is_ok()
        };
        let refused = !by_auth_events || !allowed;
        let place = Place { rejected: refused, ..Place::at(before) };
        let event = self.stored(pdu, place, known.outlier, spot).await?;
        let pdu = Arc::clone(&event.pdu);
        self.note_missing(&event, known.missing)?;
        if !refused {
            let room = self.room.number;
            let row = TimelineRow { event: event.number, state: event.state_after };
            self.rows.put(&HISTORY, &(room, spot.position, key_of(spot.index)), &row);
            let time = (room, pdu.origin_server_ts.0.into(), event.number);
            self.rows.put(&EVENTS_BY_TIME, &time, &());
        }
        let (number, event_id) = (event.number, pdu.event_id.clone());
        let room_state = event.state_after;
        self.accepted.push(Accepted { event, room_state, shown: false, relay: false });
        if pdu.kind == TimelineEventType::RoomRedaction && !refused {
            self.redact_target(&pdu, number, before).await?;
        }
        self.redact_late(&event_id).await?;
        Ok(Some(pdu))
    }

    /// The state that the events left which an event follows. Where that is not known, the one
    /// behind the hole has to do: it is the nearest that we know.
    async fn left_by_prev(&mut self, pdu: &Pdu, behind: &StoredEvent) -> Result<StateRoot> {
        if pdu.kind == TimelineEventType::RoomCreate {
            return Ok(StateRoot::EMPTY);
        }
        let mut roots = Vec::with_capacity(pdu.prev_events.len());
        for id in &pdu.prev_events {
            match self.placed(id).await? {
                Some(prev) => roots.push(prev.state_after),
                None => return Ok(behind.state_before),
            }
        }
        self.resolve(&roots).await
    }

    /// What is missing in a hole once some events were fetched into it.
    async fn still_missing(&self, row: &GapRow, fresh: &[Arc<Pdu>]) -> Result<Vec<OwnedEventId>> {
        let mut depths: BTreeMap<OwnedEventId, u64> = BTreeMap::new();
        for pdu in fresh {
            for prev in &pdu.prev_events {
                let depth = depths.entry(prev.clone()).or_default();
                *depth = (*depth).max(pdu.depth.into());
            }
        }
        let all: BTreeSet<OwnedEventId> =
            row.missing.iter().chain(depths.keys()).cloned().collect();
        let mut missing = Vec::new();
        for id in all {
            if self.placed(&id).await?.is_none() {
                missing.push(id);
            }
        }
        // The newest first: those are asked for.
        missing.sort_by_key(|id| std::cmp::Reverse(depths.get(id).copied().unwrap_or(0)));
        missing.truncate(MISSING_LEN_MAX);
        Ok(missing)
    }
}

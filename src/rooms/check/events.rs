//! Each event of a room: its identity, its place in the graph, and the rows by which it is found.

use std::{collections::BTreeSet, sync::Arc};

use event::Pdu;
use ruma::{OwnedEventId, events::TimelineEventType};
use store::{Position, Stamped};

use super::{
    pages::Pages,
    room::{Kept, RoomCheck},
};
use crate::{
    error::Result,
    history::key_of,
    new_event::TxnKey,
    stored_event::EventMeta,
    tables::{
        EVENT_META, EVENT_NUMBERS, EVENT_ROOMS, EVENTS, EventNumber, HISTORY, MISSING, TIMELINE,
        TRANSACTIONS,
    },
};

/// The largest depth that an event can have.
const DEPTH_MAX: u64 = (1 << 53) - 1;

impl RoomCheck<'_, '_> {
    /// Checks every event of the room, in the order of their numbers.
    pub(super) async fn events(&mut self) -> Result<()> {
        let mut pages = Pages::new(self.store, &EVENTS, self.room.number);
        while let Some(page) = pages.next().await? {
            let keys: Vec<_> = page.iter().map(|(key, _)| *key).collect();
            let metas = self.store.multi_get(&EVENT_META, &keys).await?;
            for (((_, number), json), meta) in page.into_iter().zip(metas) {
                self.check.report.events += 1;
                self.counts.events += 1;
                match meta {
                    Some(meta) => self.event(number, json, meta).await?,
                    None => self.say(format_args!("event {number} has no record")),
                }
            }
        }
        Ok(())
    }

    async fn event(
        &mut self,
        number: EventNumber,
        json: String,
        meta: Stamped<EventMeta>,
    ) -> Result<()> {
        let event_id = meta.value.event_id.clone();
        let kept = match self.keep(number, json, meta.position, meta.value) {
            Ok(kept) => kept,
            Err(error) => {
                self.say(format_args!("event {number} ({event_id}) cannot be read: {error}"));
                return Ok(());
            }
        };
        if kept.is_shown() && kept.is_fetched() {
            self.counts.fetched += 1;
        } else if kept.is_shown() {
            self.counts.shown += 1;
            self.counts.depth_max = self.counts.depth_max.max(kept.pdu.depth.into());
            self.shown.insert(number.get());
            if kept.position >= self.check.log_start {
                self.check.logged_events += 1;
            }
        }
        self.identity(&kept);
        if kept.is_outlier() && self.number_of(&kept.meta.event_id).await? != Some(number) {
            return self.outside(&kept).await;
        }
        if kept.position < self.entered {
            // What went before is behind a hole.
            self.followed.insert(number.get());
        }
        self.rows_of(&kept).await?;
        self.graph(&kept).await?;
        self.authority(&kept).await?;
        self.state_around(&kept).await
    }

    /// Its JSON is canonical, and its hash, signature and ID are right.
    fn identity(&mut self, kept: &Arc<Kept>) {
        let pdu = &kept.pdu;
        let identity = match event::identify(&pdu.json, &self.room.rules) {
            Ok(identity) => identity,
            Err(error) => return self.say_of(kept, format_args!("is no event: {error}")),
        };
        if !identity.is_canonical {
            self.say_of(kept, "is not stored as canonical JSON");
        }
        if identity.event_id != kept.meta.event_id {
            self.say_of(kept, format_args!("has the reference hash {}", identity.event_id));
        }
        if pdu.room_id != self.room.room_id {
            self.say_of(kept, format_args!("is of the room {}", pdu.room_id));
        }
        let ours = pdu.sender.server_name() == self.check.server_name;
        // A redacted event has lost what was hashed. So has one that another server had altered.
        if ours && kept.meta.redacted_by.is_none() && !identity.has_its_hash {
            self.say_of(kept, "does not have the content that it was hashed with");
        }
        if identity.signers.iter().all(|server| server == self.check.server_name)
            && let Err(error) = event::verify(&pdu.json, &self.check.keys, &self.room.rules)
        {
            self.say_of(kept, format_args!("is not signed by us: {error}"));
        }
    }

    /// The indexes lead to it.
    async fn rows_of(&mut self, kept: &Arc<Kept>) -> Result<()> {
        let (room, number) = (self.room.number, kept.number);
        if number >= self.head.next_event {
            self.say_of(kept, "has a number that is not given out yet");
        }
        let event_id = kept.meta.event_id.as_str().to_owned();
        let indexed = self.store.get(&EVENT_NUMBERS, &(room, event_id.clone())).await?;
        if indexed != Some(number) {
            self.say_of(kept, "is not found by its ID");
        }
        if self.store.get(&EVENT_ROOMS, &event_id).await? != Some(room) {
            self.say_of(kept, "is not found by its ID alone");
        }
        if kept.position == Position::PENDING || kept.position > self.store.position() {
            self.say_of(kept, "has a position that is not written yet");
        }
        let row = if kept.is_fetched() {
            let place = (room, kept.position, key_of(kept.meta.index));
            self.store.get(&HISTORY, &place).await?
        } else {
            let index = u32::try_from(kept.meta.index).unwrap_or(u32::MAX);
            self.store.get(&TIMELINE, &(room, kept.position, index)).await?
        };
        match row {
            Some(row) if row.event == number && kept.is_shown() => {}
            Some(row) if row.event == number => {
                self.say_of(kept, "is in the timeline, but was not accepted");
            }
            _ if kept.is_shown() => self.say_of(kept, "is not in the timeline at its position"),
            _ => {}
        }
        if let Some(txn) = &kept.meta.txn {
            let key = TxnKey { device_id: txn.device_id.clone(), txn_id: txn.txn_id.clone() };
            let target = txn.target.as_deref();
            let key = key.row(&self.room, &txn.user_id, &kept.pdu.kind, target);
            if self.store.get(&TRANSACTIONS, &key).await? != Some(number) {
                self.say_of(kept, "is not found by its transaction");
            }
        }
        Ok(())
    }

    /// The events that it follows are there, and its depth is one more than theirs.
    async fn graph(&mut self, kept: &Arc<Kept>) -> Result<()> {
        let pdu = Arc::clone(&kept.pdu);
        if kept.is_outlier() {
            return Ok(());
        }
        if pdu.prev_events.is_empty() && pdu.kind != TimelineEventType::RoomCreate {
            self.say_of(kept, "follows no event");
        }
        let mut depth = Some(0_u64);
        for event_id in &pdu.prev_events {
            let prev = self.event_by_id(event_id).await?;
            let Some(prev) = prev.filter(|prev| !prev.is_outlier()) else {
                depth = None;
                let row = (self.room.number, event_id.to_string(), kept.number);
                if self.store.get(&MISSING, &row).await?.is_none() {
                    self.say_of(kept, format_args!("follows {event_id}, which is missing"));
                }
                continue;
            };
            depth = depth.map(|depth| depth.max(prev.pdu.depth.into()));
        }
        if kept.is_shown() && !kept.is_fetched() {
            self.follow(&pdu).await?;
        }
        let ours = pdu.sender.server_name() == self.check.server_name;
        if let Some(depth) = depth.filter(|_| ours)
            && u64::from(pdu.depth) != depth.saturating_add(1).min(DEPTH_MAX)
        {
            self.say_of(kept, format_args!("has the depth {} after one of {depth}", pdu.depth));
        }
        Ok(())
    }
}

impl RoomCheck<'_, '_> {
    /// Notes what an event follows, also behind events that nobody sees.
    async fn follow(&mut self, pdu: &Pdu) -> Result<()> {
        let mut met: BTreeSet<OwnedEventId> = pdu.prev_events.iter().cloned().collect();
        let mut work: Vec<OwnedEventId> = pdu.prev_events.clone();
        while let Some(event_id) = work.pop() {
            let Some(prev) = self.event_by_id(&event_id).await? else { continue };
            self.followed.insert(prev.number.get());
            if !prev.is_outlier() && !prev.is_shown() {
                let further = prev.pdu.prev_events.iter();
                work.extend(further.filter(|id| met.insert((*id).clone())).cloned());
            }
        }
        Ok(())
    }
}

//! Events that come out of order: those that follow what we do not have, those that others follow
//! already, and redactions before what they redact.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use event::Pdu;
use ruma::{EventId, OwnedEventId};
use store::{Json, Page, Position};

use crate::{
    append::Assembly,
    error::{Result, RoomsError},
    stored_event::StoredEvent,
    tables::{EARLY_REDACTIONS, EventNumber, GAPS, GapRow, MISSING},
};

/// Most events that are passed through to find what an event follows in the end.
const HIDDEN_LEN_MAX: usize = 1_000;

/// Most followers of an event that are looked at.
const FOLLOWERS_MAX: usize = 100;

/// Most redactions of one event that came before it and are looked at.
const EARLY_MAX: usize = 20;

/// What we know of an event that is about to get its place.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The event as an outlier.
    pub(crate) outlier: Option<Arc<StoredEvent>>,
    /// What it follows, be it behind events that nobody sees, and has no place that we know.
    pub(crate) missing: Vec<OwnedEventId>,
    /// Whether an event in the timeline follows it already.
    pub(crate) followed: bool,
}

impl Assembly<'_> {
    /// Looks up what is known of an event that comes from elsewhere.
    pub(crate) async fn look_up(&self, pdu: &Pdu) -> Result<Known> {
        if self.base.is_none() && self.outliers.is_empty() {
            return Ok(Known { missing: pdu.prev_events.clone(), ..Known::default() });
        }
        let outlier = self.event_by_id(&pdu.event_id).await?;
        if let Some(event) = &outlier
            && event.position != Position::ZERO
        {
            return Err(RoomsError::invalid(format!("{} has its place already", pdu.event_id)));
        }
        let mut missing = Vec::new();
        for id in self.covered(pdu).await? {
            if self.placed(&id).await?.is_none() {
                missing.push(id);
            }
        }
        let followed = self.is_followed(&pdu.event_id).await?
            || match &outlier {
                Some(outlier) => self.is_current(outlier).await?,
                None => false,
            };
        Ok(Known { outlier, missing, followed })
    }

    /// Whether the current state has an event.
    async fn is_current(&self, event: &StoredEvent) -> Result<bool> {
        let Some((kind, key)) = event.pdu.state_entry() else { return Ok(false) };
        let found = self.find(self.head.state, &[(kind, key.to_owned())]).await?;
        Ok(found.first().copied().flatten() == Some(event.number))
    }

    /// An event by ID, if its place is known.
    pub(crate) async fn placed(&self, event_id: &EventId) -> Result<Option<Arc<StoredEvent>>> {
        let event = self.event_by_id(event_id).await?;
        Ok(event.filter(|event| event.position != Position::ZERO))
    }

    /// Whether an event in the timeline was accepted while this one was missing.
    pub(crate) async fn is_followed(&self, event_id: &EventId) -> Result<bool> {
        let range = MISSING.prefix(&(self.room.number, event_id.as_str().to_owned()));
        let rows = self.rooms.store().scan(&MISSING, range, Page::first(FOLLOWERS_MAX)).await?;
        for ((_, _, follower), ()) in rows {
            let follower = self.event(follower).await?;
            if !follower.rejected && !follower.soft_failed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Remembers what an event follows that has no place: a hole in the timeline before it.
    pub(crate) fn note_missing(
        &mut self,
        event: &StoredEvent,
        missing: Vec<OwnedEventId>,
    ) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let room = self.room.number;
        for id in &missing {
            self.rows.put(&MISSING, &(room, id.as_str().to_owned(), event.number), &());
        }
        if event.rejected || event.soft_failed || event.position != Position::PENDING {
            return Ok(());
        }
        if event.index != 0 {
            return Err(RoomsError::invalid("an event after a hole must be committed alone"));
        }
        let row = GapRow { missing, fetched: 0 };
        self.rows.put(&GAPS, &(room, Position::PENDING), &Json(row));
        Ok(())
    }

    /// The events that an event follows: those that it names, and behind those that nobody sees
    /// what these follow.
    pub(crate) async fn covered(&self, pdu: &Pdu) -> Result<BTreeSet<OwnedEventId>> {
        let mut covered: BTreeSet<OwnedEventId> = pdu.prev_events.iter().cloned().collect();
        let mut work: VecDeque<OwnedEventId> = pdu.prev_events.iter().cloned().collect();
        while let Some(id) = work.pop_front() {
            let Some(event) = self.placed(&id).await? else { continue };
            if !event.rejected && !event.soft_failed {
                continue;
            }
            for prev in &event.pdu.prev_events {
                if covered.len() < HIDDEN_LEN_MAX && covered.insert(prev.clone()) {
                    work.push_back(prev.clone());
                }
            }
        }
        Ok(covered)
    }

    /// Remembers a redaction of what we do not have.
    pub(crate) fn note_early_redaction(&mut self, target: &EventId, redaction: EventNumber) {
        let key = (self.room.number, target.as_str().to_owned(), redaction);
        self.rows.put(&EARLY_REDACTIONS, &key, &());
        self.early_redactions.insert(target.to_owned(), redaction);
    }

    /// Applies redactions that came before the event that they redact.
    pub(crate) async fn redact_late(&mut self, event_id: &EventId) -> Result<()> {
        let room = self.room.number;
        let mut redactions: Vec<EventNumber> =
            self.early_redactions.remove(event_id).into_iter().collect();
        if self.has_early_redactions().await? {
            let range = EARLY_REDACTIONS.prefix(&(room, event_id.as_str().to_owned()));
            let page = Page::first(EARLY_MAX);
            let rows = self.rooms.store().scan(&EARLY_REDACTIONS, range, page).await?;
            redactions.extend(rows.into_iter().map(|((_, _, redaction), ())| redaction));
        }
        for number in redactions {
            let redaction = self.event(number).await?;
            self.redact_target(&redaction.pdu, number, redaction.state_before).await?;
            let key = (room, event_id.as_str().to_owned(), number);
            self.rows.delete(&EARLY_REDACTIONS, &key);
        }
        Ok(())
    }

    /// Whether any redaction in this room waits for what it redacts.
    pub(crate) async fn has_early_redactions(&mut self) -> Result<bool> {
        if self.base.is_none() {
            return Ok(false);
        }
        if let Some(has) = self.has_early {
            return Ok(has);
        }
        let range = EARLY_REDACTIONS.prefix(&self.room.number);
        let rows = self.rooms.store().scan(&EARLY_REDACTIONS, range, Page::first(1)).await?;
        self.has_early = Some(!rows.is_empty());
        Ok(!rows.is_empty())
    }
}

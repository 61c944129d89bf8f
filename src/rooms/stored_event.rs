//! An event together with what we know of it.

use std::sync::Arc;

use event::Pdu;
use ruma::{EventId, OwnedEventId, OwnedUserId};
use store::Position;

use crate::{
    Rooms,
    codec::{Cursor, Sink},
    error::{Result, RoomsError},
    room::Room,
    tables::{EVENT_META, EVENT_NUMBERS, EVENTS, EventNumber, StateRoot},
};

/// An event that we keep, with its place in our timeline and the states around it.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// The event itself; its pruned form if it is redacted.
    pub pdu: Arc<Pdu>,
    /// Its number in the room.
    pub number: EventNumber,
    /// When we accepted it; [`Position::ZERO`] for an outlier. For an event that was fetched into a
    /// hole of the timeline the position behind the hole.
    pub position: Position,
    /// Its place among the events of the same commit, from 0. For an event that was fetched into a
    /// hole below 0: -1 is the last before the hole's end.
    pub index: i64,
    /// The room's state before the event.
    pub state_before: StateRoot,
    /// The room's state after the event.
    pub state_after: StateRoot,
    /// The redaction that pruned it.
    pub redacted_by: Option<OwnedEventId>,
    /// The client transaction that made it.
    pub txn: Option<Txn>,
    /// The event that it replaced in the room's state.
    pub prev_state: Option<OwnedEventId>,
    /// Whether the authorisation rules refused it: it is kept so that its ID is known, and shown to
    /// nobody.
    pub rejected: bool,
    /// Whether it was allowed where it stands but no longer when it came: it is shown to nobody.
    pub soft_failed: bool,
}

/// The client transaction that made an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// The sender.
    pub user_id: OwnedUserId,
    /// The device that sent it.
    pub device_id: String,
    /// The ID that the client chose.
    pub txn_id: String,
    /// What the event redacts, if it is a redaction. Kept apart from the event, which forgets it
    /// when it is redacted itself.
    pub target: Option<OwnedEventId>,
}

/// What is stored of an event besides its JSON and its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventMeta {
    pub(crate) event_id: OwnedEventId,
    pub(crate) index: i64,
    pub(crate) state_before: StateRoot,
    pub(crate) state_after: StateRoot,
    pub(crate) redacted_by: Option<OwnedEventId>,
    pub(crate) txn: Option<Txn>,
    pub(crate) prev_state: Option<OwnedEventId>,
    pub(crate) rejected: bool,
    pub(crate) soft_failed: bool,
}

const REDACTED: u8 = 1;
const TXN: u8 = 2;
const PREV_STATE: u8 = 4;
const REJECTED: u8 = 8;
const SOFT_FAILED: u8 = 16;
const TXN_TARGET: u8 = 32;
const FETCHED: u8 = 64;

impl EventMeta {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let target = self.txn.as_ref().and_then(|txn| txn.target.as_ref());
        let mut out = Sink::default();
        out.byte(
            flag(self.redacted_by.is_some(), REDACTED)
                | flag(self.txn.is_some(), TXN)
                | flag(self.prev_state.is_some(), PREV_STATE)
                | flag(self.rejected, REJECTED)
                | flag(self.soft_failed, SOFT_FAILED)
                | flag(target.is_some(), TXN_TARGET)
                | flag(self.index < 0, FETCHED),
        );
        out.text(self.event_id.as_str());
        out.number(self.index.unsigned_abs());
        out.number(self.state_before.get());
        out.number(self.state_after.get());
        if let Some(id) = &self.redacted_by {
            out.text(id.as_str());
        }
        if let Some(txn) = &self.txn {
            out.text(txn.user_id.as_str());
            out.text(&txn.device_id);
            out.text(&txn.txn_id);
        }
        if let Some(id) = target {
            out.text(id.as_str());
        }
        if let Some(id) = &self.prev_state {
            out.text(id.as_str());
        }
        out.finish()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        const BAD: RoomsError = RoomsError::BadRow { why: "an event's record" };
        let mut input = Cursor::new(bytes, "an event's record");
        let flags = input.byte()?;
        let has = |bit: u8| flags & bit != 0;
        Ok(Self {
            event_id: input.parse()?,
            index: {
                let index = i64::try_from(input.number()?).map_err(|_| BAD)?;
                if has(FETCHED) { -index } else { index }
            },
            state_before: StateRoot::new(input.number()?),
            state_after: StateRoot::new(input.number()?),
            redacted_by: if has(REDACTED) { Some(input.parse()?) } else { None },
            txn: if has(TXN) {
                Some(Txn {
                    user_id: input.parse()?,
                    device_id: input.text()?.to_owned(),
                    txn_id: input.text()?.to_owned(),
                    target: if has(TXN_TARGET) { Some(input.parse()?) } else { None },
                })
            } else {
                None
            },
            prev_state: if has(PREV_STATE) { Some(input.parse()?) } else { None },
            rejected: has(REJECTED),
            soft_failed: has(SOFT_FAILED),
        })
    }
}

impl StoredEvent {
    pub(crate) fn new(
        pdu: Arc<Pdu>,
        number: EventNumber,
        position: Position,
        meta: EventMeta,
    ) -> Self {
        Self {
            pdu,
            number,
            position,
            index: meta.index,
            state_before: meta.state_before,
            state_after: meta.state_after,
            redacted_by: meta.redacted_by,
            txn: meta.txn,
            prev_state: meta.prev_state,
            rejected: meta.rejected,
            soft_failed: meta.soft_failed,
        }
    }

    pub(crate) fn meta(&self) -> EventMeta {
        EventMeta {
            event_id: self.pdu.event_id.clone(),
            index: self.index,
            state_before: self.state_before,
            state_after: self.state_after,
            redacted_by: self.redacted_by.clone(),
            txn: self.txn.clone(),
            prev_state: self.prev_state.clone(),
            rejected: self.rejected,
            soft_failed: self.soft_failed,
        }
    }
}

/// How many events are read from the store at a time.
const EVENTS_PAGE_LEN: usize = 512;

impl Rooms {
    /// Events of a room by number, in the order asked. Each must exist.
    ///
    /// # Errors
    /// [`RoomsError::Damaged`] when one does not.
    pub async fn events(
        &self,
        room: &Room,
        numbers: &[EventNumber],
    ) -> Result<Vec<Arc<StoredEvent>>> {
        let cache = &self.inner.caches.events;
        let cached: Vec<_> = numbers.iter().map(|n| cache.get(&(room.number, *n))).collect();
        let missing: Vec<EventNumber> = numbers
            .iter()
            .zip(&cached)
            .filter(|(_, event)| event.is_none())
            .map(|(number, _)| *number)
            .collect();
        if missing.is_empty() {
            return Ok(cached.into_iter().flatten().collect());
        }
        let mut fresh = Vec::with_capacity(missing.len());
        for page in missing.chunks(EVENTS_PAGE_LEN) {
            self.read_events(room, page, &mut fresh).await?;
        }
        let mut fresh = fresh.into_iter();
        Ok(cached.into_iter().filter_map(|event| event.or_else(|| fresh.next())).collect())
    }

    async fn read_events(
        &self,
        room: &Room,
        numbers: &[EventNumber],
        events: &mut Vec<Arc<StoredEvent>>,
    ) -> Result<()> {
        let cache = &self.inner.caches.events;
        let keys: Vec<_> = numbers.iter().map(|number| (room.number, *number)).collect();
        let tickets: Vec<_> = keys.iter().map(|key| cache.ticket(key)).collect();
        let metas = self.store().multi_get(&EVENT_META, &keys).await?;
        let jsons = self.store().multi_get(&EVENTS, &keys).await?;
        for (((key, ticket), meta), json) in keys.iter().zip(tickets).zip(metas).zip(jsons) {
            let (Some(meta), Some(json)) = (meta, json) else {
                let why = format!("event {} is missing", key.1);
                return Err(RoomsError::Damaged { room: room.room_id.clone(), why });
            };
            let (position, meta) = (meta.position, meta.value);
            let mut pdu = Pdu::from_stored(meta.event_id.clone(), json.into(), &room.rules)?;
            pdu.rejected = meta.rejected;
            let event = Arc::new(StoredEvent::new(Arc::new(pdu), key.1, position, meta));
            cache.fill(key, &event, ticket);
            events.push(event);
        }
        Ok(())
    }

    /// One event of a room by number. It must exist.
    ///
    /// # Errors
    /// [`RoomsError::Damaged`] when it does not.
    pub async fn load_event(&self, room: &Room, number: EventNumber) -> Result<Arc<StoredEvent>> {
        let event = self.events(room, &[number]).await?.pop();
        event.ok_or(RoomsError::NotFound { what: "event" })
    }

    /// One event of a room by ID, whoever may see it; `None` when we do not have it.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn event_by_id(
        &self,
        room: &Room,
        event_id: &EventId,
    ) -> Result<Option<Arc<StoredEvent>>> {
        match self.event_number(room, event_id).await? {
            Some(number) => self.load_event(room, number).await.map(Some),
            None => Ok(None),
        }
    }

    /// The number of an event of a room; `None` when we do not have it.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn event_number(
        &self,
        room: &Room,
        event_id: &EventId,
    ) -> Result<Option<EventNumber>> {
        let cache = &self.inner.caches.event_numbers;
        let key = (room.number, event_id.to_owned());
        if let Some(number) = cache.get(&key) {
            return Ok(Some(number));
        }
        let row = (room.number, event_id.as_str().to_owned());
        let number = self.store().get(&EVENT_NUMBERS, &row).await?;
        if let Some(number) = number {
            cache.insert(key, number);
        }
        Ok(number)
    }

    /// The numbers of events of a room, in the order asked; `None` for those that we do not have.
    pub(crate) async fn event_numbers(
        &self,
        room: &Room,
        event_ids: &[OwnedEventId],
    ) -> Result<Vec<Option<EventNumber>>> {
        let cache = &self.inner.caches.event_numbers;
        let key = |id: &OwnedEventId| (room.number, id.clone());
        let cached: Vec<_> = event_ids.iter().map(|id| cache.get(&key(id))).collect();
        let missing: Vec<&OwnedEventId> = event_ids
            .iter()
            .zip(&cached)
            .filter(|(_, number)| number.is_none())
            .map(|(id, _)| id)
            .collect();
        if missing.is_empty() {
            return Ok(cached);
        }
        let rows: Vec<_> = missing.iter().map(|id| (room.number, id.to_string())).collect();
        let fresh = self.store().multi_get(&EVENT_NUMBERS, &rows).await?;
        for (id, number) in missing.into_iter().zip(&fresh) {
            if let Some(number) = number {
                cache.insert(key(id), *number);
            }
        }
        let mut fresh = fresh.into_iter();
        Ok(cached.into_iter().map(|number| number.or_else(|| fresh.next().flatten())).collect())
    }
}

//! How far users have read.

mod receive;
#[cfg(test)]
mod tests;

use std::{ops::Bound, sync::Arc};

use ruma::{
    EventId, OwnedEventId, OwnedUserId, RoomId, UserId,
    events::{
        receipt::{ReceiptThread, ReceiptType},
        relation::RelationType,
    },
};
use serde::Deserialize;
use store::{Batch, Json, Page, Position, Stamped, StoreError};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    log_row::{LOG_TOPIC, RoomsLogRow},
    room::Room,
    stored_event::StoredEvent,
    tables::{RECEIPTS, RECEIPTS_BY_POSITION, ReceiptRow, RoomNumber},
};

/// Most receipts that are given at once; the newest ones.
const RECEIPTS_MAX: usize = 10_000;

/// How many receipts are read from the store at a time.
const RECEIPTS_PAGE_LEN: usize = 512;

/// How often a receipt is tried again when another of the same user came between.
const CONFLICTS_MAX: usize = 8;

/// Over how many relations the thread of an event is looked for.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts)
const RELATIONS_MAX: usize = 3;

/// How far a user has read, in a room or in a thread of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The user.
    pub user_id: OwnedUserId,
    /// `m.read` or `m.read.private`.
    pub kind: ReceiptType,
    /// The thread, if the receipt is for one.
    pub thread: ReceiptThread,
    /// The event up to which the user has read.
    pub event_id: OwnedEventId,
    /// When the receipt was sent, in milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// When it was committed.
    pub position: Position,
    /// Whether only the user themselves may see it.
    pub private: bool,
}

type ReceiptKey = (RoomNumber, String, String, String);

impl Rooms {
    /// Says how far a user has read. A receipt for an earlier event than the last one is passed
    /// over.
    ///
    /// # Errors
    /// - [`RoomsError::Forbidden`] when the user is not joined.
    /// - [`RoomsError::NotFound`] when there is no such event that the user may see.
    /// - [`RoomsError::InvalidParam`] when the type is no read receipt, or the event is not in the
    ///   thread.
    pub async fn send_receipt(
        &self,
        user: &UserId,
        room_id: &RoomId,
        kind: ReceiptType,
        event_id: &EventId,
        thread: ReceiptThread,
    ) -> Result<()> {
        if !matches!(kind, ReceiptType::Read | ReceiptType::ReadPrivate) {
            return Err(RoomsError::invalid_param(format!("{kind} is no read receipt")));
        }
        let room = self.open_joined(user, room_id).await?;
        let event = self.event(user, room_id, event_id).await?.event;
        self.check_thread(&room, &event, &thread).await?;
        let thread = thread.as_str().unwrap_or_default().to_owned();
        let key = (room.number, kind.to_string(), thread, user.to_string());
        for _ in 0..CONFLICTS_MAX {
            let old = self.store().get(&RECEIPTS, &key).await?;
            if let Some(old) = &old
                && !self.is_newer(&room, &event, &old.value.0.event_id).await?
            {
                return Ok(());
            }
            let log = RoomsLogRow::Receipt {
                room: room.number,
                room_id: room.room_id.clone(),
                user: user.to_owned(),
                private: kind == ReceiptType::ReadPrivate,
            };
            let event_id = event.pdu.event_id.clone();
            let row = ReceiptRow { event_id, timestamp_ms: self.now_ms() };
            let mut batch = self.receipt_rows(&key, row, old.as_ref());
            batch.log(LOG_TOPIC, log.encode()?);
            match self.store().commit(batch).await {
                Err(StoreError::Conflict { .. }) => {}
                done => return Ok(done.map(|_| ())?),
            }
        }
        Err(StoreError::Conflict { table: RECEIPTS.number() }.into())
    }

    fn receipt_rows(
        &self,
        key: &ReceiptKey,
        row: ReceiptRow,
        old: Option<&Stamped<Json<ReceiptRow>>>,
    ) -> Batch {
        let by_position = |position: Position| {
            let (room, kind, thread, user) = key.clone();
            (room, position, kind, thread, user)
        };
        let mut batch = Batch::new();
        batch.expect(&RECEIPTS, key, old);
        if let Some(old) = old {
            batch.delete(&RECEIPTS_BY_POSITION, &by_position(old.position));
        }
        batch.put(&RECEIPTS, key, &Stamped::pending(Json(row)));
        batch.put(&RECEIPTS_BY_POSITION, &by_position(Position::PENDING), &());
        batch
    }

    /// Whether an event is later in our timeline than the one of the last receipt.
    async fn is_newer(&self, room: &Room, event: &StoredEvent, than: &EventId) -> Result<bool> {
        let Some(old) = self.event_by_id(room, than).await? else { return Ok(true) };
        Ok((event.position, event.index) > (old.position, old.index))
    }

    /// The receipts of a room that were set after one position and up to another, inclusive; the
    /// newest first, and no more than 10,000. Private ones are for their owners only.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn receipts_after(
        &self,
        room: &Room,
        after: Position,
        upto: Position,
    ) -> Result<Vec<Receipt>> {
        let mut receipts = Vec::new();
        if after >= upto {
            return Ok(receipts);
        }
        let (lower, upper) = ((room.number, after), (room.number, upto));
        let mut range =
            RECEIPTS_BY_POSITION.between(Bound::Excluded(&lower), Bound::Included(&upper));
        while receipts.len() < RECEIPTS_MAX {
            let page = Page::last(RECEIPTS_PAGE_LEN);
            let rows = self.store().scan(&RECEIPTS_BY_POSITION, range, page).await?;
            let keys: Vec<ReceiptKey> = rows
                .iter()
                .map(|((room, _, kind, thread, user), ())| {
                    (*room, kind.clone(), thread.clone(), user.clone())
                })
                .collect();
            let found = self.store().multi_get(&RECEIPTS, &keys).await?;
            receipts.extend(
                keys.into_iter()
                    .zip(found)
                    .filter_map(|(key, row)| row.and_then(|row| receipt(key, row)))
                    // One that was set again meanwhile comes with its new position.
                    .filter(|receipt| receipt.position <= upto),
            );
            let Some((last, ())) = rows.last().filter(|_| rows.len() == RECEIPTS_PAGE_LEN) else {
                break;
            };
            range = RECEIPTS_BY_POSITION.between(Bound::Excluded(&lower), Bound::Excluded(last));
        }
        Ok(receipts)
    }

    /// Refuses a receipt whose event does not belong to its thread.
    async fn check_thread(
        &self,
        room: &Room,
        event: &Arc<StoredEvent>,
        thread: &ReceiptThread,
    ) -> Result<()> {
        let is_right = match thread {
            ReceiptThread::Unthreaded => true,
            ReceiptThread::Main => self.thread_of(room, event).await?.is_none(),
            ReceiptThread::Thread(root) => {
                event.pdu.event_id == *root
                    || self.thread_of(room, event).await?.as_ref() == Some(root)
            }
            _ => false,
        };
        if is_right {
            return Ok(());
        }
        Err(RoomsError::invalid_param("the event does not belong to the thread of thread_id"))
    }

    /// The root of the thread that an event is in, found over a few relations.
    async fn thread_of(
        &self,
        room: &Room,
        event: &Arc<StoredEvent>,
    ) -> Result<Option<OwnedEventId>> {
        #[derive(Deserialize)]
        struct Content {
            #[serde(rename = "m.relates_to")]
            relates_to: Relation,
        }
        #[derive(Deserialize)]
        struct Relation {
            rel_type: RelationType,
            event_id: OwnedEventId,
        }
        let mut event = Arc::clone(event);
        for _ in 0..=RELATIONS_MAX {
            let Ok(Content { relates_to: Relation { rel_type, event_id } }) =
                event.pdu.content_as()
            else {
                return Ok(None);
            };
            if rel_type == RelationType::Thread {
                return Ok(Some(event_id));
            }
            let Some(parent) = self.event_by_id(room, &event_id).await? else { return Ok(None) };
            event = parent;
        }
        Ok(None)
    }
}

fn receipt(key: ReceiptKey, row: Stamped<Json<ReceiptRow>>) -> Option<Receipt> {
    let (_, kind, thread, user) = key;
    let Stamped { position, value: Json(row) } = row;
    let kind = ReceiptType::from(kind);
    let thread = if thread.is_empty() { None } else { Some(thread) };
    Some(Receipt {
        user_id: user.try_into().ok()?,
        private: kind == ReceiptType::ReadPrivate,
        kind,
        thread: ReceiptThread::try_from(thread).ok()?,
        event_id: row.event_id,
        timestamp_ms: row.timestamp_ms,
        position,
    })
}

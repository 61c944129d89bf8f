//! What other servers tell of how far their users have read.

use std::collections::BTreeMap;

use ruma::{
    EventId, OwnedEventId, OwnedUserId, RoomId, ServerName, UserId,
    events::receipt::{ReceiptThread, ReceiptType},
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, StoreError};

use super::{CONFLICTS_MAX, ReceiptKey};
use crate::{
    Rooms,
    error::{Result, RoomsError},
    log_row::{LOG_TOPIC, RoomsLogRow},
    room::Room,
    tables::{RECEIPTS, ReceiptRow},
};

/// Most receipts taken from one message of another server; the rest is passed over.
const RECEIPTS_MAX: usize = 1_000;

/// Longest ID of an event or a thread that is kept, in bytes.
const ID_BYTES_MAX: usize = 255;

/// Receipts by room, type and user. What is in them is read one by one, so that one that is
/// malformed spoils no other.
type Content<'a> = BTreeMap<&'a str, BTreeMap<&'a str, BTreeMap<&'a str, &'a RawJsonValue>>>;

#[derive(Deserialize)]
struct Entry {
    event_ids: Vec<OwnedEventId>,
    #[serde(default)]
    data: Details,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    ts: Option<u64>,
    #[serde(default)]
    thread_id: Option<String>,
}

/// A receipt of another server's user.
struct Told {
    user: OwnedUserId,
    event_id: OwnedEventId,
    /// Empty for a receipt that is for no thread.
    thread: String,
    timestamp_ms: u64,
}

impl Rooms {
    /// Takes note of how far another server's users have read: the content of an `m.receipt` EDU.
    /// What a server says of others' users, of rooms that we do not know or of users who are not
    /// joined is passed over. An event that we do not have yet may come later.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#receipts)
    ///
    /// # Errors
    /// [`RoomsError::InvalidParam`] when the content is no such object; [`RoomsError::Store`].
    pub async fn receive_receipts(
        &self,
        origin: &ServerName,
        content: &RawJsonValue,
    ) -> Result<()> {
        let content: Content<'_> = serde_json::from_str(content.get())
            .map_err(|error| RoomsError::invalid_param(format!("the receipts: {error}")))?;
        let mut left = RECEIPTS_MAX;
        for (room_id, kinds) in content {
            let Some(users) = kinds.get(ReceiptType::Read.as_str()) else { continue };
            let Ok(room_id) = RoomId::parse(room_id) else { continue };
            let Some(room) = self.room(&room_id).await? else { continue };
            if !self.acl_allows(&room, origin).await? {
                continue;
            }
            let joined = self.joined_users(&room).await?;
            let told: Vec<Told> = users
                .iter()
                .take(left)
                .filter_map(|(user, entry)| self.told(origin, user, entry))
                .filter(|told| joined.contains(&told.user))
                .collect();
            left = left.saturating_sub(users.len());
            if !told.is_empty() && joined.iter().any(|user| self.is_local(user)) {
                self.keep_receipts(&room, &told).await?;
            }
        }
        Ok(())
    }

    fn told(&self, origin: &ServerName, user: &str, entry: &RawJsonValue) -> Option<Told> {
        let user = UserId::parse(user).ok()?;
        if user.server_name() != origin || self.is_local(&user) {
            return None;
        }
        let Entry { event_ids, data } = serde_json::from_str(entry.get()).ok()?;
        let event_id = event_ids.into_iter().next_back()?;
        let thread = data.thread_id.unwrap_or_default();
        let is_thread = thread.is_empty()
            || matches!(
                ReceiptThread::try_from(Some(thread.clone())),
                Ok(ReceiptThread::Main | ReceiptThread::Thread(_))
            );
        let fits = event_id.as_str().len() <= ID_BYTES_MAX && thread.len() <= ID_BYTES_MAX;
        let now_ms = self.now_ms();
        let timestamp_ms = data.ts.unwrap_or(now_ms).min(now_ms);
        (is_thread && fits).then_some(Told { user, event_id, thread, timestamp_ms })
    }

    /// Keeps those receipts of a room that are newer than what we have, in one batch.
    async fn keep_receipts(&self, room: &Room, told: &[Told]) -> Result<()> {
        let kind = ReceiptType::Read.to_string();
        for _ in 0..CONFLICTS_MAX {
            let mut batch = Batch::new();
            for told in told {
                let (thread, user) = (told.thread.clone(), told.user.to_string());
                let key: ReceiptKey = (room.number, kind.clone(), thread, user);
                let old = self.store().get(&RECEIPTS, &key).await?;
                if let Some(old) = &old
                    && !self.is_later(room, &told.event_id, &old.value.0.event_id).await?
                {
                    continue;
                }
                let row =
                    ReceiptRow { event_id: told.event_id.clone(), timestamp_ms: told.timestamp_ms };
                batch.extend(self.receipt_rows(&key, row, old.as_ref()));
                let log = RoomsLogRow::Receipt {
                    room: room.number,
                    room_id: room.room_id.clone(),
                    user: told.user.clone(),
                    private: false,
                };
                batch.log(LOG_TOPIC, log.encode()?);
            }
            if batch.is_empty() {
                return Ok(());
            }
            match self.store().commit(batch).await {
                Err(StoreError::Conflict { .. }) => {}
                done => return Ok(done.map(|_| ())?),
            }
        }
        Err(StoreError::Conflict { table: RECEIPTS.number() }.into())
    }

    /// Whether the receipt for an event goes further than that for another. An event that we do not
    /// have is newer than what we have.
    async fn is_later(&self, room: &Room, new: &EventId, old: &EventId) -> Result<bool> {
        if new == old {
            return Ok(false);
        }
        match self.event_by_id(room, new).await? {
            Some(event) => self.is_newer(room, &event, old).await,
            None => Ok(true),
        }
    }
}

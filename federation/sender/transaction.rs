//! Making a transaction of what waits for a server.

use std::sync::{Arc, atomic::Ordering};

use rooms::{EventNumber, Pdu, RoomNumber, RoomsError};
use ruma::ServerName;
use serde_json::value::RawValue as RawJsonValue;
use store::{Page, Position, StoreError};
use users::{OutgoingToDevice, UsersError};

use super::{
    Shared,
    edus::{self, Taken},
    presence,
    tables::{EDUS, OUTBOX, QueuedEdu, QueuedEvent},
};

/// Most PDUs of a transaction.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1sendtxnid)
pub(super) const PDUS_MAX: usize = 50;

/// Most EDUs about devices, and most messages for devices, of a transaction. With the fleeting ones
/// there are never more than 100.
const DURABLE_EDUS_MAX: usize = 30;
const TO_DEVICE_MAX: usize = 30;

/// Most bytes of PDUs, and of durable EDUs, of a transaction, unless a single one has more.
pub(super) const BYTES_MAX: usize = 1024 * 1024;

/// For how long a transaction that did not come through is sent again as it was, in milliseconds,
/// and how large it may be. After that its events go into a new one.
const OPEN_MS_MAX: u64 = 60_000;
const OPEN_BYTES_MAX: usize = 64 * 1024;

/// What is sent to a server at once.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// Its ID: never used for anything else.
    pub id: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub origin_server_ts_ms: u64,
    /// Events; at most 50.
    pub pdus: Vec<Arc<Pdu>>,
    /// Objects with `edu_type` and `content`; at most 100.
    pub edus: Vec<Box<RawJsonValue>>,
}

/// A transaction with the rows that it stands for.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) transaction: Transaction,
    /// Places in [`OUTBOX`].
    pub(super) events: Vec<(Position, u32)>,
    /// Places in [`EDUS`].
    pub(super) edus: Vec<(Position, u32)>,
    /// Messages for devices.
    pub(super) to_device: Vec<OutgoingToDevice>,
    /// Rows of rooms in which something was missed.
    pub(super) missed: Vec<(RoomNumber, EventNumber)>,
    bytes: usize,
}

/// What keeps the sender from its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum SenderError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Rooms(#[from] RoomsError),
    #[error(transparent)]
    Users(#[from] UsersError),
}

impl Open {
    /// Whether it may be sent again as it is.
    pub(super) fn is_fresh(&self, now_ms: u64) -> bool {
        let age_ms = now_ms.saturating_sub(self.transaction.origin_server_ts_ms);
        self.bytes <= OPEN_BYTES_MAX && age_ms <= OPEN_MS_MAX
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
            && self.edus.is_empty()
            && self.to_device.is_empty()
            && self.missed.is_empty()
            && self.transaction.edus.is_empty()
    }

    /// Adds an event unless it is there. Tells whether it has room for more.
    pub(super) fn add(&mut self, pdu: Arc<Pdu>) -> bool {
        let pdus = &mut self.transaction.pdus;
        if pdus.iter().all(|known| known.event_id != pdu.event_id) {
            self.bytes = self.bytes.saturating_add(pdu.json.len());
            pdus.push(pdu);
        }
        self.has_room()
    }

    pub(super) fn has_room(&self) -> bool {
        self.transaction.pdus.len() < PDUS_MAX && self.bytes < BYTES_MAX
    }
}

impl Shared {
    /// The next transaction for a server; `None` when nothing waits.
    pub(super) async fn next_transaction(
        &self,
        server: &ServerName,
    ) -> Result<Option<Arc<Open>>, SenderError> {
        let now_ms = self.now_ms();
        let known = self.destinations.with(server, |destination| {
            // From here on its queue is filled again.
            if destination.retry.is_behind {
                destination.retry.is_behind = false;
                destination.has_missed = true;
            }
            destination.missed.clear();
            destination.open.take().filter(|open| open.is_fresh(now_ms))
        });
        if let Some(open) = known.flatten() {
            return Ok(Some(open));
        }
        let number = self.transactions.fetch_add(1, Ordering::Relaxed);
        let mut open = Open {
            transaction: Transaction {
                id: format!("{}-{number}", self.begun_ms),
                origin_server_ts_ms: now_ms,
                pdus: Vec::new(),
                edus: Vec::new(),
            },
            events: Vec::new(),
            edus: Vec::new(),
            to_device: Vec::new(),
            missed: Vec::new(),
            bytes: 0,
        };
        self.add_missed(server, &mut open).await?;
        self.add_events(server, &mut open).await?;
        self.add_edus(server, &mut open).await?;
        self.add_to_device(server, &mut open).await?;
        self.add_fleeting(server, &mut open).await?;
        Ok(if open.is_empty() { None } else { Some(Arc::new(open)) })
    }

    /// Adds the events that wait, oldest first.
    async fn add_events(&self, server: &ServerName, open: &mut Open) -> Result<(), SenderError> {
        if !open.has_room() {
            return Ok(());
        }
        let range = OUTBOX.prefix(&server.to_string());
        let rows = self.store.scan(&OUTBOX, range, Page::first(PDUS_MAX)).await?;
        for ((_, position, index), queued) in rows {
            if let Some(pdu) = self.queued_pdu(queued).await? {
                open.add(pdu);
            }
            open.events.push((position, index));
            if !open.has_room() {
                break;
            }
        }
        Ok(())
    }

    /// An event in a queue; `None` where it is no longer there.
    pub(super) async fn queued_pdu(
        &self,
        queued: QueuedEvent,
    ) -> Result<Option<Arc<Pdu>>, SenderError> {
        let room = match self.rooms.room_by_number(queued.room).await {
            Ok(room) => room,
            Err(error) => return lost(queued, error),
        };
        match self.rooms.load_event(&room, queued.event).await {
            Ok(event) => Ok(Some(Arc::clone(&event.pdu))),
            Err(error) => lost(queued, error),
        }
    }

    async fn add_edus(&self, server: &ServerName, open: &mut Open) -> Result<(), SenderError> {
        let range = EDUS.prefix(&server.to_string());
        let rows = self.store.scan(&EDUS, range, Page::first(DURABLE_EDUS_MAX)).await?;
        let mut bytes = 0_usize;
        for ((_, position, index), row) in rows {
            let edu = self.queued_edu(row.0).await?;
            let length = edu.as_ref().map_or(0, |edu| edu.get().len());
            if bytes > 0 && bytes.saturating_add(length) > BYTES_MAX {
                break;
            }
            bytes = bytes.saturating_add(length);
            open.transaction.edus.extend(edu);
            open.edus.push((position, index));
        }
        open.bytes = open.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Adds messages for devices, oldest first.
    async fn add_to_device(&self, server: &ServerName, open: &mut Open) -> Result<(), SenderError> {
        let may_have = self.destinations.with(server, |destination| destination.has_to_device);
        if may_have != Some(true) {
            return Ok(());
        }
        self.destinations.with(server, |destination| destination.has_to_device = false);
        let messages = match self.users.to_device_out(server, TO_DEVICE_MAX).await {
            Ok(messages) => messages,
            Err(error) => {
                self.destinations.with(server, |destination| destination.has_to_device = true);
                return Err(error.into());
            }
        };
        if !messages.is_empty() {
            // They stay until the server has them, and there may be more.
            self.destinations.with(server, |destination| destination.has_to_device = true);
        }
        let mut bytes = 0_usize;
        for message in messages {
            if bytes > BYTES_MAX {
                break;
            }
            bytes = bytes.saturating_add(message.content.get().len());
            let edu = edus::edu("m.direct_to_device", &message.content);
            open.transaction.edus.extend(edu);
            open.to_device.push(message);
        }
        open.bytes = open.bytes.saturating_add(bytes);
        Ok(())
    }

    async fn add_fleeting(&self, server: &ServerName, open: &mut Open) -> Result<(), SenderError> {
        let taken = self.destinations.with(server, |destination| destination.fleeting.take());
        let Taken { presences, edus } = taken.unwrap_or_default();
        open.transaction.edus.extend(edus);
        open.transaction.edus.extend(presence::edu(self, presences).await?);
        Ok(())
    }

    async fn queued_edu(
        &self,
        queued: QueuedEdu,
    ) -> Result<Option<Box<RawJsonValue>>, SenderError> {
        match queued {
            QueuedEdu::Device { user, stream } => {
                let content = self.users.device_list_update(&user, stream).await?;
                Ok(content.and_then(|content| edus::edu("m.device_list_update", content)))
            }
            QueuedEdu::SigningKeys { user } => {
                let content = self.users.signing_key_update(&user).await?;
                Ok(content.and_then(|content| edus::edu("m.signing_key_update", content)))
            }
        }
    }
}

/// An event that is not there any more is passed over; other failures may pass by.
fn lost(queued: QueuedEvent, error: RoomsError) -> Result<Option<Arc<Pdu>>, SenderError> {
    if let RoomsError::Store(error) = error {
        return Err(error.into());
    }
    let QueuedEvent { room, event } = queued;
    tracing::error!(%error, room = room.get(), event = event.get(), "an event to send is missing");
    Ok(None)
}

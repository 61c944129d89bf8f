//! The tables of the sender, numbers `0x042x`. Every key begins with a server.

use rooms::{EventNumber, RoomNumber};
use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};
use store::{Family, Json, Position, Reader, StoreError, Table, Value, Writer};

/// Events that wait to be sent. Key: server, position and place of the log row. Value: the event.
/// Written by `follow` together with its place in the log; deleted once the server has the event,
/// or by `catch_up`.
pub(super) const OUTBOX: Table<(String, Position, u32), QueuedEvent> =
    Table::new(0x0420, "outbox_events", Family::Index);

/// Rooms of which a server has missed something, instead of rows in [`OUTBOX`]. Key: server, room.
/// Value: an event of ours that it has missed: the newest that ends somebody's membership there, or
/// one of those before. Written by `follow` and `catch_up`.
pub(super) const CATCH_UP: Table<(String, RoomNumber), EventNumber> =
    Table::new(0x0421, "outbox_catch_up", Family::Index);

/// Servers that did not answer the last time. Key: server. Value: since when, and when it is tried
/// again. Written by `outcome`; deleted once a transaction has come through.
pub(super) const RETRIES: Table<String, Json<RetryRow>> =
    Table::new(0x0422, "outbox_retries", Family::Main);

/// EDUs that must not be lost. Key: server, position and place of the log row. Value: what is sent.
/// Written as [`OUTBOX`] is.
pub(super) const EDUS: Table<(String, Position, u32), Json<QueuedEdu>> =
    Table::new(0x0423, "outbox_edus", Family::Index);

/// An event in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueuedEvent {
    pub(super) room: RoomNumber,
    pub(super) event: EventNumber,
}

impl Value for QueuedEvent {
    fn encode(&self, out: &mut Writer) {
        out.extend(&self.room.get().to_be_bytes());
        out.extend(&self.event.get().to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Reader::new(bytes);
        let room = RoomNumber::decode(&input.array::<8>()?)?;
        let event = EventNumber::decode(&input.array::<8>()?)?;
        input.finish()?;
        Ok(Self { room, event })
    }
}

/// A row of [`RETRIES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RetryRow {
    /// Attempts in a row that failed. 0 for a server that answers.
    pub(super) failures: u32,
    /// When the first of them was, in milliseconds since the Unix epoch.
    pub(super) since_ms: u64,
    /// No attempt before this time, in milliseconds since the Unix epoch.
    pub(super) not_before_ms: u64,
    /// Whether it has been away for so long that its queue is no longer filled.
    pub(super) is_behind: bool,
}

/// A row of [`EDUS`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub(super) enum QueuedEdu {
    /// A device of a user has changed. What is sent is as it is by then.
    Device {
        user: OwnedUserId,
        /// The number of the change.
        stream: u64,
    },
    /// The cross-signing keys of a user have changed. What is sent is as they are by then.
    SigningKeys { user: OwnedUserId },
}

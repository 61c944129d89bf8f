//! What this half of the crate keeps in the store.

use rooms::RoomNumber;
use ruma::{OwnedEventId, OwnedServerName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;
use store::{Family, Json, Outbox, Position, Table};

/// Whose events wait, and in which room.
pub(crate) type Line = (String, RoomNumber);

/// Verified events that wait until what they build upon is fetched, per server that sent them and
/// room, in the order in which they came. Written before the transaction that brought them is
/// answered.
pub(crate) const STAGED: Outbox<Line, Json<StagedEvent>> =
    Outbox::new(0x0410, 0x0411, "staged_events");

/// Events of [`STAGED`] that were tried in vain, per server and room: they wait here, so that they
/// are in
/// nobody's way, and are tried again.
pub(crate) const DELAYED: Outbox<Line, Json<StagedEvent>> =
    Outbox::new(0x0414, 0x0415, "delayed_events");

/// The answer that a transaction got. Key: origin, transaction ID. Stamped with when it was given.
/// Only the newest few of each origin are kept.
pub(crate) const ANSWERS: Table<(String, String), store::Stamped<String>> =
    Table::new(0x0412, "transaction_answers", Family::Main);

/// The transactions of each origin by when they were answered: [`ANSWERS`] in order. Key: origin,
/// position. Value: transaction ID.
pub(crate) const ANSWERS_BY_POSITION: Table<(String, Position), String> =
    Table::new(0x0413, "transaction_answers_by_position", Family::Index);

/// An event that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StagedEvent {
    /// Who sent it.
    pub(crate) origin: OwnedServerName,
    /// Its ID.
    pub(crate) event_id: OwnedEventId,
    /// The event, as it was verified.
    pub(crate) json: Box<RawJsonValue>,
    /// How often it was tried in vain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) attempts: u32,
}

const fn is_zero(number: &u32) -> bool {
    *number == 0
}

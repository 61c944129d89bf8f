//! The rules of Matrix events: their form, identity, signatures, authorisation and the resolution
//! of conflicting state.
//!
//! Everything here is a plain function of its arguments. The crate does not know storage, clocks,
//! the network, async, or which rooms exist: what a rule needs to look up, it is given.

mod auth;
mod build;
mod client_format;
mod defaults;
mod error;
mod format;
mod identity;
mod keys;
mod lax;
mod object;
mod pdu;
mod redact;
mod resolve;
mod sign;
mod template;
mod verify;

use ruma::{RoomVersionId, room_version_rules::RoomVersionRules};

pub use self::{
    auth::{auth_types, authorise, authorise_by_events, authorise_by_state},
    build::{Draft, build},
    error::EventError,
    format::{LengthUnit, PDU_BYTES_MAX, check_format, parse_canonical},
    identity::{Identity, identify},
    keys::{OldKey, key_document},
    lax::write_lax,
    pdu::Pdu,
    redact::redact,
    resolve::{Conflict, StateMap, resolve, resolve_conflict},
    sign::{ServerKey, countersign},
    template::{Completion, complete, template},
    verify::{RequiredKeys, VerifiedPdu, reference_event_id, required_keys, verify},
};

/// Room versions in which this server creates and joins rooms.
///
/// Of versions 1 to 5 rooms are only made when somebody names the version.
pub const SUPPORTED: [RoomVersionId; 12] = [
    RoomVersionId::V1,
    RoomVersionId::V2,
    RoomVersionId::V3,
    RoomVersionId::V4,
    RoomVersionId::V5,
    RoomVersionId::V6,
    RoomVersionId::V7,
    RoomVersionId::V8,
    RoomVersionId::V9,
    RoomVersionId::V10,
    RoomVersionId::V11,
    RoomVersionId::V12,
];

/// Rules of a room version, for every version of the specification (1–12).
///
/// [Spec](https://spec.matrix.org/v1.19/rooms/)
#[must_use]
pub fn rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    version.rules()
}

#[cfg(test)]
mod tests;

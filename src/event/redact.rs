//! Redaction: what is left of an event when its content is withdrawn.

use ruma::{canonical_json::redact_in_place, room_version_rules::RoomVersionRules};

use crate::{EventError, Pdu, format::write_canonical, parse_canonical};

/// The pruned form of an event: the same ID and signatures, without what the room version does not
/// protect.
///
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#redactions)
///
/// # Errors
/// [`EventError::BadJson`] when the stored JSON is no event.
pub fn redact(pdu: &Pdu, rules: &RoomVersionRules) -> Result<Pdu, EventError> {
    let mut object = parse_canonical(&pdu.json)?;
    redact_in_place(&mut object, &rules.redaction, None)?;
    let mut redacted =
        Pdu::from_stored(pdu.event_id.clone(), write_canonical(&object)?.into(), rules)?;
    redacted.rejected = pdu.rejected;
    Ok(redacted)
}

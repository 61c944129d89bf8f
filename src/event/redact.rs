//! Redaction: what is left of an event when its content is withdrawn.

use ruma::room_version_rules::RoomVersionRules;

use crate::{EventError, Pdu, object::EventObject};

/// The pruned form of an event: the same ID and signatures, without what the room version does not
/// protect.
///
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#redactions)
///
/// # Errors
/// [`EventError::BadJson`] when the stored JSON is no event.
pub fn redact(pdu: &Pdu, rules: &RoomVersionRules) -> Result<Pdu, EventError> {
    let mut object = EventObject::parse(&pdu.json, rules)?;
    object.redact(rules)?;
    let mut redacted = Pdu::from_stored(pdu.event_id.clone(), object.write()?.into(), rules)?;
    redacted.rejected = pdu.rejected;
    Ok(redacted)
}

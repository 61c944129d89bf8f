//! Trusting an event: form, size, signatures and hash.

use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId,
    canonical_json::{CanonicalJsonObjectExt, redact_in_place},
    room_version_rules::RoomVersionRules,
    signatures::{PublicKeyMap, Verified, reference_hash, verify_event},
};

use crate::{
    EventError, LengthUnit, PDU_BYTES_MAX, Pdu, check_format, format::write_canonical,
    parse_canonical,
};

/// An event whose form, size and signatures were checked. Only [`verify`] makes one.
#[derive(Clone, Debug)]
pub struct VerifiedPdu(Pdu);

impl VerifiedPdu {
    /// The event.
    #[must_use]
    pub fn pdu(&self) -> &Pdu {
        &self.0
    }

    /// The event, by value.
    #[must_use]
    pub fn into_pdu(self) -> Pdu {
        self.0
    }
}

/// Makes the first checks on receipt of a PDU: its form and size, then its signatures and hash.
///
/// An event whose content does not have its hash is returned in its redacted form. `unsigned` is
/// dropped: nobody vouches for it.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu)
///
/// # Errors
/// - [`EventError::BadJson`] and [`EventError::TooLarge`] for a malformed event.
/// - [`EventError::Unverified`] when a needed signature is wrong, or missing for the keys given.
pub fn verify(
    json: &str,
    keys: &PublicKeyMap,
    rules: &RoomVersionRules,
) -> Result<VerifiedPdu, EventError> {
    let mut object = parse_canonical(json)?;
    object.remove("unsigned");
    check_format(&object, rules, LengthUnit::of_received(rules))?;
    let mut canonical = write_canonical(&object)?;
    if canonical.len() > PDU_BYTES_MAX {
        return Err(EventError::TooLarge(format!("more than {PDU_BYTES_MAX} bytes")));
    }
    let event_id = reference_event_id(&object, rules)?;
    if verify_event(keys, &object, rules)? == Verified::Signatures {
        redact_in_place(&mut object, &rules.redaction, None)?;
        canonical = write_canonical(&object)?;
    }
    Ok(VerifiedPdu(Pdu::from_stored(event_id, canonical.into(), rules)?))
}

/// The ID of an event: its reference hash, or what it says itself in room versions 1 and 2.
///
/// [Spec](https://spec.matrix.org/v1.19/rooms/v4/#event-ids)
///
/// # Errors
/// [`EventError::BadJson`] when the object has not the shape of an event, and
/// [`EventError::TooLarge`] when what is to be hashed is over 65,535 bytes.
pub fn reference_event_id(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<OwnedEventId, EventError> {
    let id = if rules.event_format.require_event_id {
        object.get_as_required_string("event_id", "event_id")?.to_owned()
    } else {
        format!("${}", reference_hash(object, rules)?)
    };
    EventId::parse(id).map_err(|error| EventError::BadJson(error.to_string()))
}

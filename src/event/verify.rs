//! Trusting an event: form, size, signatures and hash.

use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, OwnedServerName, OwnedServerSigningKeyId,
    ServerSigningKeyId, SigningKeyAlgorithm,
    canonical_json::CanonicalJsonObjectExt,
    room_version_rules::RoomVersionRules,
    signatures::{
        PublicKeyMap, Verified, reference_hash, required_server_signatures_to_verify_event,
    },
};

use crate::{EventError, LengthUnit, PDU_BYTES_MAX, Pdu, check_format, object::EventObject};

/// Most signatures of one server that an event may carry.
const SIGNATURES_MAX: usize = 32;

/// A server that must have signed an event, and the IDs of the keys with which it did.
pub type RequiredKeys = (OwnedServerName, Vec<OwnedServerSigningKeyId>);

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
    let mut object = EventObject::parse(json, rules)?;
    object.remove("unsigned");
    check_format(object.fields(), rules, LengthUnit::of_received(rules))?;
    let mut canonical = object.write()?;
    if canonical.len() > PDU_BYTES_MAX {
        return Err(EventError::TooLarge(format!("more than {PDU_BYTES_MAX} bytes")));
    }
    let event_id = object.event_id(rules)?;
    if object.verify(keys, rules)? == Verified::Signatures {
        object.redact(rules)?;
        canonical = object.write()?;
    }
    Ok(VerifiedPdu(Pdu::from_stored(event_id, canonical.into(), rules)?))
}

/// The keys that [`verify`] needs for an event: those of the sender's server, in room versions 1
/// and 2 those of the event ID's, and for restricted joins those of the server that authorised it.
///
/// One known key of each server is enough; signatures by the others are not looked at.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events)
///
/// # Errors
/// - [`EventError::BadJson`] for a malformed event, or one with more than 32 signatures of a
///   server.
/// - [`EventError::Unverified`] when a server that must sign did not, with any ed25519 key.
pub fn required_keys(
    json: &str,
    rules: &RoomVersionRules,
) -> Result<Vec<RequiredKeys>, EventError> {
    let object = EventObject::parse(json, rules)?;
    let object = object.fields();
    let signatures = object.get_as_required_object("signatures", "signatures")?;
    let mut required = Vec::new();
    for server in required_server_signatures_to_verify_event(object, &rules.signatures)? {
        let signed = signatures.get_as_object(server.as_str(), "signatures")?;
        if signed.is_some_and(|keys| keys.len() > SIGNATURES_MAX) {
            return Err(EventError::BadJson(format!("too many signatures of {server}")));
        }
        let key_ids: Vec<OwnedServerSigningKeyId> = signed
            .into_iter()
            .flat_map(|keys| keys.keys())
            .filter_map(|id| ServerSigningKeyId::parse(id).ok())
            .filter(|id| id.algorithm() == SigningKeyAlgorithm::Ed25519)
            .collect();
        if key_ids.is_empty() {
            return Err(EventError::Unverified(format!("not signed by {server}")));
        }
        required.push((server, key_ids));
    }
    Ok(required)
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

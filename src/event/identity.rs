//! What an event says of itself, to check one that is stored.

use std::collections::BTreeSet;

use ruma::{
    OwnedEventId, OwnedServerName, room_version_rules::RoomVersionRules,
    signatures::required_server_signatures_to_verify_event,
};

use crate::{EventError, object::EventObject};

/// What can be told of an event from its JSON alone.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its ID.
    pub event_id: OwnedEventId,
    /// Whether the JSON is written in the one way in which events are kept.
    pub is_canonical: bool,
    /// Whether it has the content hash that it states. A redacted event has not.
    pub has_its_hash: bool,
    /// The servers that must have signed it; none when it is too malformed to tell.
    pub signers: BTreeSet<OwnedServerName>,
}

/// Looks at the JSON of an event. Signatures are not checked: that is what [`crate::verify()`] is
/// for.
///
/// # Errors
/// [`EventError::BadJson`] when it is not shaped like an event.
pub fn identify(json: &str, rules: &RoomVersionRules) -> Result<Identity, EventError> {
    let object = EventObject::parse(json, rules)?;
    Ok(Identity {
        event_id: object.event_id(rules)?,
        is_canonical: object.write()? == json,
        has_its_hash: object.has_its_hash()?,
        signers: required_server_signatures_to_verify_event(object.fields(), &rules.signatures)
            .unwrap_or_default(),
    })
}

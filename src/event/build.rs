//! Making an event: canonical JSON, content hash, signature, ID.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId,
    OwnedUserId, ServerName, UInt,
    events::TimelineEventType,
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
    signatures::hash_and_sign_event,
};
use serde_json::value::RawValue as RawJsonValue;
use sha2::{Digest, Sha256};

use crate::{
    EventError, LengthUnit, Pdu, ServerKey, check_format, format::write_canonical,
    verify::reference_event_id,
};

/// Largest event that we make, in bytes of canonical JSON: one less than what we accept, since
/// some servers count so.
const BUILT_BYTES_MAX: usize = 65_535;

/// An event before it is hashed and signed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The room; `None`, and ignored, for the create event of room version 12 and later.
    pub room_id: Option<OwnedRoomId>,
    /// Who sends the event: a user of the server that signs.
    pub sender: OwnedUserId,
    /// The event's type.
    pub kind: TimelineEventType,
    /// The state key, for a state event.
    pub state_key: Option<String>,
    /// The content, a JSON object.
    pub content: Box<RawJsonValue>,
    /// What a redaction redacts: put where the room version wants it.
    pub redacts: Option<OwnedEventId>,
    /// The events that this one follows.
    pub prev_events: Vec<OwnedEventId>,
    /// The state events that allow this one.
    pub auth_events: Vec<OwnedEventId>,
    /// The reference hashes of the events in both lists ([`Pdu::reference_hash`]). Room versions 1
    /// and 2 put them into the event; in later ones this stays empty.
    pub reference_hashes: BTreeMap<OwnedEventId, String>,
    /// One more than the greatest depth of the previous events.
    pub depth: UInt,
    /// When the event is made.
    pub origin_server_ts: MilliSecondsSinceUnixEpoch,
}

/// Makes an event of this server's user: hashes it, signs it, and computes its ID.
///
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#adding-hashes-and-signatures-to-outgoing-events)
///
/// # Errors
/// - [`EventError::BadJson`] when the content is no object or cannot be canonical JSON.
/// - [`EventError::TooLarge`] when the event or one of its fields is too long.
/// - [`EventError::WrongServer`] when the sender is another server's user.
/// - [`EventError::NoReferenceHash`] in room versions 1 and 2, when the draft lacks the hash of an
///   event that it refers to.
pub fn build(
    draft: Draft,
    server_name: &ServerName,
    key: &ServerKey,
    rules: &RoomVersionRules,
) -> Result<Pdu, EventError> {
    if draft.sender.server_name() != server_name {
        return Err(EventError::WrongServer(server_name.to_string()));
    }
    let object = to_object(draft, rules)?;
    seal(object, server_name, key, rules)
}

/// Hashes and signs an event that has all its fields, and computes its ID.
///
/// In room versions 1 and 2, where the event states its ID, that is a hash of the rest of it.
pub(crate) fn seal(
    mut object: CanonicalJsonObject,
    server_name: &ServerName,
    key: &ServerKey,
    rules: &RoomVersionRules,
) -> Result<Pdu, EventError> {
    if rules.event_format.require_event_id {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(write_canonical(&object)?));
        object.insert("event_id".to_owned(), format!("${hash}:{server_name}").into());
    }
    check_format(&object, rules, LengthUnit::Bytes)?;
    hash_and_sign_event(server_name.as_str(), key, &mut object, &rules.redaction)?;
    let json = write_canonical(&object)?;
    if json.len() > BUILT_BYTES_MAX {
        return Err(EventError::TooLarge(format!("more than {BUILT_BYTES_MAX} bytes")));
    }
    let event_id = reference_event_id(&object, rules)?;
    Pdu::from_stored(event_id, json.into(), rules)
}

pub(crate) fn to_object(
    draft: Draft,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonObject, EventError> {
    let CanonicalJsonValue::Object(mut content) = serde_json::from_str(draft.content.get())? else {
        return Err(EventError::BadJson("`content` is not an object".to_owned()));
    };
    let mut object = CanonicalJsonObject::new();
    let mut put = |field: &str, value: CanonicalJsonValue| object.insert(field.to_owned(), value);
    if let Some(redacts) = draft.redacts {
        if rules.redaction.content_field_redacts {
            content.insert("redacts".to_owned(), redacts.as_str().into());
        } else {
            put("redacts", redacts.as_str().into());
        }
    }
    let names_room = draft.kind == TimelineEventType::RoomCreate
        && rules.authorization.room_create_event_id_as_room_id;
    if let Some(room_id) = draft.room_id
        && !names_room
    {
        put("room_id", room_id.as_str().into());
    }
    if let Some(state_key) = draft.state_key {
        put("state_key", state_key.into());
    }
    put("sender", draft.sender.as_str().into());
    put("type", draft.kind.to_string().into());
    put("content", content.into());
    put("prev_events", references(&draft.prev_events, &draft.reference_hashes, rules)?);
    put("auth_events", references(&draft.auth_events, &draft.reference_hashes, rules)?);
    put("depth", draft.depth.into());
    put("origin_server_ts", draft.origin_server_ts.0.into());
    Ok(object)
}

/// The events that an event refers to, as the room version writes them.
fn references(
    ids: &[OwnedEventId],
    hashes: &BTreeMap<OwnedEventId, String>,
    rules: &RoomVersionRules,
) -> Result<CanonicalJsonValue, EventError> {
    let with_hash = rules.events_reference_format == EventsReferenceFormatVersion::V1;
    let reference = |id: &OwnedEventId| -> Result<CanonicalJsonValue, EventError> {
        if !with_hash {
            return Ok(id.as_str().into());
        }
        let hash = hashes.get(id).ok_or_else(|| EventError::NoReferenceHash(id.clone()))?;
        let hash = CanonicalJsonObject::from([("sha256".to_owned(), hash.as_str().into())]);
        Ok(CanonicalJsonValue::Array(vec![id.as_str().into(), hash.into()]))
    };
    Ok(ids.iter().map(reference).collect::<Result<Vec<_>, _>>()?.into())
}

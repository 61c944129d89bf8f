//! The form of an event: canonical JSON, the fields it must have, and how long they may be.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, Int, RoomId, UserId,
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
};

use crate::EventError;

/// Largest event that may be received, in bytes of canonical JSON with its signatures.
///
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#size-limits)
pub const PDU_BYTES_MAX: usize = 65_536;

/// Longest type, state key, sender, room ID or event ID.
const FIELD_LENGTH_MAX: usize = 255;
const PREV_EVENTS_MAX: usize = 20;
const AUTH_EVENTS_MAX: usize = 10;

/// What the length of a field is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LengthUnit {
    /// UTF-8 bytes, as the specification says.
    Bytes,
    /// Unicode code points, as servers counted in events up to room version 10.
    CodePoints,
}

impl LengthUnit {
    /// The unit for events that come from other servers.
    #[must_use]
    pub fn of_received(rules: &RoomVersionRules) -> Self {
        // The rules name no version: this one distinguishes 11 and later.
        if rules.redaction.content_field_redacts { Self::Bytes } else { Self::CodePoints }
    }

    fn count(self, text: &str) -> usize {
        match self {
            Self::Bytes => text.len(),
            Self::CodePoints => text.chars().count(),
        }
    }
}

/// Reads a JSON object that can be written as canonical JSON.
///
/// # Errors
/// [`EventError::BadJson`] for a float, an integer beyond 2⁵³ − 1, or anything but an object.
pub fn parse_canonical(json: &str) -> Result<CanonicalJsonObject, EventError> {
    Ok(serde_json::from_str(json)?)
}

/// Writes an object as canonical JSON.
pub(crate) fn write_canonical(object: &CanonicalJsonObject) -> Result<String, EventError> {
    Ok(serde_json::to_string(object)?)
}

/// Checks the fields of an event and their lengths, the first of the checks on receipt of a PDU.
///
/// The size of the whole event is the caller's to check, who has its JSON.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu)
///
/// # Errors
/// [`EventError::TooLarge`] for what is too long, [`EventError::BadJson`] for everything else.
pub fn check_format(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
    unit: LengthUnit,
) -> Result<(), EventError> {
    let text = |field| text_field(object, field, unit);
    let kind = text("type")?.ok_or_else(|| missing("type"))?;
    let sender = text("sender")?.ok_or_else(|| missing("sender"))?;
    <&UserId>::try_from(sender).map_err(|error| bad("sender", &error.to_string()))?;
    text("state_key")?;
    if rules.event_format.require_event_id {
        let event_id = text("event_id")?.ok_or_else(|| missing("event_id"))?;
        let parsed = <&EventId>::try_from(event_id);
        if !parsed.is_ok_and(|id| id.server_name().is_some()) {
            return Err(bad("event_id", "not of the form `$opaque_id:domain`"));
        }
    }
    let room_id = text("room_id")?;
    if let Some(room_id) = room_id {
        <&RoomId>::try_from(room_id).map_err(|error| bad("room_id", &error.to_string()))?;
    } else if kind != "m.room.create" || rules.event_format.require_room_create_room_id {
        return Err(missing("room_id"));
    }
    check_references("prev_events", list_field(object, "prev_events", PREV_EVENTS_MAX)?, rules)?;
    let auth_events = list_field(object, "auth_events", AUTH_EVENTS_MAX)?;
    check_references("auth_events", auth_events, rules)?;
    if let Some(room_id) = room_id
        && !rules.event_format.allow_room_create_in_auth_events
    {
        check_create_is_absent(auth_events, room_id)?;
    }
    natural_field(object, "depth")?;
    natural_field(object, "origin_server_ts")?;
    match object.get("content") {
        Some(CanonicalJsonValue::Object(_)) => Ok(()),
        Some(_) => Err(bad("content", "not an object")),
        None => Err(missing("content")),
    }
}

/// Each entry is an event ID, in room versions 1 and 2 a pair of an event ID and hashes.
fn check_references(
    field: &str,
    references: &[CanonicalJsonValue],
    rules: &RoomVersionRules,
) -> Result<(), EventError> {
    let with_hash = rules.events_reference_format == EventsReferenceFormatVersion::V1;
    for reference in references {
        let id = match reference {
            CanonicalJsonValue::String(id) if !with_hash => Some(id),
            CanonicalJsonValue::Array(pair) if with_hash => match pair.as_slice() {
                [CanonicalJsonValue::String(id), CanonicalJsonValue::Object(_)] => Some(id),
                _ => None,
            },
            _ => None,
        };
        let id = id.ok_or_else(|| bad(field, "an entry is not of the form of the room version"))?;
        if id.len() > FIELD_LENGTH_MAX || <&EventId>::try_from(id.as_str()).is_err() {
            return Err(bad(field, "not an event ID"));
        }
    }
    Ok(())
}

/// The create event of room version 12 and later is implied by the room ID, and never listed.
fn check_create_is_absent(
    auth_events: &[CanonicalJsonValue],
    room_id: &str,
) -> Result<(), EventError> {
    for id in auth_events {
        let hash = id
            .as_str()
            .and_then(|id| id.strip_prefix('$'))
            .ok_or_else(|| bad("auth_events", "not an event ID"))?;
        if room_id.strip_prefix('!') == Some(hash) {
            return Err(bad("auth_events", "lists the create event"));
        }
    }
    Ok(())
}

fn text_field<'a>(
    object: &'a CanonicalJsonObject,
    field: &str,
    unit: LengthUnit,
) -> Result<Option<&'a str>, EventError> {
    match object.get(field) {
        None => Ok(None),
        Some(CanonicalJsonValue::String(text)) if unit.count(text) > FIELD_LENGTH_MAX => {
            Err(EventError::TooLarge(format!("`{field}` is longer than {FIELD_LENGTH_MAX}")))
        }
        Some(CanonicalJsonValue::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(field, "not a string")),
    }
}

fn list_field<'a>(
    object: &'a CanonicalJsonObject,
    field: &str,
    length_max: usize,
) -> Result<&'a [CanonicalJsonValue], EventError> {
    match object.get(field) {
        Some(CanonicalJsonValue::Array(list)) if list.len() <= length_max => Ok(list),
        Some(CanonicalJsonValue::Array(_)) => {
            Err(bad(field, &format!("more than {length_max} entries")))
        }
        Some(_) => Err(bad(field, "not an array")),
        None => Err(missing(field)),
    }
}

fn natural_field(object: &CanonicalJsonObject, field: &str) -> Result<(), EventError> {
    match object.get(field) {
        Some(CanonicalJsonValue::Integer(number)) if *number >= Int::from(0) => Ok(()),
        Some(_) => Err(bad(field, "not a natural number")),
        None => Err(missing(field)),
    }
}

fn missing(field: &str) -> EventError {
    EventError::BadJson(format!("missing `{field}`"))
}

fn bad(field: &str, why: &str) -> EventError {
    EventError::BadJson(format!("bad `{field}`: {why}"))
}

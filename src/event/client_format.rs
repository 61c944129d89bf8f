//! The form in which clients see an event.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde_json::Value as JsonValue;

use crate::Pdu;

/// Where the encoded event will stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// On its own, so that it must say its room.
    Anywhere,
    /// In an answer that already names the room.
    UnderItsRoom,
}

/// Encodes the event for clients, without `unsigned`.
///
/// A redaction says in both places, at the top level and in its content, what it redacts:
/// [room version
/// 11](https://spec.matrix.org/v1.19/rooms/v11/#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property)
/// asks for that in every version.
pub(crate) fn encode(pdu: &Pdu, place: Place) -> String {
    let mut out = String::with_capacity(pdu.content.get().len() + 320);
    out.push_str("{\"content\":");
    push_content(&mut out, pdu);
    push_field(&mut out, "event_id", pdu.event_id.as_str());
    out.push_str(",\"origin_server_ts\":");
    out.push_str(&pdu.origin_server_ts.0.to_string());
    if let Some(redacts) = &pdu.redacts {
        push_field(&mut out, "redacts", redacts.as_str());
    }
    if place == Place::Anywhere {
        push_field(&mut out, "room_id", pdu.room_id.as_str());
    }
    push_field(&mut out, "sender", pdu.sender.as_str());
    if let Some(state_key) = &pdu.state_key {
        push_field(&mut out, "state_key", state_key);
    }
    push_field(&mut out, "type", &pdu.kind.to_string());
    out.push('}');
    out
}

fn push_content(out: &mut String, pdu: &Pdu) {
    let content = pdu.content.get();
    // Not an optional field: `null` is a value, too, and a second key must not stand beside it.
    let lacks_redacts = || {
        serde_json::from_str::<BTreeMap<String, IgnoredAny>>(content)
            .is_ok_and(|content| !content.contains_key("redacts"))
    };
    match (&pdu.redacts, content.strip_prefix('{')) {
        (Some(redacts), Some(rest)) if lacks_redacts() => {
            out.push_str("{\"redacts\":");
            push_string(out, redacts.as_str());
            if !rest.trim_start().starts_with('}') {
                out.push(',');
            }
            out.push_str(rest);
        }
        _ => out.push_str(content),
    }
}

fn push_field(out: &mut String, name: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    push_string(out, value);
}

/// Appends a JSON string. Most need no escape and are copied.
fn push_string(out: &mut String, value: &str) {
    if value.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        out.push_str(&JsonValue::from(value).to_string());
    } else {
        out.push('"');
        out.push_str(value);
        out.push('"');
    }
}

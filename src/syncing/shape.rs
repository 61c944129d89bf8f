//! How events are written for one client: format and fields as its filter wants them.

use rooms::{ServedEvent, Viewer};
use ruma::{
    api::client::filter::{EventFormat, FilterDefinition},
    events::{AnySyncStateEvent, AnySyncTimelineEvent},
    serde::Raw,
};
use serde_json::{Map, Value as JsonValue, value::to_raw_value};

use crate::error::Result;

/// The way from an object's root to a field.
type Path = Vec<String>;

/// The shape of events. By default that of the client-server API, with all fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shape {
    federation: bool,
    fields: Option<Vec<Path>>,
}

impl Shape {
    pub(crate) fn new(filter: &FilterDefinition) -> Self {
        let fields = filter.event_fields.as_ref();
        Self {
            federation: filter.event_format == EventFormat::Federation,
            fields: fields.map(|fields| fields.iter().map(|field| path(field)).collect()),
        }
    }

    /// An event of a timeline.
    pub(crate) fn timeline_event(
        &self,
        event: &ServedEvent,
        viewer: Viewer<'_>,
        now_ms: u64,
    ) -> Result<Raw<AnySyncTimelineEvent>> {
        let json = event.sync_json(viewer, now_ms);
        if !self.federation && self.fields.is_none() {
            return Ok(json);
        }
        Ok(Raw::from_json(to_raw_value(&self.reshape(json.json().get(), event)?)?))
    }

    /// A state event.
    pub(crate) fn state_event(
        &self,
        event: &ServedEvent,
        viewer: Viewer<'_>,
        now_ms: u64,
    ) -> Result<Raw<AnySyncStateEvent>> {
        let json = event.sync_state_json(viewer, now_ms);
        if !self.federation && self.fields.is_none() {
            return Ok(json);
        }
        Ok(Raw::from_json(to_raw_value(&self.reshape(json.json().get(), event)?)?))
    }

    fn reshape(&self, json: &str, event: &ServedEvent) -> Result<JsonValue> {
        let mut value: JsonValue = serde_json::from_str(json)?;
        if self.federation {
            value = as_federated(value, &event.event.pdu.json)?;
        }
        if let Some(fields) = &self.fields {
            value = pick(&value, fields);
        }
        Ok(value)
    }
}

/// The event as servers exchange it, with its ID and what is not part of it.
fn as_federated(mut client: JsonValue, pdu: &str) -> Result<JsonValue> {
    let mut pdu: JsonValue = serde_json::from_str(pdu)?;
    if let (Some(client), Some(pdu)) = (client.as_object_mut(), pdu.as_object_mut()) {
        for key in ["event_id", "unsigned"] {
            if let Some(value) = client.remove(key) {
                pdu.insert(key.to_owned(), value);
            }
        }
    }
    Ok(pdu)
}

/// Splits at dots. A backslash takes the meaning from a dot or backslash.
fn path(field: &str) -> Path {
    let mut parts = vec![String::new()];
    let mut chars = field.chars().peekable();
    while let Some(char) = chars.next() {
        let literal = match (char, chars.peek()) {
            ('\\', Some('.' | '\\')) => chars.next(),
            ('.', _) => None,
            _ => Some(char),
        };
        match (literal, parts.last_mut()) {
            (Some(char), Some(part)) => part.push(char),
            _ => parts.push(String::new()),
        }
    }
    parts
}

/// Copies some fields of an object.
fn pick(value: &JsonValue, fields: &[Path]) -> JsonValue {
    let mut picked = JsonValue::Object(Map::new());
    for path in fields {
        let found = path.iter().try_fold(value, |value, part| value.as_object()?.get(part));
        if let Some(found) = found {
            put(&mut picked, path, found);
        }
    }
    picked
}

fn put(picked: &mut JsonValue, path: &[String], found: &JsonValue) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut place = picked;
    for part in parents {
        let Some(object) = place.as_object_mut() else { return };
        place = object.entry(part.clone()).or_insert_with(|| JsonValue::Object(Map::new()));
    }
    if let Some(object) = place.as_object_mut() {
        object.insert(last.clone(), found.clone());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn picked(fields: &[&str]) -> JsonValue {
        let event = json!({
            "type": "m.room.message", "sender": "@a:x",
            "content": {"body": "hi", "a.b": 1, "deep": {"x": 1, "y": 2}, "c\\d": 2},
        });
        let fields: Vec<Path> = fields.iter().map(|field| path(field)).collect();
        pick(&event, &fields)
    }

    #[test]
    fn fields_are_picked_by_path() {
        assert_eq!(picked(&["type"]), json!({"type": "m.room.message"}));
        assert_eq!(picked(&["content.body"]), json!({"content": {"body": "hi"}}));
        let expected = json!({"content": {"body": "hi", "deep": {"y": 2}}});
        assert_eq!(picked(&["content.deep.y", "content.body"]), expected);
        assert_eq!(picked(&["nothing", "type.body", "content.body.x"]), json!({}));
    }

    #[test]
    fn a_parent_wins_over_its_children() {
        let whole = picked(&["content"]);
        assert_eq!(picked(&["content", "content.body"]), whole);
        assert_eq!(picked(&["content.body", "content"]), whole);
    }

    #[test]
    fn dots_and_backslashes_can_be_escaped() {
        assert_eq!(picked(&["content.a\\.b"]), json!({"content": {"a.b": 1}}));
        assert_eq!(picked(&["content.c\\\\d"]), json!({"content": {"c\\d": 2}}));
        assert_eq!(path("a\\b"), ["a\\b"]);
        assert_eq!(path("a..b"), ["a", "", "b"]);
    }
}

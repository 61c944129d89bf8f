//! `/v3/sync` as clients see it.

mod ephemeral;
mod filters;
mod flood;
mod lazy;
mod membership;
mod private;
mod state;
mod timeline;

use serde_json::{Value, json};

use crate::kit::{User, encode};

/// A filter as part of a query.
fn filter(filter: &Value) -> String {
    format!("filter={}&timeout=0", encode(&filter.to_string()))
}

/// The events of a list, also where it was left out.
fn list(value: &Value) -> &[Value] {
    value["events"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A joined room in an answer.
fn joined<'a>(sync: &'a Value, room: &str) -> &'a Value {
    &sync["rooms"]["join"][room]
}

/// The timeline of a joined room.
fn timeline<'a>(sync: &'a Value, room: &str) -> &'a [Value] {
    list(&joined(sync, room)["timeline"])
}

/// The texts of the messages among some events.
fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

/// The types and state keys of some events, joined by a space.
fn keys(events: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut keys: Vec<_> = (events.iter())
        .map(|event| format!("{} {}", text(&event["type"]), text(&event["state_key"])))
        .collect();
    keys.sort_unstable();
    keys
}

/// The first event with a type and state key.
fn find<'a>(events: &'a [Value], kind: &str, key: &str) -> Option<&'a Value> {
    events.iter().find(|event| event["type"] == kind && event["state_key"] == key)
}

/// Where an answer ends.
fn next(sync: &Value) -> String {
    sync["next_batch"].as_str().expect("a token").to_owned()
}

/// Everything new since a token, without waiting; moves the token.
async fn more(user: &User, since: &mut String) -> Value {
    let sync = user.sync(Some(since), "timeout=0").await;
    *since = next(&sync);
    sync
}

/// A room that everybody may join.
async fn public(user: &User) -> String {
    user.create_room(json!({ "preset": "public_chat" })).await
}

/// Sets a topic.
async fn topic(user: &User, room: &str, topic: &str) {
    let (status, answer) =
        user.put_state(room, "m.room.topic", "", json!({ "topic": topic })).await;
    assert_eq!(status, 200, "{answer}");
}

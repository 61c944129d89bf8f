//! Short words for what the suite does and expects.

use serde_json::{Value, json};

use crate::kit::{Reply, User, encode};

pub(crate) async fn event(user: &User, room: &str, event_id: &str) -> Value {
    let path = format!("/_matrix/client/v3/rooms/{}/event/{}", encode(room), encode(event_id));
    user.do_get(&path).await
}

/// Every event of the current state, as clients see it.
pub(crate) async fn full_state(user: &User, room: &str) -> Vec<Value> {
    let path = format!("/_matrix/client/v3/rooms/{}/state", encode(room));
    user.do_get(&path).await.as_array().unwrap().clone()
}

pub(crate) async fn state_event(user: &User, room: &str, kind: &str, key: &str) -> Value {
    let state = full_state(user, room).await;
    let found = state.into_iter().find(|event| event["type"] == kind && event["state_key"] == key);
    found.unwrap_or_else(|| panic!("no {kind} {key}"))
}

pub(crate) async fn redact(user: &User, room: &str, event_id: &str) -> Reply {
    let (room, event_id) = (encode(room), encode(event_id));
    let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event_id}/r{event_id}");
    user.put(&path, json!({ "reason": "oops" })).await
}

pub(crate) async fn knock(user: &User, room: &str) -> Reply {
    user.post(&format!("/_matrix/client/v3/knock/{}", encode(room)), json!({})).await
}

/// The body of an answer that must be 200.
#[track_caller]
pub(crate) fn ok((status, body): Reply) -> Value {
    assert_eq!(status, 200, "{body}");
    body
}

#[track_caller]
pub(crate) fn event_id(reply: Reply) -> String {
    ok(reply)["event_id"].as_str().unwrap().to_owned()
}

#[track_caller]
pub(crate) fn forbidden((status, body): Reply) {
    assert_eq!((status, &body["errcode"]), (403, &json!("M_FORBIDDEN")), "{body}");
}

#[track_caller]
pub(crate) fn refused((status, body): Reply) {
    assert!((400..500).contains(&status), "{status} {body}");
}

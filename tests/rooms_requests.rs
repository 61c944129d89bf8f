//! What holds for every request about rooms: tokens, bodies, methods, old paths; and what guests
//! may do.

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::{
    kit::reply,
    rooms_people::{Town, text_of},
};

/// Every endpoint about rooms that needs a token, with a room that is not there.
const ENDPOINTS: [(Method, &str); 37] = [
    (Method::POST, "/createRoom"),
    (Method::POST, "/join/!r:localhost"),
    (Method::POST, "/knock/!r:localhost"),
    (Method::GET, "/joined_rooms"),
    (Method::POST, "/publicRooms"),
    (Method::PUT, "/directory/room/%23a:localhost"),
    (Method::DELETE, "/directory/room/%23a:localhost"),
    (Method::PUT, "/directory/list/room/!r:localhost"),
    (Method::GET, "/rooms/!r:localhost/aliases"),
    (Method::POST, "/rooms/!r:localhost/join"),
    (Method::POST, "/rooms/!r:localhost/leave"),
    (Method::POST, "/rooms/!r:localhost/forget"),
    (Method::POST, "/rooms/!r:localhost/invite"),
    (Method::POST, "/rooms/!r:localhost/kick"),
    (Method::POST, "/rooms/!r:localhost/ban"),
    (Method::POST, "/rooms/!r:localhost/unban"),
    (Method::PUT, "/rooms/!r:localhost/send/m.room.message/1"),
    (Method::PUT, "/rooms/!r:localhost/redact/$e/1"),
    (Method::GET, "/rooms/!r:localhost/state"),
    (Method::GET, "/rooms/!r:localhost/state/m.room.name"),
    (Method::GET, "/rooms/!r:localhost/state/m.room.name/"),
    (Method::GET, "/rooms/!r:localhost/state/m.room.name/k"),
    (Method::PUT, "/rooms/!r:localhost/state/m.room.name"),
    (Method::PUT, "/rooms/!r:localhost/state/m.room.name/"),
    (Method::PUT, "/rooms/!r:localhost/state/m.room.name/k"),
    (Method::GET, "/rooms/!r:localhost/event/$e"),
    (Method::GET, "/rooms/!r:localhost/context/$e"),
    (Method::GET, "/rooms/!r:localhost/messages"),
    (Method::GET, "/rooms/!r:localhost/members"),
    (Method::GET, "/rooms/!r:localhost/joined_members"),
    (Method::PUT, "/rooms/!r:localhost/typing/@a:localhost"),
    (Method::POST, "/rooms/!r:localhost/receipt/m.read/$e"),
    (Method::POST, "/rooms/!r:localhost/read_markers"),
    (Method::PUT, "/rooms/!r:localhost/typing/@b:localhost"),
    (Method::POST, "/rooms/!r:localhost/receipt/m.read.private/$e"),
    (Method::POST, "/rooms/!r:localhost/receipt/m.fully_read/$e"),
    (Method::POST, "/join/%23a:localhost"),
];

#[tokio::test]
async fn every_endpoint_wants_a_token_an_object_and_its_method() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    for version in ["v3", "r0"] {
        for (method, path) in ENDPOINTS {
            let path = format!("/_matrix/client/{version}{path}");
            let (status, body) = reply(town.nobody().request(method.clone(), &path)).await;
            assert_eq!((status, &body["errcode"]), (401, &json!("M_MISSING_TOKEN")), "{path}");
            let (status, body) = reply(town.nobody().request(Method::PATCH, &path)).await;
            assert_eq!((status, &body["errcode"]), (405, &json!("M_UNRECOGNIZED")), "{path}");
            if !matches!(method, Method::PUT | Method::POST) {
                continue;
            }
            for (text, errcode) in [("[]", "M_BAD_JSON"), ("1", "M_BAD_JSON"), ("{", "M_NOT_JSON")]
            {
                let request = alice.user.request(method.clone(), &path).body(text);
                let (status, body) = reply(request).await;
                let got = (status, &body["errcode"]);
                assert_eq!(got, (400, &json!(errcode)), "{method} {path} {text}: {body}");
            }
        }
    }
    let (status, body) = town.nobody().get("/_matrix/client/v3/rooms/!r:localhost/nothing").await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_UNRECOGNIZED")));
}

#[tokio::test]
async fn answers_are_plain_json_and_open_to_web_clients() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    for (path, status) in [
        (format!("/_matrix/client/v3/rooms/{room}/state"), 200),
        (format!("/_matrix/client/v3/rooms/{room}/event/$none"), 404),
        ("/_matrix/client/v3/rooms/none/state".to_owned(), 400),
    ] {
        let response = alice.user.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "{path}");
    }
    let path = format!("/_matrix/client/v3/rooms/{room}/state");
    let response = town.nobody().request(Method::OPTIONS, &path).send().await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn old_paths_lead_to_the_same_rooms() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({ "name": "old" })).await;
    let old = format!("/_matrix/client/r0/rooms/{room}");
    let name = alice.user.do_get(&format!("{old}/state/m.room.name")).await;
    assert_eq!(name["name"], "old");
    alice.user.do_put(&format!("{old}/send/m.room.message/1"), text_of("hi")).await;
    let page = alice.user.do_get(&format!("{old}/messages?dir=b&limit=1")).await;
    assert_eq!(page["chunk"][0]["content"]["body"], "hi");
}

#[tokio::test]
async fn guests_join_only_where_guests_may_and_leave_when_they_no_longer_may() {
    let town = Town::start_with_guests().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let guest = town.guest().await;
    let closed = alice.create(json!({ "preset": "public_chat" })).await;
    guest.join(&closed).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let member = json!({ "membership": "join" });
    guest
        .set_state(&closed, "m.room.member", &guest.id, member)
        .await
        .refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let state =
        json!([{ "type": "m.room.guest_access", "content": { "guest_access": "can_join" } }]);
    let open = alice.create(json!({ "preset": "public_chat", "initial_state": state })).await;
    guest.join(&open).await.ok();
    bob.join(&open).await.ok();
    guest.say(&open, "hello").await;
    guest.post("/createRoom", json!({})).await.refused(403, "M_GUEST_ACCESS_FORBIDDEN");
    let shut = json!({ "guest_access": "forbidden" });
    alice.set_state(&open, "m.room.guest_access", "", shut).await.ok();
    // The guest is made to leave after the answer.
    while alice.membership(&open, &guest).await != "leave" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(alice.membership(&open, &bob).await, "join");
}

//! Account data, tags and ignored users.

use serde_json::{Value, json};

use super::{filter, joined, list, more, next, public, texts, timeline};
use crate::kit::{User, encode, server};

async fn set_data(user: &User, room: Option<&str>, kind: &str, content: Value) {
    let room = room.map(|room| format!("/rooms/{}", encode(room))).unwrap_or_default();
    let user_id = encode(&user.user_id);
    let path = format!("/_matrix/client/v3/user/{user_id}{room}/account_data/{kind}");
    user.do_put(&path, content).await;
}

fn content<'a>(part: &'a Value, kind: &str) -> Option<&'a Value> {
    let events = list(&part["account_data"]);
    events.iter().find(|event| event["type"] == kind).map(|event| &event["content"])
}

#[tokio::test]
async fn account_data_comes_to_all_devices_of_its_owner_and_once() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let phone = server.log_in("alice", json!({})).await;
    let room = public(&alice).await;
    bob.join(&room).await;
    let mut phones = phone.sync_token().await;
    let mut bobs = bob.sync_token().await;
    set_data(&alice, None, "org.example.a", json!({ "n": 1 })).await;
    set_data(&alice, None, "org.example.a", json!({ "n": 2 })).await;
    set_data(&alice, Some(&room), "org.example.b", json!({ "n": 3 })).await;
    let sync = more(&phone, &mut phones).await;
    assert_eq!(content(&sync, "org.example.a"), Some(&json!({ "n": 2 })));
    assert_eq!(list(&sync["account_data"]).len(), 1);
    assert_eq!(content(joined(&sync, &room), "org.example.b"), Some(&json!({ "n": 3 })));
    assert_eq!(joined(&sync, &room)["timeline"], Value::Null);
    let sync = more(&phone, &mut phones).await;
    assert_eq!((&sync["rooms"], &sync["account_data"]), (&Value::Null, &Value::Null));
    let sync = more(&bob, &mut bobs).await;
    assert_eq!((&sync["rooms"], &sync["account_data"]), (&Value::Null, &Value::Null));
    let sync = phone.sync(None, "timeout=0").await;
    assert_eq!(content(&sync, "org.example.a"), Some(&json!({ "n": 2 })));
    assert_eq!(content(joined(&sync, &room), "org.example.b"), Some(&json!({ "n": 3 })));
}

#[tokio::test]
async fn account_data_is_filtered() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    for kind in ["org.example.a", "org.example.b"] {
        set_data(&alice, None, kind, json!({ "n": 1 })).await;
        set_data(&alice, Some(&room), kind, json!({ "n": 1 })).await;
    }
    let part = json!({ "types": ["*.a"] });
    let wish = json!({ "account_data": part, "room": { "account_data": part } });
    let sync = alice.sync(None, &filter(&wish)).await;
    for part in [&sync, joined(&sync, &room)] {
        assert!(content(part, "org.example.a").is_some());
        assert_eq!(list(&part["account_data"]).len(), 1);
    }
}

#[tokio::test]
async fn tags_come_as_account_data_of_the_room() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    let mut since = alice.sync_token().await;
    let (user_id, in_path) = (encode(&alice.user_id), encode(&room));
    let path = format!("/_matrix/client/v3/user/{user_id}/rooms/{in_path}/tags/m.favourite");
    alice.do_put(&path, json!({ "order": 0.5 })).await;
    let sync = more(&alice, &mut since).await;
    let tags = content(joined(&sync, &room), "m.tag");
    assert_eq!(tags, Some(&json!({ "tags": { "m.favourite": { "order": 0.5 } } })));
    alice.do_delete(&path).await;
    let sync = more(&alice, &mut since).await;
    assert_eq!(content(joined(&sync, &room), "m.tag"), Some(&json!({ "tags": {} })));
}

#[tokio::test]
async fn data_of_a_room_that_one_joins_comes_with_it() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    set_data(&bob, Some(&room), "org.example.x", json!({ "n": 1 })).await;
    let mut since = bob.sync_token().await;
    bob.join(&room).await;
    let sync = more(&bob, &mut since).await;
    assert_eq!(content(joined(&sync, &room), "org.example.x"), Some(&json!({ "n": 1 })));
}

#[tokio::test]
async fn ignored_users_are_not_heard_but_their_state_is_seen() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let ignored = json!({ "ignored_users": { (&*bob.user_id): {} } });
    set_data(&alice, None, "m.ignored_user_list", ignored).await;
    let mut since = alice.sync_token().await;
    bob.say(&room, "spam").await;
    let content = json!({ "membership": "join", "displayname": "Bobby" });
    let (status, _) = bob.put_state(&room, "m.room.member", &bob.user_id, content).await;
    assert_eq!(status, 200);
    let (status, _) = bob.put_state(&room, "m.room.member", &bob.user_id, json!({})).await;
    assert_ne!(status, 200);
    alice.say(&room, "finally quiet").await;
    let secret = bob.create_room(json!({})).await;
    bob.invite(&secret, &alice).await;
    let sync = more(&alice, &mut since).await;
    let events = timeline(&sync, &room);
    assert_eq!(texts(events), ["finally quiet"]);
    assert!(super::find(events, "m.room.member", &bob.user_id).is_some());
    assert_eq!(sync["rooms"]["invite"], Value::Null);
    let sync = alice.sync(None, "timeout=0").await;
    assert_eq!(texts(timeline(&sync, &room)), ["finally quiet"]);
    assert_eq!(sync["rooms"]["invite"], Value::Null);
    // Heard again.
    set_data(&alice, None, "m.ignored_user_list", json!({ "ignored_users": {} })).await;
    let mut since = next(&alice.sync(None, "timeout=0").await);
    bob.say(&room, "hello again").await;
    let sync = more(&alice, &mut since).await;
    assert_eq!(texts(timeline(&sync, &room)), ["hello again"]);
}

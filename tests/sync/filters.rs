//! Filters, kept or sent along.

use serde_json::{Value, json};

use super::{filter, joined, keys, list, public, texts, timeline};
use crate::kit::{encode, server};

#[tokio::test]
async fn a_kept_filter_works_like_one_that_is_sent_along() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    for number in 0..5 {
        alice.say(&room, &number.to_string()).await;
    }
    let wish = json!({ "room": { "timeline": { "limit": 2 } } });
    let path = format!("/_matrix/client/v3/user/{}/filter", encode(&alice.user_id));
    let kept = alice.do_post(&path, wish.clone()).await;
    let by_id = format!("filter={}&timeout=0", kept["filter_id"].as_str().unwrap());
    for query in [by_id, filter(&wish)] {
        let sync = alice.sync(None, &query).await;
        assert_eq!(texts(timeline(&sync, &room)), ["3", "4"]);
    }
}

#[tokio::test]
async fn types_senders_and_urls_are_chosen() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let since = alice.sync_token().await;
    alice.say(&room, "by alice").await;
    bob.say(&room, "by bob").await;
    let image = json!({ "body": "image", "url": "mxc://localhost/abc" });
    alice.send(&room, "m.room.message", "1", image).await;
    alice.send(&room, "org.example.x", "2", json!({ "body": "other" })).await;
    for (part, expected) in [
        (json!({ "types": ["m.room.*"] }), &["by alice", "by bob", "image"][..]),
        (json!({ "types": ["*.x"] }), &["other"]),
        (json!({ "not_types": ["org.*"] }), &["by alice", "by bob", "image"]),
        (json!({ "types": ["m.*"], "not_types": ["m.room.mess*"] }), &[]),
        (json!({ "types": [] }), &[]),
        (json!({ "senders": [bob.user_id] }), &["by bob"]),
        (json!({ "not_senders": [bob.user_id] }), &["by alice", "image", "other"]),
        (json!({ "contains_url": true }), &["image"]),
        (json!({ "contains_url": false }), &["by alice", "by bob", "other"]),
        (json!({ "rooms": [] }), &[]),
        (json!({ "not_rooms": [room] }), &[]),
        (json!({ "limit": 1 }), &["other"]),
        (json!({ "limit": 1, "types": ["m.room.message"] }), &["image"]),
    ] {
        let sync =
            alice.sync(Some(&since), &filter(&json!({ "room": { "timeline": part } }))).await;
        assert_eq!(texts(timeline(&sync, &room)), expected, "{part}");
    }
}

#[tokio::test]
async fn a_limit_counts_what_passes_the_filter() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let since = alice.sync_token().await;
    alice.say(&room, "wanted").await;
    for number in 0..60 {
        bob.say(&room, &number.to_string()).await;
    }
    for limit in [1, 5] {
        let part = json!({ "senders": [alice.user_id], "limit": limit });
        let sync =
            alice.sync(Some(&since), &filter(&json!({ "room": { "timeline": part } }))).await;
        assert_eq!(texts(timeline(&sync, &room)), ["wanted"]);
        assert_ne!(joined(&sync, &room)["timeline"]["limited"], true);
    }
}

#[tokio::test]
async fn rooms_are_chosen() {
    let server = server().await;
    let alice = server.register("alice").await;
    let [one, two] = [public(&alice).await, public(&alice).await];
    for (wish, expected) in [
        (json!({ "rooms": [one] }), vec![&one]),
        (json!({ "not_rooms": [one] }), vec![&two]),
        (json!({ "rooms": [one, two], "not_rooms": [two] }), vec![&one]),
        (json!({ "rooms": [] }), vec![]),
    ] {
        let sync = alice.sync(None, &filter(&json!({ "room": wish }))).await;
        let rooms = sync["rooms"]["join"].as_object();
        let rooms: Vec<_> = rooms.map(|rooms| rooms.keys().collect()).unwrap_or_default();
        assert_eq!(rooms, expected, "{wish}");
    }
}

#[tokio::test]
async fn state_is_filtered_on_its_own() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    alice.say(&room, "x").await;
    let wish = json!({ "room": {
        "state": { "types": ["m.room.create", "m.room.join_*"] }, "timeline": { "limit": 1 },
    } });
    let sync = alice.sync(None, &filter(&wish)).await;
    let state = list(&joined(&sync, &room)["state"]);
    assert_eq!(keys(state), ["m.room.create ", "m.room.join_rules "]);
}

#[tokio::test]
async fn only_the_fields_asked_for_come() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    alice.say(&room, "hi").await;
    let wish = json!({
        "event_fields": ["type", "content.body"], "room": { "timeline": { "limit": 1 } },
    });
    let sync = alice.sync(None, &filter(&wish)).await;
    let expected = json!({ "type": "m.room.message", "content": { "body": "hi" } });
    assert_eq!(timeline(&sync, &room), [expected]);
}

#[tokio::test]
async fn events_come_as_servers_exchange_them_when_asked() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    let event_id = alice.say(&room, "hi").await;
    let wish = json!({ "event_format": "federation", "room": { "timeline": { "limit": 1 } } });
    let sync = alice.sync(None, &filter(&wish)).await;
    let event = &timeline(&sync, &room)[0];
    assert_eq!(event["event_id"], json!(event_id));
    for field in ["auth_events", "prev_events", "hashes", "signatures", "depth", "room_id"] {
        assert_ne!(event[field], Value::Null, "{field} is missing");
    }
    assert_eq!(event["content"]["body"], "hi");
    assert_eq!(event["unsigned"]["membership"], "join");
}

#[tokio::test]
async fn a_filter_that_takes_nothing_waits_for_nothing() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    let since = alice.sync_token().await;
    alice.say(&room, "x").await;
    let nothing = json!({ "room": { "rooms": [] }, "presence": { "types": [] } });
    let query = format!("filter={}&timeout=200", encode(&nothing.to_string()));
    let sync = alice.sync(Some(&since), &query).await;
    assert_eq!(sync["rooms"], Value::Null);
    assert_eq!(sync["presence"], Value::Null);
}

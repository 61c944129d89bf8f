//! Whose devices changed, as syncs and `/keys/changes` tell.

use serde_json::{Value, json};

use crate::{
    e2ee_keys::upload_keys,
    kit::{self, User, encode},
};

/// Whether an answer names a user in a part of `device_lists`.
fn names(answer: &Value, part: &str, user: &User) -> bool {
    let list = answer["device_lists"][part].as_array();
    list.is_some_and(|list| list.contains(&json!(user.user_id)))
}

async fn changes(user: &User, from: &str, to: &str) -> Value {
    let query = format!("from={}&to={}", encode(from), encode(to));
    user.do_get(&format!("/_matrix/client/v3/keys/changes?{query}")).await
}

async fn public_room(user: &User) -> String {
    user.create_room(json!({ "preset": "public_chat" })).await
}

#[tokio::test]
async fn changes_are_told_to_those_who_share_a_room_and_to_oneself() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let carol = server.register("carol").await;
    let room = public_room(&alice).await;
    bob.room_post(&room, "join", json!({})).await;
    let (mut alice_since, mut bob_since) = (alice.sync_token().await, bob.sync_token().await);
    let carol_since = carol.sync_token().await;
    let begin = bob_since.clone();
    upload_keys(&alice, "a").await;
    bob.sync_until(&mut bob_since, |answer| names(answer, "changed", &alice)).await;
    alice.sync_until(&mut alice_since, |answer| names(answer, "changed", &alice)).await;
    let answer = carol.sync(Some(&carol_since), "timeout=0").await;
    assert!(!names(&answer, "changed", &alice), "{answer}");
    // Nothing is told twice.
    let answer = bob.sync(Some(&bob_since), "timeout=0").await;
    assert!(answer.get("device_lists").is_none(), "{answer}");
    // A new name is a change, and so is the end of a device.
    let path = format!("/_matrix/client/v3/devices/{}", encode(&alice.device_id));
    alice.do_put(&path, json!({ "display_name": "new" })).await;
    bob.sync_until(&mut bob_since, |answer| names(answer, "changed", &alice)).await;
    alice.do_post("/_matrix/client/v3/logout", json!({})).await;
    bob.sync_until(&mut bob_since, |answer| names(answer, "changed", &alice)).await;
    let all = changes(&bob, &begin, &bob_since).await;
    assert_eq!(all, json!({ "changed": [alice.user_id], "left": [] }));
    assert_eq!(changes(&bob, &bob_since, &bob_since).await, json!({ "changed": [], "left": [] }));
}

#[tokio::test]
async fn who_comes_is_changed_and_who_goes_is_left() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (one, two) = (public_room(&alice).await, public_room(&alice).await);
    let mut since = alice.sync_token().await;
    let mut bob_since = bob.sync_token().await;
    for room in [&one, &two] {
        bob.room_post(room, "join", json!({})).await;
        alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    }
    // One who joins has to look at all who are there.
    bob.sync_until(&mut bob_since, |answer| names(answer, "changed", &alice)).await;
    let begin = since.clone();
    bob.room_post(&one, "leave", json!({})).await;
    let is_gone = |room: &str, answer: &Value| {
        let events = answer["rooms"]["join"][room]["timeline"]["events"].as_array();
        events.is_some_and(|events| {
            events.iter().any(|event| event["content"]["membership"] == "leave")
        })
    };
    let answer = alice.sync_until(&mut since, |answer| is_gone(&one, answer)).await;
    assert!(!names(&answer, "left", &bob), "there is another room: {answer}");
    bob.room_post(&two, "leave", json!({})).await;
    alice.sync_until(&mut since, |answer| names(answer, "left", &bob)).await;
    // Who is gone is not followed.
    upload_keys(&bob, "b").await;
    let answer = alice.sync(Some(&since), "timeout=0").await;
    assert!(!names(&answer, "changed", &bob), "{answer}");
    let all = changes(&alice, &begin, &since).await;
    assert_eq!(all, json!({ "changed": [], "left": [bob.user_id] }));
    bob.room_post(&two, "join", json!({})).await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    // One who leaves does not follow the others any more.
    alice.room_post(&two, "leave", json!({})).await;
    alice.sync_until(&mut since, |answer| names(answer, "left", &bob)).await;
}

#[tokio::test]
async fn a_filter_on_members_hides_nobody_who_comes() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = public_room(&alice).await;
    let since = alice.sync_token().await;
    bob.room_post(&room, "join", json!({})).await;
    for number in 0..3 {
        alice.say(&room, &format!("{number}")).await;
    }
    let filter = json!({ "room": {
        "state": { "lazy_load_members": true, "types": [] },
        "timeline": { "limit": 1, "types": ["m.room.message"] },
    }});
    let query = format!("timeout=0&filter={}", encode(&filter.to_string()));
    let answer = alice.sync(Some(&since), &query).await;
    assert!(names(&answer, "changed", &bob), "{answer}");
}

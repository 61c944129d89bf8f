//! Typing, receipts and read markers, as others see them.

use serde_json::{Value, json};

use crate::{
    kit::encode,
    rooms_people::{Answer, Person, Town},
};

async fn typing(who: &Person, room: &str, body: Value) -> Answer {
    who.put(&format!("/rooms/{room}/typing/{}", who.id), body).await
}

async fn receipt(who: &Person, room: &str, kind: &str, event: &str, body: Value) -> Answer {
    who.post(&format!("/rooms/{room}/receipt/{kind}/{}", encode(event)), body).await
}

/// The content of the newest ephemeral event of a type in an answer to sync.
fn ephemeral(sync: &Value, room: &str, kind: &str) -> Value {
    let events = &sync["rooms"]["join"][room]["ephemeral"]["events"];
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    let found = events.iter().rfind(|event| event["type"] == kind);
    found.map_or(Value::Null, |event| event["content"].clone())
}

#[tokio::test]
async fn typing_is_seen_and_stops() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let mut since = bob.user.sync_token().await;
    let users = |sync: &Value| ephemeral(sync, &room, "m.typing")["user_ids"].clone();
    typing(&alice, &room, json!({ "typing": true, "timeout": 30_000 })).await.ok();
    bob.user.sync_until(&mut since, |sync| users(sync) == json!([alice.id])).await;
    typing(&alice, &room, json!({ "typing": false })).await.ok();
    bob.user.sync_until(&mut since, |sync| users(sync) == json!([])).await;
    // It stops by itself too.
    typing(&alice, &room, json!({ "typing": true, "timeout": 300 })).await.ok();
    bob.user.sync_until(&mut since, |sync| users(sync) == json!([alice.id])).await;
    bob.user.sync_until(&mut since, |sync| users(sync) == json!([])).await;
}

#[tokio::test]
async fn only_members_type_and_only_for_themselves() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({})).await;
    let body = json!({ "typing": true, "timeout": 30_000 });
    typing(&bob, &room, body.clone()).await.refused(403, "M_FORBIDDEN");
    let as_bob = format!("/rooms/{room}/typing/{}", bob.id);
    alice.put(&as_bob, body).await.refused(403, "M_FORBIDDEN");
    typing(&alice, &room, json!({})).await.refused(400, "M_BAD_JSON");
    typing(&alice, &room, json!({ "typing": "yes" })).await.refused(400, "M_BAD_JSON");
}

#[tokio::test]
async fn a_public_receipt_is_seen_by_all_and_a_private_one_by_its_owner() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let one = alice.say(&room, "one").await;
    let two = alice.say(&room, "two").await;
    let (mut alices, mut bobs) = (alice.user.sync_token().await, bob.user.sync_token().await);
    receipt(&bob, &room, "m.read", &one, json!({})).await.ok();
    let public =
        |sync: &Value| ephemeral(sync, &room, "m.receipt")[&one]["m.read"][&bob.id].clone();
    let seen = alice.user.sync_until(&mut alices, |sync| public(sync).is_object()).await;
    assert!(public(&seen)["ts"].is_u64());
    bob.user.sync_until(&mut bobs, |sync| public(sync).is_object()).await;

    receipt(&bob, &room, "m.read.private", &two, json!({})).await.ok();
    let private =
        |sync: &Value| ephemeral(sync, &room, "m.receipt")[&two]["m.read.private"].clone();
    bob.user.sync_until(&mut bobs, |sync| private(sync)[&bob.id].is_object()).await;
    alice.say(&room, "three").await;
    let sync = alice.sync(Some(&alices)).await;
    assert_eq!(private(&sync), Value::Null);
    // A new session sees where things stand.
    let sync = bob.sync(None).await;
    let receipts = ephemeral(&sync, &room, "m.receipt");
    assert!(receipts[&one]["m.read"][&bob.id].is_object(), "{receipts}");
    assert!(receipts[&two]["m.read.private"][&bob.id].is_object(), "{receipts}");
    let receipts = ephemeral(&alice.sync(None).await, &room, "m.receipt");
    assert_eq!(receipts.get(&two), None);
}

#[tokio::test]
async fn receipts_may_belong_to_threads() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let one = alice.say(&room, "one").await;
    receipt(&alice, &room, "m.read", &one, json!({ "thread_id": "main" })).await.ok();
    let receipts = ephemeral(&alice.sync(None).await, &room, "m.receipt");
    assert_eq!(receipts[&one]["m.read"][&alice.id]["thread_id"], "main");
    receipt(&alice, &room, "m.fully_read", &one, json!({ "thread_id": "main" }))
        .await
        .refused(400, "M_INVALID_PARAM");
    for bad in [json!({ "thread_id": "" }), json!({ "thread_id": 5 })] {
        let answer = receipt(&alice, &room, "m.read", &one, bad).await;
        assert_eq!(answer.status, 400, "{answer:?}");
    }
}

#[tokio::test]
async fn receipts_need_a_known_type_an_event_and_a_member() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({})).await;
    let one = alice.say(&room, "one").await;
    receipt(&alice, &room, "org.example.glance", &one, json!({}))
        .await
        .refused(400, "M_INVALID_PARAM");
    receipt(&bob, &room, "m.read", &one, json!({})).await.refused(403, "M_FORBIDDEN");
    let missing = receipt(&alice, &room, "m.read", "$missing", json!({})).await;
    assert!(matches!(missing.status, 400 | 404), "{missing:?}");
    let answer = receipt(&bob, &room, "m.fully_read", &one, json!({})).await;
    answer.hidden();
}

#[tokio::test]
async fn read_markers_set_the_marker_and_both_receipts() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let [one, two, three] =
        [alice.say(&room, "1").await, alice.say(&room, "2").await, alice.say(&room, "3").await];
    let path = format!("/rooms/{room}/read_markers");
    let body = json!({ "m.fully_read": one, "m.read": two, "m.read.private": three });
    bob.post(&path, body).await.ok();
    let data_path = format!("/user/{}/rooms/{room}/account_data/m.fully_read", bob.id);
    assert_eq!(bob.get(&data_path).await.ok()["event_id"], one);
    let sync = bob.sync(None).await;
    let receipts = ephemeral(&sync, &room, "m.receipt");
    assert!(receipts[&two]["m.read"][&bob.id].is_object(), "{receipts}");
    assert!(receipts[&three]["m.read.private"][&bob.id].is_object(), "{receipts}");
    let marker = sync["rooms"]["join"][&room]["account_data"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .find(|event| event["type"] == "m.fully_read");
    assert_eq!(marker.unwrap()["content"]["event_id"], one);
    bob.post(&path, json!({})).await.ok();
    receipt(&bob, &room, "m.fully_read", &three, json!({})).await.ok();
    assert_eq!(bob.get(&data_path).await.ok()["event_id"], three);
    let answer = bob.post(&path, json!({ "m.fully_read": "$missing" })).await;
    assert!(matches!(answer.status, 400 | 404), "{answer:?}");
}

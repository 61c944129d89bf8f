use ruma::{OwnedDeviceId, OwnedRoomId, events::TimelineEventType};
use serde_json::{Value as JsonValue, json, value::to_raw_value};

use super::Viewer;
use crate::{
    NewEvent, ServedEvent, TxnKey,
    tests::life::{Home, START_MS},
};

fn unsigned(served: &ServedEvent, viewer: Viewer<'_>, now_ms: u64) -> JsonValue {
    let json: JsonValue = serde_json::from_str(served.timeline_json(viewer, now_ms).json().get())
        .expect("a served event is JSON");
    json["unsigned"].clone()
}

async fn newest(home: &Home, viewer: &str, room: &OwnedRoomId) -> ServedEvent {
    let page = home.messages(viewer, room, (None, 'b', 1), json!({})).await.unwrap();
    page.chunk.into_iter().next().unwrap()
}

#[tokio::test]
async fn only_the_sending_device_is_told_of_its_transaction() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    let content = to_raw_value(&json!({ "body": "hello" })).unwrap();
    let txn = TxnKey { device_id: "PHONE".to_owned(), txn_id: "t1".to_owned() };
    let event = NewEvent::message(TimelineEventType::RoomMessage, content).txn(txn);
    let (alice, bob) = (home.user("alice"), home.user("bob"));
    home.rooms.send(&alice, &room, event).await.unwrap();
    let served = newest(&home, "alice", &room).await;
    let (phone, desk) = (OwnedDeviceId::from("PHONE"), OwnedDeviceId::from("DESK"));
    let told = |user_id, device_id| {
        let txn = unsigned(&served, Viewer { user_id, device_id }, START_MS);
        txn.get("transaction_id").cloned()
    };
    assert_eq!(told(&alice, Some(&phone)), Some(json!("t1")));
    assert_eq!(told(&alice, Some(&desk)), None);
    assert_eq!(told(&alice, None), None);
    assert_eq!(told(&bob, Some(&phone)), None);
}

#[tokio::test]
async fn unsigned_tells_the_age_and_the_membership_at_the_event() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.say("alice", &room, "before bob came").await;
    let bob = home.user("bob");
    home.join("bob", &room).await.unwrap();
    home.clock.advance(1_234);
    let page = home.messages("bob", &room, (None, 'b', 2), json!({})).await.unwrap();
    let viewer = Viewer { user_id: &bob, device_id: None };
    let [joined, said] = page.chunk.try_into().unwrap();
    let joined = unsigned(&joined, viewer, START_MS + 1_234);
    assert_eq!(joined, json!({ "age": 1_234, "membership": "join" }));
    let said = unsigned(&said, viewer, START_MS + 1_234);
    assert_eq!(said, json!({ "age": 1_234, "membership": "leave" }));
}

#[tokio::test]
async fn a_state_event_says_what_it_replaced() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let first = home.set("alice", &room, "m.room.topic", "", json!({ "topic": "old" })).await;
    home.set("alice", &room, "m.room.topic", "", json!({ "topic": "new" })).await;
    let served = newest(&home, "alice", &room).await;
    let alice = home.user("alice");
    let unsigned = unsigned(&served, Viewer { user_id: &alice, device_id: None }, START_MS);
    assert_eq!(unsigned["prev_content"], json!({ "topic": "old" }));
    assert_eq!(unsigned["replaces_state"], json!(first));
}

#[tokio::test]
async fn a_redacted_event_says_why_and_has_no_content() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let said = home.say("alice", &room, "secret").await;
    let alice = home.user("alice");
    let event = NewEvent::redaction(said.clone(), Some("oops"));
    let redaction = home.rooms.send(&alice, &room, event).await.unwrap();
    let served = home.rooms.event(&alice, &room, &said).await.unwrap();
    let viewer = Viewer { user_id: &alice, device_id: None };
    let json: JsonValue =
        serde_json::from_str(served.sync_json(viewer, START_MS).json().get()).unwrap();
    assert_eq!(json["content"], json!({}));
    assert_eq!(json.get("room_id"), None);
    let because = &json["unsigned"]["redacted_because"];
    assert_eq!(because["event_id"], json!(redaction));
    assert_eq!(because["content"]["reason"], "oops");
    assert_eq!(because["content"]["redacts"], json!(said));
    assert_eq!(because["redacts"], json!(said));
}

#[tokio::test]
async fn both_forms_have_the_right_keys() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.set("alice", &room, "m.room.name", "", json!({ "name": "Room" })).await;
    let served = newest(&home, "alice", &room).await;
    let alice = home.user("alice");
    let viewer = Viewer { user_id: &alice, device_id: None };
    let keys = |json: &str| {
        let json: serde_json::Map<String, JsonValue> = serde_json::from_str(json).unwrap();
        json.keys().cloned().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        keys(served.state_json(viewer, START_MS).json().get()),
        "content event_id origin_server_ts room_id sender state_key type unsigned"
    );
    assert_eq!(
        keys(served.sync_state_json(viewer, START_MS).json().get()),
        "content event_id origin_server_ts sender state_key type unsigned"
    );
}

#[tokio::test]
async fn what_an_erased_user_said_does_not_come_back_in_what_replaced_or_redacted_it() {
    let home = Home::new().await;
    let room = home.public_room("bob").await;
    let (alice, bob, carol) = (home.user("alice"), home.user("bob"), home.user("carol"));
    home.join("alice", &room).await.unwrap();
    let levels = json!({ "users": { alice.as_str(): 50, bob.as_str(): 100 } });
    home.set("bob", &room, "m.room.power_levels", "", levels).await;
    home.set("alice", &room, "m.room.topic", "", json!({ "topic": "secret" })).await;
    let topic = home.set("bob", &room, "m.room.topic", "", json!({ "topic": "new" })).await;
    let said = home.say("bob", &room, "oops").await;
    let redaction = NewEvent::redaction(said.clone(), Some("secret reason"));
    home.rooms.send(&alice, &room, redaction).await.unwrap();
    home.join("carol", &room).await.unwrap();
    home.leave("alice", &room).await.unwrap();
    home.rooms.erase(&alice).await.unwrap();
    let told = async |user_id, id| {
        let served = home.rooms.event(user_id, &room, id).await.unwrap();
        unsigned(&served, Viewer { user_id, device_id: None }, START_MS)
    };
    assert_eq!(told(&bob, &topic).await["prev_content"], json!({ "topic": "secret" }));
    assert_eq!(told(&carol, &topic).await["prev_content"], json!({}));
    let because = told(&bob, &said).await["redacted_because"].clone();
    assert_eq!(because["content"]["reason"], "secret reason");
    let because = told(&carol, &said).await["redacted_because"].clone();
    assert_eq!(because["sender"], json!(alice));
    assert_eq!(because["content"], json!({ "redacts": said }));
}

#[tokio::test]
async fn a_redaction_that_one_may_not_see_is_not_told() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    let said = home.say("alice", &room, "oops").await;
    home.leave("bob", &room).await.unwrap();
    let (alice, bob) = (home.user("alice"), home.user("bob"));
    let redaction = NewEvent::redaction(said.clone(), Some("said after bob left"));
    home.rooms.send(&alice, &room, redaction).await.unwrap();
    for (viewer, told) in [(&alice, true), (&bob, false)] {
        let served = home.rooms.event(viewer, &room, &said).await.unwrap();
        assert_eq!(served.event.pdu.content.get(), "{}");
        assert_eq!(served.redacted_because.is_some(), told, "{viewer}");
    }
}

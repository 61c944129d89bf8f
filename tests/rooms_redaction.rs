//! Taking things back.

use serde_json::json;

use crate::{
    kit::encode,
    rooms_people::{Answer, Person, Town, text_of},
};

async fn redact(who: &Person, room: &str, event: &str, txn: &str) -> Answer {
    let path = format!("/rooms/{room}/redact/{}/{txn}", encode(event));
    who.put(&path, json!({ "reason": "typo" })).await
}

#[tokio::test]
async fn a_redacted_message_is_empty_and_says_why() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    for version in ["6", "10", "11", "12"] {
        let body = json!({ "preset": "public_chat", "room_version": version });
        let room = alice.create(body).await;
        bob.join(&room).await.ok();
        let message = bob.say(&room, "oops").await;
        let redaction = redact(&bob, &room, &message, "1").await.event_id();
        assert_eq!(redact(&bob, &room, &message, "1").await.event_id(), redaction);
        for reader in [&alice, &bob] {
            let event = reader.event(&room, &message).await.ok();
            assert_eq!(event["content"], json!({}), "version {version}");
            let because = &event["unsigned"]["redacted_because"];
            assert_eq!(because["event_id"], redaction);
            assert_eq!(because["content"]["reason"], "typo");
            assert_eq!(because["sender"], bob.id);
        }
        let event = alice.event(&room, &redaction).await.ok();
        assert_eq!(event["type"], "m.room.redaction");
        assert_eq!(event["redacts"], message, "version {version}");
        // Clients see it in both places, whatever the version.
        assert_eq!(event["content"]["redacts"], message, "version {version}");
        let page = alice.messages(&room, "dir=b&limit=2").await.ok();
        assert_eq!(page["chunk"][0]["event_id"], redaction);
        assert_eq!(page["chunk"][1]["content"], json!({}));
        let sync = alice.sync(None).await;
        let timeline = &sync["rooms"]["join"][&room]["timeline"]["events"];
        let shown = timeline.as_array().unwrap().iter().find(|e| e["event_id"] == message);
        assert_eq!(shown.unwrap()["content"], json!({}));
    }
}

#[tokio::test]
async fn redacting_others_takes_power() {
    let town = Town::start().await;
    let [alice, bob, carol] = town.people(["alice", "bob", "carol"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    let message = alice.say(&room, "mine").await;
    redact(&bob, &room, &message, "1").await.refused(403, "M_FORBIDDEN");
    redact(&carol, &room, &message, "1").await.refused(403, "M_FORBIDDEN");
    assert_eq!(alice.event(&room, &message).await.ok()["content"]["body"], "mine");
    alice.empower(&room, &bob, 50).await;
    redact(&bob, &room, &message, "2").await.ok();
    assert_eq!(alice.event(&room, &message).await.ok()["content"], json!({}));
    // Where even one's own takes power, and one has none.
    let mut levels = alice.state(&room, "m.room.power_levels", "").await.ok();
    levels["events"]["m.room.redaction"] = json!(60);
    alice.set_levels(&room, levels).await.ok();
    let own = bob.say(&room, "own").await;
    redact(&bob, &room, &own, "3").await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn only_events_of_the_room_can_be_redacted() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let other = alice.create(json!({})).await;
    let message = alice.say(&other, "elsewhere").await;
    for event in [message.as_str(), "$missing"] {
        let answer = redact(&alice, &room, event, "1").await;
        assert!(matches!(answer.status, 400 | 403 | 404), "{answer:?}");
    }
    assert_eq!(alice.event(&other, &message).await.ok()["content"]["body"], "elsewhere");
}

#[tokio::test]
async fn redacted_state_keeps_what_the_rules_need() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat", "name": "oops" })).await;
    bob.join(&room).await.ok();
    let name = alice.state_event(&room, "m.room.name", "").await;
    redact(&alice, &room, name["event_id"].as_str().unwrap(), "1").await.ok();
    assert_eq!(alice.state(&room, "m.room.name", "").await.ok(), json!({}));
    let member = alice.state_event(&room, "m.room.member", &bob.id).await;
    redact(&alice, &room, member["event_id"].as_str().unwrap(), "2").await.ok();
    let content = alice.state(&room, "m.room.member", &bob.id).await.ok();
    assert_eq!(content, json!({ "membership": "join" }));
    bob.say(&room, "still here").await;
    let create = alice.state_event(&room, "m.room.create", "").await;
    redact(&alice, &room, create["event_id"].as_str().unwrap(), "c")
        .await
        .refused(403, "M_FORBIDDEN");
    let levels = alice.state_event(&room, "m.room.power_levels", "").await;
    redact(&alice, &room, levels["event_id"].as_str().unwrap(), "3").await.ok();
    let kept = alice.state(&room, "m.room.power_levels", "").await.ok();
    assert_eq!(kept["ban"], 50);
    assert_eq!(kept.get("notifications"), None);
}

#[tokio::test]
async fn a_redaction_outlives_a_restart_and_a_second_one() {
    let mut town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    let message = alice.say(&room, "oops").await;
    let first = redact(&alice, &room, &message, "1").await.event_id();
    let second = redact(&alice, &room, &message, "2").await.event_id();
    assert_ne!(first, second);
    town.restart().await;
    let event = alice.event(&room, &message).await.ok();
    assert_eq!(event["content"], json!({}));
    assert!(event["unsigned"]["redacted_because"]["event_id"].is_string());
    // Sent as any other event, a redaction works too.
    let other = alice.say(&room, "again").await;
    let path = format!("/rooms/{room}/send/m.room.redaction/9");
    alice.put(&path, json!({ "redacts": other })).await.ok();
    assert_eq!(alice.event(&room, &other).await.ok()["content"], json!({}));
    let kept = alice.say(&room, "kept").await;
    alice.put(&format!("/rooms/{room}/send/m.room.message/10"), text_of("x")).await.ok();
    assert_eq!(alice.event(&room, &kept).await.ok()["content"]["body"], "kept");
}

#[tokio::test]
async fn one_transaction_id_redacts_each_target_once() {
    let mut town = Town::start().await;
    let alice = town.person("alice").await;
    for version in ["10", "11", "12"] {
        let room = alice.create(json!({ "room_version": version })).await;
        let (one, other) = (alice.say(&room, "one").await, alice.say(&room, "other").await);
        let first = redact(&alice, &room, &one, "1").await.event_id();
        let second = redact(&alice, &room, &other, "1").await.event_id();
        assert_ne!(first, second, "version {version}");
        for event in [&one, &other] {
            assert_eq!(alice.event(&room, event).await.ok()["content"], json!({}));
        }
        assert_eq!(redact(&alice, &room, &one, "1").await.event_id(), first);
        // A redaction that is redacted itself is still found by its transaction.
        redact(&alice, &room, &second, "1").await.ok();
        assert_eq!(redact(&alice, &room, &other, "1").await.event_id(), second);
        let third = alice.say(&room, "third").await;
        let path = format!("/rooms/{room}/send/m.room.redaction/1");
        alice.put(&path, json!({ "redacts": third })).await.ok();
        assert_eq!(alice.event(&room, &third).await.ok()["content"], json!({}));
        town.restart().await;
        assert_eq!(redact(&alice, &room, &one, "1").await.event_id(), first);
    }
}

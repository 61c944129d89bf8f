//! Timelines, tokens and waiting.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{filter, joined, list, more, next, public, texts, timeline};
use crate::kit::{encode, server};

#[tokio::test]
async fn a_first_sync_tells_of_everything() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({ "name": "Home", "topic": "ours" })).await;
    let event_id = alice.say(&room, "hi").await;
    let sync = alice.sync(None, "timeout=30000").await;
    let events = timeline(&sync, &room);
    assert_eq!(events.last().unwrap()["event_id"], json!(event_id));
    assert_eq!(events.first().unwrap()["type"], "m.room.create");
    assert_eq!(joined(&sync, &room)["timeline"]["limited"], Value::Null);
    assert!(events.iter().all(|event| event.get("room_id").is_none()), "{events:?}");
    let kinds: Vec<_> = list(&sync["account_data"]).iter().map(|event| &event["type"]).collect();
    assert!(kinds.contains(&&json!("m.push_rules")), "{kinds:?}");
}

#[tokio::test]
async fn without_news_the_answer_is_empty_after_the_timeout() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let since = alice.sync_token().await;
    let begin = Instant::now();
    let sync = alice.sync(Some(&since), "timeout=300").await;
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(sync["rooms"], Value::Null);
    assert!(sync["next_batch"].is_string());
    assert_eq!(timeline(&sync, &room).len(), 0);
}

#[tokio::test]
async fn a_message_ends_the_wait() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let since = bob.sync_token().await;
    let begin = Instant::now();
    let waiting = {
        let (bob, since) = (bob.clone(), since.clone());
        tokio::spawn(async move { bob.sync(Some(&since), "timeout=60000").await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    alice.say(&room, "wake up").await;
    let sync = waiting.await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(texts(timeline(&sync, &room)), ["wake up"]);
}

#[tokio::test]
async fn what_one_has_sent_is_in_the_next_sync() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut since = alice.sync_token().await;
    for number in 0..20 {
        alice.say(&room, &number.to_string()).await;
        let sync = more(&alice, &mut since).await;
        assert_eq!(texts(timeline(&sync, &room)), [number.to_string()]);
    }
}

#[tokio::test]
async fn a_gap_is_marked_and_can_be_filled() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let since = alice.sync_token().await;
    for number in 0..10 {
        alice.say(&room, &number.to_string()).await;
    }
    let query = filter(&json!({ "room": { "timeline": { "limit": 3 } } }));
    let sync = alice.sync(Some(&since), &query).await;
    let part = &joined(&sync, &room)["timeline"];
    assert_eq!(texts(list(part)), ["7", "8", "9"]);
    assert_eq!(part["limited"], true);
    let before = part["prev_batch"].as_str().unwrap();
    let path = format!(
        "/_matrix/client/v3/rooms/{}/messages?dir=b&limit=7&from={before}&to={since}",
        encode(&room)
    );
    let messages = alice.do_get(&path).await;
    let mut rest = texts(messages["chunk"].as_array().unwrap());
    rest.reverse();
    assert_eq!(rest, ["0", "1", "2", "3", "4", "5", "6"]);
    // Exactly as many as fit are no gap.
    let query = filter(&json!({ "room": { "timeline": { "limit": 10 } } }));
    let sync = alice.sync(Some(&since), &query).await;
    assert_eq!(timeline(&sync, &room).len(), 10);
    assert_ne!(joined(&sync, &room)["timeline"]["limited"], true);
}

#[tokio::test]
async fn history_can_be_read_on_from_a_sync_token() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    alice.say(&room, "old").await;
    let since = alice.sync_token().await;
    alice.say(&room, "new").await;
    for (dir, text) in [("b", "old"), ("f", "new")] {
        let room = encode(&room);
        let path =
            format!("/_matrix/client/v3/rooms/{room}/messages?dir={dir}&limit=1&from={since}");
        let messages = alice.do_get(&path).await;
        assert_eq!(texts(messages["chunk"].as_array().unwrap()), [text]);
    }
}

#[tokio::test]
async fn events_carry_what_only_this_client_is_told() {
    let server = server().await;
    let alice = server.register("alice").await;
    let other_device = server.log_in("alice", json!({})).await;
    let bob = server.register("bob").await;
    let room = public(&alice).await;
    bob.join(&room).await;
    let (status, _) = alice.send(&room, "m.room.message", "t1", json!({ "body": "x" })).await;
    assert_eq!(status, 200);
    for (user, txn) in [(&alice, json!("t1")), (&other_device, Value::Null), (&bob, Value::Null)] {
        let sync = user.sync(None, "timeout=0").await;
        let unsigned = &timeline(&sync, &room).last().unwrap()["unsigned"];
        assert_eq!(unsigned["transaction_id"], txn);
        assert_eq!(unsigned["membership"], "join");
        assert!(unsigned["age"].is_i64(), "{unsigned}");
    }
    let mut since = bob.sync_token().await;
    super::topic(&alice, &room, "one").await;
    super::topic(&alice, &room, "two").await;
    let sync = more(&bob, &mut since).await;
    let unsigned = &timeline(&sync, &room).last().unwrap()["unsigned"];
    assert_eq!(unsigned["prev_content"], json!({ "topic": "one" }));
    assert!(unsigned["replaces_state"].is_string());
}

#[tokio::test]
async fn tokens_outlive_a_restart() {
    let mut server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let quiet = alice.create_room(json!({})).await;
    let since = alice.sync_token().await;
    alice.say(&room, "before").await;
    server.restart().await;
    let sync = alice.sync(Some(&since), "timeout=0").await;
    assert_eq!(texts(timeline(&sync, &room)), ["before"]);
    assert_eq!(joined(&sync, &quiet), &Value::Null);
    let mut since = next(&sync);
    alice.say(&room, "after").await;
    let sync = more(&alice, &mut since).await;
    assert_eq!(texts(timeline(&sync, &room)), ["after"]);
    let sync = more(&alice, &mut since).await;
    assert_eq!(sync["rooms"], Value::Null);
}

#[tokio::test]
async fn stopping_answers_those_who_wait() {
    let mut server = server().await;
    let alice = server.register("alice").await;
    let since = alice.sync_token().await;
    let waiting = {
        let alice = alice.clone();
        tokio::spawn(async move { alice.sync(Some(&since), "timeout=60000").await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    server.stop().await;
    let sync = waiting.await.unwrap();
    assert!(sync["next_batch"].is_string());
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn strange_tokens_and_filters_are_refused() {
    let server = server().await;
    let alice = server.register("alice").await;
    for query in [
        "since=nonsense",
        "since=s1_2",
        "since=s99999999_1_0_0",
        "filter=12345",
        "filter=%7B%22room%22:5%7D",
        "timeout=soon",
        "set_presence=busy",
    ] {
        let (status, answer) = alice.get(&format!("/_matrix/client/v3/sync?{query}")).await;
        assert_eq!(status, 400, "{query}: {answer}");
    }
    let (status, answer) = server.client().get("/_matrix/client/v3/sync").await;
    assert_eq!((status, &answer["errcode"]), (401, &json!("M_MISSING_TOKEN")));
    let (status, _) = alice.get("/_matrix/client/r0/sync?timeout=0&since=").await;
    assert_eq!(status, 200);
}

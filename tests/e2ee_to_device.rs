//! Messages from device to device.

use serde_json::{Value, json};

use crate::{
    e2ee_keys::query,
    kit::{self, User, encode},
};

async fn send(user: &User, txn: &str, messages: Value) {
    let path = format!("/_matrix/client/v3/sendToDevice/m.test/{}", encode(txn));
    assert_eq!(user.do_put(&path, json!({ "messages": messages })).await, json!({}));
}

fn texts(answer: &Value) -> Vec<String> {
    let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
    let text = |event: Value| event["content"]["text"].as_str().unwrap().to_owned();
    events.into_iter().map(text).collect()
}

fn token(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_message_is_told_until_the_client_has_it() {
    let mut server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let other = server.log_in("bob", json!({})).await;
    let begin = bob.sync_token().await;
    for _ in 0..2 {
        let to = json!({ &bob.user_id: { &bob.device_id: { "text": "one" }, "GONE": {} } });
        send(&alice, "t1", to).await;
    }
    server.restart().await;
    let first = bob.sync(Some(&begin), "timeout=0").await;
    assert_eq!(texts(&first), ["one"]);
    let event = &first["to_device"]["events"][0];
    assert_eq!((&event["type"], &event["sender"]), (&json!("m.test"), &json!(alice.user_id)));
    // The answer got lost: it comes again, also to one who starts from nothing.
    assert_eq!(texts(&bob.sync(Some(&begin), "timeout=0").await), ["one"]);
    assert_eq!(texts(&bob.sync(None, "timeout=0").await), ["one"]);
    let second = bob.sync(Some(&token(&first)), "timeout=0").await;
    assert!(texts(&second).is_empty(), "{second}");
    assert!(texts(&bob.sync(None, "timeout=0").await).is_empty());
    assert!(texts(&other.sync(None, "timeout=0").await).is_empty());
}

#[tokio::test]
async fn a_message_to_all_devices_wakes_each_of_them() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let other = server.log_in("bob", json!({})).await;
    let (mut one, mut two) = (bob.sync_token().await, other.sync_token().await);
    let is_there = |answer: &Value| texts(answer) == ["hi"];
    let waiting = async {
        tokio::join!(bob.sync_until(&mut one, is_there), other.sync_until(&mut two, is_there))
    };
    let to = json!({ &bob.user_id: { "*": { "text": "hi" } } });
    tokio::join!(waiting, send(&alice, "t", to));
}

#[tokio::test]
async fn many_messages_come_in_parts_and_in_order() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let mut since = bob.sync_token().await;
    for number in 0..205 {
        let to = json!({ &bob.user_id: { &bob.device_id: { "text": number.to_string() } } });
        send(&alice, &format!("t{number}"), to).await;
    }
    let mut all = Vec::new();
    for expected in [100, 100, 5, 0] {
        let answer = bob.sync(Some(&since), "timeout=0").await;
        assert_eq!(texts(&answer).len(), expected);
        all.extend(texts(&answer));
        since = token(&answer);
    }
    let expected: Vec<_> = (0..205).map(|number| number.to_string()).collect();
    assert_eq!(all, expected);
}

#[tokio::test]
async fn a_removed_device_has_no_inbox_and_a_message_is_an_object() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let other = server.log_in("bob", json!({ "device_id": "OTHER" })).await;
    let to = json!({ &bob.user_id: { "OTHER": { "text": "x" } } });
    send(&alice, "t1", to.clone()).await;
    other.do_post("/_matrix/client/v3/logout", json!({})).await;
    send(&alice, "t2", to).await;
    let again = server.log_in("bob", json!({ "device_id": "OTHER" })).await;
    assert!(texts(&again.sync(None, "timeout=0").await).is_empty());
    let path = "/_matrix/client/v3/sendToDevice/m.test/t3";
    let bad = json!({ "messages": { &bob.user_id: { "*": "x" } } });
    let (status, answer) = alice.put(path, bad).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_BAD_JSON")), "{answer}");
}

#[tokio::test]
async fn a_dehydrated_device_takes_messages_until_it_is_brought_back() {
    const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    assert_eq!(bob.get(PATH).await.0, 404);
    let body = |id: &str| {
        json!({
            "device_id": id, "device_data": { "algorithm": "x", "pickle": id },
            "device_keys": {
                "user_id": bob.user_id, "device_id": id, "algorithms": [],
                "keys": { format!("ed25519:{id}"): "k" }, "signatures": {},
            },
            "one_time_keys": { "signed_curve25519:A": { "key": id } },
        })
    };
    for id in ["ONE", "TWO"] {
        assert_eq!(bob.do_put(PATH, body(id)).await, json!({ "device_id": id }));
    }
    assert_eq!(bob.put(PATH, body("TWO")).await.0, 400);
    let kept = bob.do_get(PATH).await;
    assert_eq!(kept["device_data"]["pickle"], "TWO");
    let seen = query(&alice, &bob.user_id).await["device_keys"][&bob.user_id].clone();
    assert_eq!(seen.as_object().unwrap().keys().collect::<Vec<_>>(), ["TWO"]);
    for text in ["one", "two"] {
        send(&alice, text, json!({ &bob.user_id: { "*": { "text": text } } })).await;
    }
    let path = format!("{PATH}/TWO/events");
    let first = bob.do_post(&path, json!({})).await;
    assert_eq!(texts(&json!({ "to_device": first })), ["one", "two"]);
    let rest = bob.do_post(&path, json!({ "next_batch": first["next_batch"] })).await;
    assert_eq!(rest["events"], json!([]));
    assert_eq!(bob.post(&format!("{PATH}/ONE/events"), json!({})).await.0, 403);
    assert_eq!(bob.do_delete(PATH).await, json!({ "device_id": "TWO" }));
    assert_eq!(bob.get(PATH).await.0, 404);
    let seen = query(&alice, &bob.user_id).await;
    assert_eq!(seen["device_keys"][&bob.user_id], json!({}));
}

//! Encryption across servers: devices are found and followed, messages for devices arrive once.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    e2ee_keys::{UPLOAD, query, upload_keys},
    kit::{self, Network, User, encode},
};

/// Whether an answer names a user in a part of `device_lists`.
fn names(answer: &Value, part: &str, user: &User) -> bool {
    let list = answer["device_lists"][part].as_array();
    list.is_some_and(|list| list.contains(&json!(user.user_id)))
}

async fn join(user: &User, room: &str) {
    let path = format!("/_matrix/client/v3/join/{}?via=one.test", encode(room));
    user.do_post(&path, json!({})).await;
}

/// Alice of the first server and Bob of the second in a room, and where Alice's sync stands.
async fn pair(network: &Network) -> (User, User, String, String) {
    let (alice, bob) = (network[0].register("alice").await, network[1].register("bob").await);
    let room = alice.create_room(json!({ "preset": "public_chat" })).await;
    let mut since = alice.sync_token().await;
    join(&bob, &room).await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    (alice, bob, room, since)
}

/// The Ed25519 key of a user's device as another sees it, once their server is not left alone.
async fn key_of(viewer: &User, user: &User) -> Value {
    let mut seen = query(viewer, &user.user_id).await;
    for _ in 0..100 {
        if seen["failures"] == json!({}) {
            break;
        }
        // A server that just failed is asked again a second later, as clients do.
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen = query(viewer, &user.user_id).await;
    }
    assert_eq!(seen["failures"], json!({}));
    let device = &seen["device_keys"][&user.user_id][&user.device_id];
    device["keys"][format!("ed25519:{}", user.device_id)].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_another_server_are_found_and_their_changes_told() {
    let network = kit::network(2).await;
    let (alice, bob, _, mut since) = pair(&network).await;
    for key in ["first", "second", "third"] {
        upload_keys(&bob, key).await;
        alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
        assert_eq!(key_of(&alice, &bob).await, key);
    }
    let path = format!("/_matrix/client/v3/devices/{}", encode(&bob.device_id));
    bob.do_put(&path, json!({ "display_name": "Bob's phone" })).await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    let seen = query(&alice, &bob.user_id).await;
    let device = &seen["device_keys"][&bob.user_id][&bob.device_id];
    assert_eq!(device["unsigned"]["device_display_name"], "Bob's phone");
    // What is known needs no other server any more.
    network.partition(&[&[0], &[1]]);
    assert_eq!(key_of(&alice, &bob).await, "third");
    network.heal();
    bob.do_post("/_matrix/client/v3/logout", json!({})).await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    assert_eq!(query(&alice, &bob.user_id).await["device_keys"][&bob.user_id], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_the_servers_were_apart_is_learned() {
    let mut network = kit::network(2).await;
    let (alice, bob, _, mut since) = pair(&network).await;
    upload_keys(&bob, "before").await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    assert_eq!(key_of(&alice, &bob).await, "before");
    network.partition(&[&[0], &[1]]);
    for key in ["a", "b", "after"] {
        upload_keys(&bob, key).await;
    }
    let new = network[1].log_in("bob", json!({})).await;
    upload_keys(&new, "new").await;
    network.stop(1).await;
    network.heal();
    network.start(1).await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    // Each change is told, and the last one shows all.
    while key_of(&alice, &new).await != "new" {
        alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    }
    assert_eq!(key_of(&alice, &bob).await, "after");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_left_and_came_back_is_looked_at_anew() {
    let network = kit::network(2).await;
    let (alice, bob, room, mut since) = pair(&network).await;
    upload_keys(&bob, "before").await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    assert_eq!(key_of(&alice, &bob).await, "before");
    bob.room_post(&room, "leave", json!({})).await;
    alice.sync_until(&mut since, |answer| names(answer, "left", &bob)).await;
    // Nobody tells of it, but who asks learns it.
    upload_keys(&bob, "away").await;
    assert_eq!(key_of(&alice, &bob).await, "away");
    join(&bob, &room).await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    assert_eq!(key_of(&alice, &bob).await, "away");
    upload_keys(&bob, "back").await;
    alice.sync_until(&mut since, |answer| names(answer, "changed", &bob)).await;
    assert_eq!(key_of(&alice, &bob).await, "back");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_for_devices_wait_for_their_server_and_come_once() {
    let mut network = kit::network(2).await;
    let (alice, bob, ..) = pair(&network).await;
    let mut since = bob.sync_token().await;
    network.link(0, 1).cut();
    for number in 0..3 {
        let path = format!("/_matrix/client/v3/sendToDevice/m.test/txn{number}");
        let messages = json!({ &bob.user_id: { &bob.device_id: { "number": number } } });
        alice.do_put(&path, json!({ "messages": messages.clone() })).await;
        alice.do_put(&path, json!({ "messages": messages })).await;
    }
    network.stop(0).await;
    network.heal();
    network.start(0).await;
    let mut numbers = Vec::new();
    bob.sync_until(&mut since, |answer| {
        let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
        numbers.extend(events.iter().map(|event| event["content"]["number"].clone()));
        numbers.len() >= 3
    })
    .await;
    assert_eq!(numbers, [0, 1, 2]);
    let answer = bob.sync(Some(&since), "timeout=0").await;
    assert!(answer.get("to_device").is_none(), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_one_time_key_is_claimed_from_another_server() {
    let network = kit::network(2).await;
    let (alice, bob) = (network[0].register("alice").await, network[1].register("bob").await);
    let key = json!({ "key": "k", "signatures": {} });
    bob.do_post(UPLOAD, json!({ "one_time_keys": { "signed_curve25519:K": key } })).await;
    let wanted = json!({ &bob.user_id: { &bob.device_id: "signed_curve25519" } });
    let claim = json!({ "one_time_keys": wanted });
    let path = "/_matrix/client/v3/keys/claim";
    let claimed = alice.do_post(path, claim.clone()).await;
    assert_eq!(
        claimed["one_time_keys"][&bob.user_id][&bob.device_id],
        json!({ "signed_curve25519:K": key })
    );
    let none = alice.do_post(path, claim.clone()).await;
    assert!(none["one_time_keys"].get(&bob.user_id).is_none(), "{none}");
    network.link(0, 1).cut();
    let failed = alice.do_post(path, claim).await;
    assert!(failed["failures"]["two.test"].is_object(), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn profiles_of_another_server_are_shown() {
    let network = kit::network(2).await;
    let (alice, bob) = (network[0].register("alice").await, network[1].register("bob").await);
    let path = format!("/_matrix/client/v3/profile/{}", encode(&bob.user_id));
    bob.do_put(&format!("{path}/displayname"), json!({ "displayname": "Bob" })).await;
    assert_eq!(alice.do_get(&path).await["displayname"], "Bob");
    let field = alice.do_get(&format!("{path}/displayname")).await;
    assert_eq!(field, json!({ "displayname": "Bob" }));
    let nobody = format!("/_matrix/client/v3/profile/{}", encode("@nobody:two.test"));
    assert_eq!(alice.get(&nobody).await.0, 404);
    // Strangers cannot make us ask others.
    assert_eq!(network[0].client().get(&path).await.0, 401);
}

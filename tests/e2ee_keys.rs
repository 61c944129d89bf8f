//! Keys of devices, over HTTP: uploaded, asked for, claimed once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    kit::{self, PASSWORD, Process, User, encode},
    login::with_password,
};

pub(crate) const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
const QUERY: &str = "/_matrix/client/v3/keys/query";
const CLAIM: &str = "/_matrix/client/v3/keys/claim";

/// Identity keys of a user's device. Nothing here checks that they are real.
pub(crate) fn device_keys(user: &User, key: &str) -> Value {
    let (device, id) = (&user.device_id, &user.user_id);
    json!({
        "user_id": id, "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": { format!("ed25519:{device}"): key, format!("curve25519:{device}"): key },
        "signatures": { id: { format!("ed25519:{device}"): "signature" } },
    })
}

/// Publishes identity keys of a user's device.
pub(crate) async fn upload_keys(user: &User, key: &str) {
    user.do_post(UPLOAD, json!({ "device_keys": device_keys(user, key) })).await;
}

fn one_time_keys(names: impl IntoIterator<Item = String>) -> Value {
    let key = |name: String| (format!("signed_curve25519:{name}"), json!({ "key": name }));
    Value::Object(names.into_iter().map(key).collect())
}

/// The keys of a user as another sees them.
pub(crate) async fn query(viewer: &User, user_id: &str) -> Value {
    viewer.do_post(QUERY, json!({ "device_keys": { user_id: [] } })).await
}

/// Claims a key of a device; gives its ID.
async fn claim(user: &User, owner: &User) -> Option<String> {
    let wanted = json!({ &owner.user_id: { &owner.device_id: "signed_curve25519" } });
    let answer = user.do_post(CLAIM, json!({ "one_time_keys": wanted })).await;
    assert_eq!(answer["failures"], json!({}));
    let keys = answer["one_time_keys"][&owner.user_id][&owner.device_id].as_object()?;
    assert_eq!(keys.len(), 1, "{answer}");
    keys.keys().next().cloned()
}

#[tokio::test]
async fn keys_are_shown_to_others_with_the_name_of_the_device() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let phone =
        server.log_in("alice", json!({ "initial_device_display_name": "Alice's phone" })).await;
    upload_keys(&phone, "p").await;
    let seen = query(&bob, &alice.user_id).await;
    let device = &seen["device_keys"][&alice.user_id][&phone.device_id];
    assert_eq!(device["unsigned"]["device_display_name"], "Alice's phone");
    assert_eq!(device["signatures"], device_keys(&phone, "p")["signatures"]);
    // A device without keys is not shown, nor are users who are not there.
    assert_eq!(seen["device_keys"][&alice.user_id].as_object().unwrap().len(), 1, "{seen}");
    let none = query(&bob, "@nobody:localhost").await;
    assert_eq!(none["device_keys"]["@nobody:localhost"], json!({}));
    // Only the devices that are named.
    let wanted = json!({ &alice.user_id: ["OTHER"] });
    let named = bob.do_post(QUERY, json!({ "device_keys": wanted })).await;
    assert_eq!(named["device_keys"][&alice.user_id], json!({}));
    // A server that cannot be reached is a failure.
    let far = query(&bob, "@eve:far.invalid").await;
    assert!(far["failures"]["far.invalid"].is_object(), "{far}");
}

#[tokio::test]
async fn what_is_no_key_of_the_device_is_refused() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let mut foreign = device_keys(&alice, "x");
    foreign["device_id"] = json!("OTHER");
    let mut float = device_keys(&alice, "x");
    float["x"] = json!(1.5);
    for (keys, code) in [(foreign, "M_INVALID_PARAM"), (float, "M_BAD_JSON")] {
        let (status, answer) = alice.post(UPLOAD, json!({ "device_keys": keys })).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(code)), "{answer}");
    }
    let keys = json!({ "one_time_keys": { "signed_curve25519:A": 1 } });
    let (status, answer) = alice.post(UPLOAD, keys).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_BAD_JSON")), "{answer}");
}

#[tokio::test]
async fn one_time_keys_are_counted_claimed_in_order_and_then_the_fallback_key_is_given() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    for name in ["b", "a"] {
        let keys = json!({ "one_time_keys": one_time_keys([name.to_owned()]) });
        alice.do_post(UPLOAD, keys).await;
    }
    let again = json!({ "one_time_keys": one_time_keys(["a".to_owned()]) });
    let answer = alice.do_post(UPLOAD, again).await;
    assert_eq!(answer["one_time_key_counts"], json!({ "signed_curve25519": 2 }));
    let fallback = json!({ "signed_curve25519:F": { "key": "f", "fallback": true } });
    alice.do_post(UPLOAD, json!({ "fallback_keys": fallback })).await;
    let synced = alice.sync(None, "timeout=0").await;
    assert_eq!(synced["device_one_time_keys_count"], json!({ "signed_curve25519": 2 }));
    assert_eq!(synced["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
    let mut claimed = Vec::new();
    for _ in 0..4 {
        claimed.extend(claim(&bob, &alice).await);
    }
    let expected = ["b", "a", "F", "F"].map(|name| format!("signed_curve25519:{name}"));
    assert_eq!(claimed, expected);
    // A waiting client is told that the fallback key was used.
    let mut since = synced["next_batch"].as_str().unwrap().to_owned();
    let synced = alice
        .sync_until(&mut since, |answer| answer["device_unused_fallback_key_types"] == json!([]));
    assert_eq!(synced.await["device_one_time_keys_count"]["signed_curve25519"], 0);
    assert_eq!(claim(&alice, &bob).await, None);
}

#[tokio::test]
async fn no_key_is_handed_out_twice_though_the_server_is_killed_meanwhile() {
    let data_dir = tempfile::tempdir().unwrap();
    let mut process = Process::new(data_dir.path());
    process.start().await;
    let alice = User::register(process.client(), "alice").await;
    let bob = User::register(process.client(), "bob").await;
    let names = (0..500).map(|number| format!("k{number}"));
    alice.do_post(UPLOAD, json!({ "one_time_keys": one_time_keys(names) })).await;
    let fallback = json!({ "signed_curve25519:F": { "key": "f", "fallback": true } });
    alice.do_post(UPLOAD, json!({ "fallback_keys": fallback })).await;
    let mut times = BTreeMap::<String, usize>::new();
    for round in 0..2 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..500 {
            let (bob, alice) = (bob.clone(), alice.clone());
            tasks.spawn(async move {
                let wanted = json!({ &alice.user_id: { &alice.device_id: "signed_curve25519" } });
                let body = json!({ "one_time_keys": wanted });
                let sent = bob.request(http::Method::POST, CLAIM).json(&body).send().await.ok()?;
                let answer: Value = sent.json().await.ok()?;
                let keys = &answer["one_time_keys"][&alice.user_id][&alice.device_id];
                keys.as_object()?.keys().next().cloned()
            });
        }
        let mut answered = 0;
        while let Some(key) = tasks.join_next().await {
            if let Some(key) = key.unwrap() {
                *times.entry(key).or_default() += 1;
            }
            answered += 1;
            if round == 0 && answered == 100 {
                process.kill().await;
            }
        }
        if round == 0 {
            process.start().await;
        }
    }
    // Whoever got no answer when the server was killed may have used a key up.
    times.remove("signed_curve25519:F");
    assert!(times.values().all(|times| *times == 1), "a key was handed out twice");
    assert!(times.len() >= 100, "{}", times.len());
}

#[tokio::test]
async fn a_device_that_logs_out_takes_its_keys_along() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let second = server.log_in("alice", json!({})).await;
    upload_keys(&second, "s").await;
    let keys = json!({ "one_time_keys": one_time_keys(["a".to_owned()]) });
    second.do_post(UPLOAD, keys).await;
    second.do_post("/_matrix/client/v3/logout", json!({})).await;
    assert_eq!(query(&bob, &alice.user_id).await["device_keys"][&alice.user_id], json!({}));
    assert_eq!(claim(&bob, &second).await, None);
    // So does one that is deleted, and a closed account.
    let third = server.log_in("alice", json!({})).await;
    upload_keys(&third, "t").await;
    let path = format!("/_matrix/client/v3/devices/{}", encode(&third.device_id));
    let auth = json!({ "auth": with_password("alice", PASSWORD) });
    let (status, _) = alice.delete_with(&path, auth.clone()).await;
    assert_eq!(status, 200);
    assert_eq!(query(&bob, &alice.user_id).await["device_keys"][&alice.user_id], json!({}));
    upload_keys(&alice, "a").await;
    alice.do_post("/_matrix/client/v3/account/deactivate", auth).await;
    assert_eq!(query(&bob, &alice.user_id).await["device_keys"][&alice.user_id], json!({}));
}

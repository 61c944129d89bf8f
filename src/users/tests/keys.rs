//! One-time keys, device keys and what other servers tell of devices.

use std::{collections::BTreeMap, time::Duration};

use ruma::{OwnedUserId, UserId, device_id, serde::Raw};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::Position;

use super::Home;
use crate::{KeyClaims, KeysQuery, NewDeviceKeys, Users, UsersError};

fn raw<T>(json: &JsonValue) -> Raw<T> {
    Raw::from_json(to_raw_value(json).unwrap())
}

fn one_time(names: impl IntoIterator<Item = String>) -> NewDeviceKeys {
    let keys = names.into_iter().map(|name| {
        let id = format!("signed_curve25519:{name}").try_into().unwrap();
        (id, raw(&json!({ "key": name, "signatures": {} })))
    });
    NewDeviceKeys { one_time_keys: keys.collect(), ..NewDeviceKeys::default() }
}

fn fallback(name: &str) -> NewDeviceKeys {
    let id = format!("signed_curve25519:{name}").try_into().unwrap();
    let key = raw(&json!({ "key": name, "fallback": true }));
    NewDeviceKeys { fallback_keys: BTreeMap::from([(id, key)]), ..NewDeviceKeys::default() }
}

fn claims(user_id: &UserId) -> KeyClaims {
    let devices = BTreeMap::from([("A".into(), "signed_curve25519".into())]);
    KeyClaims::from([(user_id.to_owned(), devices)])
}

/// The name of the key that a claim gets.
async fn claim(users: &Users, user_id: &UserId) -> Option<String> {
    let (claimed, failures) =
        users.claim_keys(&claims(user_id), Duration::from_secs(1)).await.unwrap();
    assert!(failures.is_empty());
    let keys = claimed.get(user_id)?.get(device_id!("A"))?;
    assert_eq!(keys.len(), 1);
    Some(keys.keys().next()?.key_name().to_string())
}

async fn count(users: &Users, user_id: &UserId) -> u64 {
    let counts = users.key_counts(user_id, device_id!("A")).await.unwrap();
    counts.one_time.values().sum()
}

async fn alice(home: &Home) -> OwnedUserId {
    let alice = home.sign_up("alice").await;
    home.log_in(&alice, "A").await;
    alice
}

#[tokio::test]
async fn keys_are_claimed_in_the_order_of_their_upload_and_never_twice() {
    let home = Home::new().await;
    let alice = alice(&home).await;
    let upload =
        async |keys: &NewDeviceKeys| home.users.upload_keys(&alice, device_id!("A"), keys).await;
    upload(&one_time(["z".to_owned()])).await.unwrap();
    upload(&one_time(["a".to_owned()])).await.unwrap();
    assert_eq!(count(&home.users, &alice).await, 2);
    assert_eq!(claim(&home.users, &alice).await.as_deref(), Some("z"));
    assert_eq!(count(&home.users, &alice).await, 1);
    // The client did not hear that its upload arrived: what was claimed does not come back.
    upload(&one_time(["z".to_owned(), "a".to_owned()])).await.unwrap();
    assert_eq!(count(&home.users, &alice).await, 1);
    let mut other = one_time(["a".to_owned()]);
    other.one_time_keys.values_mut().for_each(|key| *key = raw(&json!({ "key": "b" })));
    assert!(matches!(upload(&other).await, Err(UsersError::Invalid { .. })));
    assert_eq!(claim(&home.users, &alice).await.as_deref(), Some("a"));
    assert_eq!(claim(&home.users, &alice).await, None);
    assert_eq!(claim(&home.reopened().await, &alice).await, None);
}

#[tokio::test]
async fn many_who_claim_at_once_get_a_key_each_and_then_the_fallback_key() {
    let home = Home::new().await;
    let alice = alice(&home).await;
    let names = (0..50).map(|number| format!("k{number}"));
    home.users.upload_keys(&alice, device_id!("A"), &one_time(names)).await.unwrap();
    home.users.upload_keys(&alice, device_id!("A"), &fallback("f")).await.unwrap();
    let counts = home.users.key_counts(&alice, device_id!("A")).await.unwrap();
    assert_eq!(counts.unused_fallback, ["signed_curve25519".into()]);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (users, alice) = (home.users.clone(), alice.clone());
            tokio::spawn(async move { claim(&users, &alice).await.unwrap() })
        })
        .collect();
    let mut times = BTreeMap::<String, usize>::new();
    for task in tasks {
        *times.entry(task.await.unwrap()).or_default() += 1;
    }
    assert_eq!(times.remove("f"), Some(50));
    assert_eq!(times.len(), 50);
    let counts = home.users.key_counts(&alice, device_id!("A")).await.unwrap();
    assert!(counts.unused_fallback.is_empty());
    // The same again stays used, another one is not.
    home.users.upload_keys(&alice, device_id!("A"), &fallback("f")).await.unwrap();
    let counts = home.users.key_counts(&alice, device_id!("A")).await.unwrap();
    assert!(counts.unused_fallback.is_empty());
    let counts = home.users.upload_keys(&alice, device_id!("A"), &fallback("g")).await.unwrap();
    assert_eq!(counts.unused_fallback.len(), 1);
}

#[tokio::test]
async fn a_removed_device_leaves_no_keys_and_no_messages() {
    let home = Home::new().await;
    let alice = alice(&home).await;
    home.users.upload_keys(&alice, device_id!("A"), &one_time(["a".to_owned()])).await.unwrap();
    let message = super::to_device::message("t1", &alice, "A");
    home.users.send_to_device(&alice, device_id!("A"), &message).await.unwrap();
    home.users.delete_devices(&alice, &["A".into()]).await.unwrap();
    assert_eq!(claim(&home.users, &alice).await, None);
    let late = home.users.upload_keys(&alice, device_id!("A"), &one_time(["b".to_owned()])).await;
    assert!(matches!(late, Err(UsersError::NotFound { .. })));
    home.log_in(&alice, "A").await;
    assert_eq!(count(&home.users, &alice).await, 0);
    let upto = Position::new(u64::MAX - 1);
    let inbox = home.users.inbox(&alice, device_id!("A"), Position::ZERO, upto, 10).await.unwrap();
    assert!(inbox.events.is_empty());
}

#[tokio::test]
async fn keys_are_shown_with_the_name_of_the_device_and_changes_are_told() {
    let home = Home::new().await;
    let alice = alice(&home).await;
    let begin = home.store.position();
    let keys = json!({
        "user_id": alice, "device_id": "A", "algorithms": [], "keys": { "ed25519:A": "x" },
        "signatures": { alice.to_string(): { "ed25519:A": "s" }, "@eve:x": { "ed25519:E": "t" } },
    });
    let new = NewDeviceKeys { device_keys: Some(raw(&keys)), ..NewDeviceKeys::default() };
    home.users.upload_keys(&alice, device_id!("A"), &new).await.unwrap();
    let after = home.store.position();
    let changes = home.users.device_list_changes(begin, after).await.unwrap();
    assert!(matches!(&changes[..], [user_id] if *user_id == alice));
    // The same again is no change.
    home.users.upload_keys(&alice, device_id!("A"), &new).await.unwrap();
    assert_eq!(home.store.position(), after);
    let query =
        KeysQuery { users: BTreeMap::from([(alice.clone(), Vec::new())]), ..KeysQuery::default() };
    let answer = home.users.query_keys(&alice, query).await.unwrap();
    let shown = answer.device_keys[&alice][device_id!("A")].deserialize_as::<JsonValue>().unwrap();
    assert_eq!(shown["unsigned"], json!({ "device_display_name": "A's name" }));
    assert_eq!(shown["signatures"], json!({ alice.to_string(): { "ed25519:A": "s" } }));
    let stream_id = home.users.device_list_stream_id(&alice).await.unwrap();
    let update = home.users.device_list_update(&alice, stream_id).await.unwrap().unwrap();
    assert_eq!(update.prev_id, [ruma::UInt::new(stream_id - 1).unwrap()]);
    assert!(update.keys.is_some() && update.deleted.is_none());
    let mut foreign = keys;
    foreign["device_id"] = json!("B");
    let new = NewDeviceKeys { device_keys: Some(raw(&foreign)), ..NewDeviceKeys::default() };
    let refused = home.users.upload_keys(&alice, device_id!("A"), &new).await;
    assert!(matches!(refused, Err(UsersError::Invalid { .. })));
}

//! Cross-signing keys, and what users sign with them.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, OwnedUserId, UserId, device_id,
    serde::{Base64, Raw, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};

use super::Home;
use crate::{KeysAnswer, KeysQuery, NewDeviceKeys, NewSigningKeys, SignedKeys, UsersError};

/// A key pair, and its public half in unpadded base64.
struct Key {
    pair: Ed25519KeyPair,
    public: String,
}

impl Key {
    /// A key that is named as itself.
    fn new() -> Self {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, "x".to_owned()).unwrap();
        let public = Base64::<Standard, _>::new(pair.public_key()).encode();
        let public = public.trim_end_matches('=').to_owned();
        let pair = Ed25519KeyPair::from_der(&der, public.clone()).unwrap();
        Self { pair, public }
    }

    /// A key that is named as a device.
    fn of_device(device: &str) -> Self {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, device.to_owned()).unwrap();
        let public = Base64::<Standard, _>::new(pair.public_key()).encode();
        Self { pair, public: public.trim_end_matches('=').to_owned() }
    }

    fn sign(&self, user_id: &UserId, json: JsonValue) -> JsonValue {
        let mut object: CanonicalJsonObject = serde_json::from_value(json).unwrap();
        sign_json(user_id.as_str(), &self.pair, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }

    fn json(&self, user_id: &UserId, usage: &str) -> JsonValue {
        let id = format!("ed25519:{}", self.public);
        json!({ "user_id": user_id, "usage": [usage], "keys": { id: self.public } })
    }
}

/// A user with all three keys.
struct Signer {
    user_id: OwnedUserId,
    master: Key,
    self_signing: Key,
    user_signing: Key,
}

fn raw<T>(json: &JsonValue) -> Raw<T> {
    Raw::from_json(to_raw_value(json).unwrap())
}

impl Signer {
    async fn new(home: &Home, name: &str) -> Self {
        let user_id = home.sign_up(name).await;
        Self { user_id, master: Key::new(), self_signing: Key::new(), user_signing: Key::new() }
    }

    fn master_json(&self) -> JsonValue {
        self.master.json(&self.user_id, "master")
    }

    fn keys(&self) -> NewSigningKeys {
        let signed = |key: &Key, usage| {
            raw(&self.master.sign(&self.user_id, key.json(&self.user_id, usage)))
        };
        NewSigningKeys {
            master: Some(raw(&self.master_json())),
            self_signing: Some(signed(&self.self_signing, "self_signing")),
            user_signing: Some(signed(&self.user_signing, "user_signing")),
        }
    }

    async fn upload(&self, home: &Home) {
        home.users.upload_signing_keys(&self.user_id, &self.keys()).await.unwrap();
    }
}

async fn upload_signed(
    home: &Home,
    signer: &UserId,
    user_id: &UserId,
    name: &str,
    json: &JsonValue,
) -> Option<UsersError> {
    let objects = BTreeMap::from([(name.to_owned(), to_raw_value(json).unwrap())]);
    let signed = SignedKeys::from([(user_id.to_owned(), objects)]);
    let mut failures = home.users.upload_signatures(signer, &signed).await.unwrap();
    failures.remove(user_id).and_then(|mut errors| errors.remove(name))
}

async fn query(home: &Home, viewer: &UserId, user_id: &UserId) -> KeysAnswer {
    let query = KeysQuery {
        users: BTreeMap::from([(user_id.to_owned(), Vec::new())]),
        ..KeysQuery::default()
    };
    home.users.query_keys(viewer, query).await.unwrap()
}

fn signers_of<T>(json: &Raw<T>) -> Vec<String> {
    let json: JsonValue = serde_json::from_str(json.json().get()).unwrap();
    let users = json["signatures"].as_object().cloned().unwrap_or_default();
    users.into_iter().map(|(user_id, _)| user_id).collect()
}

#[tokio::test]
async fn the_first_keys_need_no_proof_and_the_same_again_neither() {
    let home = Home::new().await;
    let alice = Signer::new(&home, "alice").await;
    let needs = async |keys: &NewSigningKeys| {
        home.users.signing_keys_need_proof(&alice.user_id, keys).await
    };
    let mut incomplete = alice.keys();
    incomplete.master = None;
    assert!(matches!(needs(&incomplete).await, Err(UsersError::Missing { .. })));
    assert!(!needs(&alice.keys()).await.unwrap());
    alice.upload(&home).await;
    assert!(!needs(&alice.keys()).await.unwrap());
    let begin = home.store.position();
    alice.upload(&home).await;
    assert_eq!(home.store.position(), begin);
    let mut other = alice.keys();
    let key = Key::new().json(&alice.user_id, "self_signing");
    other.self_signing = Some(raw(&alice.master.sign(&alice.user_id, key)));
    assert!(needs(&other).await.unwrap());
    let own = query(&home, &alice.user_id, &alice.user_id).await;
    assert_eq!((own.master_keys.len(), own.user_signing_keys.len()), (1, 1));
    let bob = home.sign_up("bob").await;
    let others = query(&home, &bob, &alice.user_id).await;
    assert_eq!((others.self_signing_keys.len(), others.user_signing_keys.len()), (1, 0));
}

#[tokio::test]
async fn impossible_keys_are_refused() {
    let home = Home::new().await;
    let alice = Signer::new(&home, "alice").await;
    let upload =
        async |keys: NewSigningKeys| home.users.upload_signing_keys(&alice.user_id, &keys).await;
    let mut unsigned = alice.keys();
    unsigned.self_signing = Some(raw(&alice.self_signing.json(&alice.user_id, "self_signing")));
    assert!(matches!(upload(unsigned).await, Err(UsersError::InvalidSignature { .. })));
    let mut wrong = alice.keys();
    wrong.master = Some(raw(&alice.master.json(&alice.user_id, "self_signing")));
    assert!(matches!(upload(wrong).await, Err(UsersError::Invalid { .. })));
    let mut foreign = alice.keys();
    foreign.master = Some(raw(&alice.master.json(ruma::user_id!("@bob:localhost"), "master")));
    assert!(matches!(upload(foreign).await, Err(UsersError::Invalid { .. })));
    home.log_in(&alice.user_id, &alice.master.public).await;
    assert!(matches!(upload(alice.keys()).await, Err(UsersError::Forbidden { .. })));
}

#[tokio::test]
async fn own_devices_and_the_own_master_key_are_signed_for_everybody() {
    let home = Home::new().await;
    let (alice, bob) = (Signer::new(&home, "alice").await, home.sign_up("bob").await);
    home.log_in(&alice.user_id, "A").await;
    let device = Key::of_device("A");
    let keys = json!({
        "user_id": alice.user_id, "device_id": "A", "algorithms": [],
        "keys": { "ed25519:A": device.public },
    });
    let new = NewDeviceKeys { device_keys: Some(raw(&keys)), ..NewDeviceKeys::default() };
    home.users.upload_keys(&alice.user_id, device_id!("A"), &new).await.unwrap();
    alice.upload(&home).await;
    let user_id = &alice.user_id;
    let signed = alice.self_signing.sign(user_id, keys.clone());
    assert!(upload_signed(&home, user_id, user_id, "A", &signed).await.is_none());
    let master = device.sign(user_id, alice.master_json());
    let name = &alice.master.public;
    assert!(upload_signed(&home, user_id, user_id, name, &master).await.is_none());
    let seen = query(&home, &bob, user_id).await;
    assert_eq!(signers_of(&seen.device_keys[user_id][device_id!("A")]), [user_id.as_str()]);
    assert_eq!(signers_of(&seen.master_keys[user_id]), [user_id.as_str()]);
    // The device uploads the same keys again: its signature stays.
    home.users.upload_keys(user_id, device_id!("A"), &new).await.unwrap();
    let seen = query(&home, &bob, user_id).await;
    assert_eq!(signers_of(&seen.device_keys[user_id][device_id!("A")]), [user_id.as_str()]);
    // Signed with the wrong key, of another device, or not signed at all.
    let wrong = alice.user_signing.sign(user_id, keys.clone());
    let failure = upload_signed(&home, user_id, user_id, "A", &wrong).await;
    assert!(matches!(failure, Some(UsersError::InvalidSignature { .. })), "{failure:?}");
    let failure = upload_signed(&home, user_id, user_id, "B", &signed).await;
    assert!(matches!(failure, Some(UsersError::NotFound { .. })), "{failure:?}");
    let mut changed = signed;
    changed["algorithms"] = json!(["x"]);
    let failure = upload_signed(&home, user_id, user_id, "A", &changed).await;
    assert!(matches!(failure, Some(UsersError::Invalid { .. })), "{failure:?}");
}

#[tokio::test]
async fn what_a_user_signs_of_others_is_seen_by_them_only() {
    let home = Home::new().await;
    let (alice, bob) = (Signer::new(&home, "alice").await, Signer::new(&home, "bob").await);
    alice.upload(&home).await;
    bob.upload(&home).await;
    let begin = home.store.position();
    let name = &bob.master.public;
    let signed = alice.user_signing.sign(&alice.user_id, bob.master_json());
    assert!(upload_signed(&home, &alice.user_id, &bob.user_id, name, &signed).await.is_none());
    let seen = query(&home, &alice.user_id, &bob.user_id).await;
    assert_eq!(signers_of(&seen.master_keys[&bob.user_id]), [alice.user_id.as_str()]);
    for viewer in [&bob.user_id, &home.sign_up("carol").await] {
        let seen = query(&home, viewer, &bob.user_id).await;
        assert!(signers_of(&seen.master_keys[&bob.user_id]).is_empty());
    }
    let end = home.store.position();
    let changes = home.users.signed_master_changes(&alice.user_id, begin, end).await.unwrap();
    assert!(matches!(&changes[..], [user_id] if *user_id == bob.user_id));
    let wrong = alice.self_signing.sign(&alice.user_id, bob.master_json());
    let failure = upload_signed(&home, &alice.user_id, &bob.user_id, name, &wrong).await;
    assert!(matches!(failure, Some(UsersError::InvalidSignature { .. })), "{failure:?}");
}

//! Cross-signing over HTTP.

use ruma::{
    CanonicalJsonObject,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use crate::{
    e2ee_keys::query,
    kit::{self, PASSWORD, User},
    login::with_password,
};

const UPLOAD: &str = "/_matrix/client/v3/keys/device_signing/upload";
const SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

/// A key pair that is named as its public half.
struct Key {
    pair: Ed25519KeyPair,
    public: String,
}

impl Key {
    fn new() -> Self {
        let der = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&der, "x".to_owned()).unwrap();
        let public = Base64::<Standard, _>::new(pair.public_key()).encode();
        let public = public.trim_end_matches('=').to_owned();
        Self { pair: Ed25519KeyPair::from_der(&der, public.clone()).unwrap(), public }
    }

    fn json(&self, user: &User, usage: &str) -> Value {
        let keys = json!({ format!("ed25519:{}", self.public): self.public });
        json!({ "user_id": user.user_id, "usage": [usage], "keys": keys })
    }

    fn sign(&self, user: &User, json: Value) -> Value {
        let mut object: CanonicalJsonObject = serde_json::from_value(json).unwrap();
        sign_json(&user.user_id, &self.pair, &mut object).unwrap();
        serde_json::to_value(object).unwrap()
    }
}

/// A whole set of keys.
struct Keys {
    master: Key,
    self_signing: Key,
    user_signing: Key,
}

impl Keys {
    fn new() -> Self {
        Self { master: Key::new(), self_signing: Key::new(), user_signing: Key::new() }
    }

    fn json(&self, user: &User) -> Value {
        let signed = |key: &Key, usage| self.master.sign(user, key.json(user, usage));
        json!({
            "master_key": self.master.json(user, "master"),
            "self_signing_key": signed(&self.self_signing, "self_signing"),
            "user_signing_key": signed(&self.user_signing, "user_signing"),
        })
    }
}

#[tokio::test]
async fn only_the_first_set_of_keys_needs_no_password() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let first = Keys::new().json(&alice);
    for _ in 0..2 {
        alice.do_post(UPLOAD, first.clone()).await;
    }
    let mut second = Keys::new().json(&alice);
    let (status, asked) = alice.post(UPLOAD, second.clone()).await;
    assert_eq!((status, &asked["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    let seen = query(&bob, &alice.user_id).await;
    assert_eq!(seen["master_keys"][&alice.user_id], first["master_key"]);
    assert_eq!(seen["user_signing_keys"], json!({}));
    second["auth"] = with_password("alice", PASSWORD);
    second["auth"]["session"] = asked["session"].clone();
    alice.do_post(UPLOAD, second.clone()).await;
    let seen = query(&alice, &alice.user_id).await;
    for (part, key) in [
        ("master_keys", "master_key"),
        ("self_signing_keys", "self_signing_key"),
        ("user_signing_keys", "user_signing_key"),
    ] {
        assert_eq!(seen[part][&alice.user_id], second[key], "{part}");
    }
}

#[tokio::test]
async fn keys_that_the_master_key_has_not_signed_are_refused() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let keys = Keys::new();
    let mut unsigned = keys.json(&alice);
    unsigned["self_signing_key"] = keys.self_signing.json(&alice, "self_signing");
    let (status, answer) = alice.post(UPLOAD, unsigned).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_INVALID_SIGNATURE")), "{answer}");
    let mut headless = keys.json(&alice);
    headless.as_object_mut().unwrap().remove("master_key");
    let (status, answer) = alice.post(UPLOAD, headless).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_MISSING_PARAM")), "{answer}");
}

#[tokio::test]
async fn a_signature_of_another_user_is_seen_by_who_signed_and_told_to_their_devices() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let (alices, bobs) = (Keys::new(), Keys::new());
    alice.do_post(UPLOAD, alices.json(&alice)).await;
    bob.do_post(UPLOAD, bobs.json(&bob)).await;
    let (mut since, bob_since) = (alice.sync_token().await, bob.sync_token().await);
    let signed = alices.user_signing.sign(&alice, bobs.master.json(&bob, "master"));
    let body = json!({ &bob.user_id: { &bobs.master.public: signed } });
    assert_eq!(alice.do_post(SIGNATURES, body).await, json!({ "failures": {} }));
    let is_told = |answer: &Value| answer["device_lists"]["changed"] == json!([bob.user_id]);
    alice.sync_until(&mut since, is_told).await;
    let answer = bob.sync(Some(&bob_since), "timeout=0").await;
    assert!(answer.get("device_lists").is_none(), "{answer}");
    let seen = query(&alice, &bob.user_id).await;
    let signatures = &seen["master_keys"][&bob.user_id]["signatures"];
    assert!(signatures[&alice.user_id].is_object(), "{seen}");
    let seen = query(&bob, &bob.user_id).await;
    assert!(seen["master_keys"][&bob.user_id].get("signatures").is_none(), "{seen}");
    // With the wrong key, and of what is not there.
    let wrong = alices.self_signing.sign(&alice, bobs.master.json(&bob, "master"));
    let body = json!({ &bob.user_id: { &bobs.master.public: wrong.clone(), "other": wrong } });
    let failures = alice.do_post(SIGNATURES, body).await["failures"][&bob.user_id].clone();
    assert_eq!(failures[&bobs.master.public]["errcode"], "M_INVALID_SIGNATURE");
    assert_eq!(failures["other"]["errcode"], "M_NOT_FOUND");
}

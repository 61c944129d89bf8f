//! Key backups and OpenID tokens over HTTP.

use serde_json::{Value, json};

use crate::kit::{self, encode};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const KEYS: &str = "/_matrix/client/v3/room_keys/keys";

fn key(index: u64, is_verified: bool) -> Value {
    json!({
        "first_message_index": index, "forwarded_count": 0, "is_verified": is_verified,
        "session_data": { "ephemeral": "e", "ciphertext": index.to_string(), "mac": "m" },
    })
}

fn described(text: &str) -> Value {
    let algorithm = "m.megolm_backup.v1.curve25519-aes-sha2";
    json!({ "algorithm": algorithm, "auth_data": { "public_key": text, "signatures": {} } })
}

#[tokio::test]
async fn a_backup_is_begun_filled_read_and_deleted() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    assert_eq!(alice.get(VERSION).await.0, 404);
    let made = alice.do_post(VERSION, described("a")).await;
    let version = made["version"].as_str().unwrap();
    let path = format!("{VERSION}/{version}");
    alice.do_put(&path, described("b")).await;
    let info = alice.do_get(VERSION).await;
    assert_eq!(info["auth_data"]["public_key"], "b");
    assert_eq!((&info["count"], &info["version"]), (&json!(0), &json!(version)));
    let room = format!("{KEYS}/{}", encode("!r:localhost"));
    let query = format!("?version={version}");
    let one = format!("{room}/{}{query}", encode("session/1"));
    let put = alice.do_put(&one, key(5, false)).await;
    assert_eq!(put["count"], 1);
    let worse = alice.do_put(&one, key(6, false)).await;
    assert_eq!(worse, put);
    let better = alice.do_put(&one, key(6, true)).await;
    assert_ne!(better["etag"], put["etag"]);
    assert_eq!(alice.do_get(&one).await, key(6, true));
    let many = json!({ "sessions": { "a": key(1, true), "b": key(2, true) } });
    assert_eq!(alice.do_put(&format!("{room}{query}"), many.clone()).await["count"], 3);
    let all = json!({ "rooms": { "!s:localhost": many.clone() } });
    assert_eq!(alice.do_put(&format!("{KEYS}{query}"), all).await["count"], 5);
    let read = alice.do_get(&format!("{KEYS}{query}")).await;
    assert_eq!(read["rooms"]["!s:localhost"], many);
    assert_eq!(alice.do_delete(&one).await["count"], 4);
    assert_eq!(alice.get(&one).await.0, 404);
    assert_eq!(alice.do_delete(&format!("{room}{query}")).await["count"], 2);
    assert_eq!(alice.do_get(&format!("{room}{query}")).await, json!({ "sessions": {} }));
    alice.do_delete(&path).await;
    assert_eq!(alice.get(&path).await.0, 404);
    assert_eq!(alice.get(&format!("{KEYS}{query}")).await.0, 404);
}

#[tokio::test]
async fn keys_for_an_old_backup_are_refused_with_the_version_of_the_newest() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let first = alice.do_post(VERSION, described("a")).await;
    let second = alice.do_post(VERSION, described("b")).await;
    let path = format!("{KEYS}/!r:x/s?version={}", first["version"].as_str().unwrap());
    let (status, answer) = alice.put(&path, key(1, true)).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_WRONG_ROOM_KEYS_VERSION")));
    assert_eq!(answer["current_version"], second["version"]);
    // Nobody sees another's.
    let version = second["version"].as_str().unwrap();
    assert_eq!(bob.get(&format!("{VERSION}/{version}")).await.0, 404);
}

#[tokio::test]
async fn ten_thousand_keys_in_one_backup() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let made = alice.do_post(VERSION, described("a")).await;
    let path = format!("{KEYS}?version={}", made["version"].as_str().unwrap());
    for part in 0..10 {
        let sessions: serde_json::Map<_, _> =
            (0..1_000).map(|number| (format!("s{number}"), key(number, true))).collect();
        let room = format!("!r{part}:localhost");
        let answer =
            alice.do_put(&path, json!({ "rooms": { room: { "sessions": sessions } } })).await;
        assert_eq!(answer["count"], 1_000 * (part + 1));
    }
    let all = alice.do_get(&path).await;
    assert_eq!(all["rooms"].as_object().unwrap().len(), 10);
    assert_eq!(alice.do_delete(&path).await["count"], 0);
}

#[tokio::test]
async fn an_openid_token_is_given_for_oneself_only() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let path = format!("/_matrix/client/v3/user/{}/openid/request_token", encode(&alice.user_id));
    let token = alice.do_post(&path, json!({})).await;
    assert_eq!(token["token_type"], "Bearer");
    assert_eq!(token["matrix_server_name"], "localhost");
    assert_eq!(token["expires_in"], 3_600);
    assert_eq!(bob.post(&path, json!({})).await.0, 403);
    // It is no access token.
    let thief = alice.with_token(token["access_token"].as_str().unwrap());
    assert_eq!(thief.get("/_matrix/client/v3/account/whoami").await.0, 401);
}

//! Signing up: user-interactive authentication, tokens, guests, the shared secret.

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

use crate::kit::{self, TestServer};

const REGISTER: &str = "/_matrix/client/v3/register";

async fn register(server: &TestServer, body: Value) -> (u16, Value) {
    server.client().post(REGISTER, body).await
}

#[tokio::test]
async fn registration_asks_for_a_stage_and_then_logs_in() {
    let server = kit::server().await;
    let body = json!({ "username": "alice", "password": "a long password" });
    let (status, asked) = register(&server, body).await;
    assert_eq!(status, 401, "{asked}");
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.dummy"] }]));
    assert!(asked["params"].is_object() && asked.get("errcode").is_none(), "{asked}");
    let body = json!({
        "username": "alice", "password": "a long password", "device_id": "PHONE",
        "initial_device_display_name": "Alice's phone",
        "auth": { "type": "m.login.dummy", "session": asked["session"] },
    });
    let (status, answer) = register(&server, body).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["user_id"], &answer["device_id"]),
        (&json!("@alice:localhost"), &json!("PHONE"))
    );
    assert!(answer.get("refresh_token").is_none());
    let alice = server.client().with_token(answer["access_token"].as_str().unwrap());
    let me = alice.do_get("/_matrix/client/v3/account/whoami").await;
    assert_eq!(me, json!({ "user_id": "@alice:localhost", "device_id": "PHONE" }));
    let device = alice.do_get("/_matrix/client/v3/devices/PHONE").await;
    assert_eq!(device["display_name"], "Alice's phone");
}

#[tokio::test]
async fn one_request_with_everything_is_enough() {
    let server = kit::server().await;
    let body = json!({
        "username": "alice", "password": "p", "refresh_token": true,
        "auth": { "type": "m.login.dummy" },
    });
    let (status, answer) = register(&server, body).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["refresh_token"].is_string() && answer["expires_in_ms"].is_u64(), "{answer}");
    let body = json!({
        "username": "bob", "password": "p", "inhibit_login": true,
        "auth": { "type": "m.login.dummy" },
    });
    let (status, answer) = register(&server, body).await;
    assert_eq!((status, answer), (200, json!({ "user_id": "@bob:localhost" })));
    let body = json!({ "password": "p", "auth": { "type": "m.login.dummy" } });
    let (status, answer) = register(&server, body).await;
    assert_eq!(status, 200, "{answer}");
    assert_ne!(answer["user_id"], "@:localhost");
}

#[tokio::test]
async fn names_are_checked_before_anything_is_asked() {
    let server = kit::server().await;
    server.register("alice").await;
    for (name, errcode) in
        [("alice", "M_USER_IN_USE"), ("ALICE", "M_USER_IN_USE"), ("a lice", "M_INVALID_USERNAME")]
    {
        let (status, answer) = register(&server, json!({ "username": name })).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)), "{name}");
        let path = format!("{REGISTER}/available?username={}", kit::encode(name));
        let (status, answer) = server.client().get(&path).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)), "{name}");
    }
    let free = server.client().do_get(&format!("{REGISTER}/available?username=bob")).await;
    assert_eq!(free, json!({ "available": true }));
    let upper = server.register("Carol").await;
    assert_eq!(upper.user_id, "@carol:localhost");
}

#[tokio::test]
async fn what_cannot_become_an_account_is_refused_at_once() {
    let server = kit::server().await;
    let dummy = || json!({ "type": "m.login.dummy" });
    for (body, errcode) in [
        (json!({ "username": "alice", "auth": dummy() }), "M_MISSING_PARAM"),
        (json!({ "username": "alice", "password": "x".repeat(513) }), "M_INVALID_PARAM"),
        (json!({ "username": "alice", "password": "" }), "M_INVALID_PARAM"),
        (json!({ "username": "alice", "guest_access_token": "t" }), "M_INVALID_PARAM"),
    ] {
        let (status, answer) = register(&server, body.clone()).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)), "{body}");
    }
    // An empty body only asks which stages there are.
    assert_eq!(register(&server, json!({})).await.0, 401);
}

#[tokio::test]
async fn a_closed_server_lets_nobody_in() {
    let server = kit::server_with(|config| config.registration.enabled = false).await;
    for kind in ["user", "guest"] {
        let body = json!({ "username": "alice", "auth": { "type": "m.login.dummy" } });
        let (status, _) = server.client().post(&format!("{REGISTER}?kind={kind}"), body).await;
        assert_eq!(status, 403);
    }
    let (status, answer) = server.client().get("/_synapse/admin/v1/register").await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_UNKNOWN")));
}

#[tokio::test]
async fn a_registration_token_is_required_where_there_are_any() {
    let server = kit::server_with(|config| {
        config.registration.tokens = vec!["sesame".to_owned(), "open".to_owned()];
    })
    .await;
    let (status, asked) = register(&server, json!({ "username": "alice" })).await;
    assert_eq!(status, 401);
    assert_eq!(asked["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
    let try_with = |auth: Value| {
        let server = &server;
        async move {
            register(server, json!({ "username": "alice", "password": "p", "auth": auth })).await
        }
    };
    let session = &asked["session"];
    let dummy = try_with(json!({ "type": "m.login.dummy", "session": session })).await;
    assert_eq!((dummy.0, &dummy.1["errcode"]), (401, &json!("M_FORBIDDEN")));
    let kind = "m.login.registration_token";
    let wrong = try_with(json!({ "type": kind, "token": "no", "session": session })).await;
    assert_eq!((wrong.0, &wrong.1["errcode"]), (401, &json!("M_FORBIDDEN")));
    assert_eq!(&wrong.1["session"], session);
    let right = try_with(json!({ "type": kind, "token": "open", "session": session })).await;
    assert_eq!(right.0, 200, "{}", right.1);
    for (token, valid) in [("open", true), ("no", false)] {
        let path = format!(
            "/_matrix/client/v1/register/m.login.registration_token/validity?token={token}"
        );
        assert_eq!(server.client().do_get(&path).await, json!({ "valid": valid }));
    }
}

#[tokio::test]
async fn guests_come_in_where_they_may_and_can_do_little() {
    let server = kit::server_with(|config| config.registration.guests = true).await;
    let body = json!({ "username": "wanted", "device_id": "WANTED" });
    let guest = server.client().do_post(&format!("{REGISTER}?kind=guest"), body).await;
    assert_ne!(guest["user_id"], "@wanted:localhost");
    assert_ne!(guest["device_id"], "WANTED");
    let guest = server.client().with_token(guest["access_token"].as_str().unwrap());
    let me = guest.do_get("/_matrix/client/v3/account/whoami").await;
    assert_eq!(me["is_guest"], true);
    guest.do_get("/_matrix/client/v3/sync?timeout=0").await;
    let (status, answer) = guest.post("/_matrix/client/v3/createRoom", json!({})).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_GUEST_ACCESS_FORBIDDEN")));
    let user_id = kit::encode(me["user_id"].as_str().unwrap());
    let profile = format!("/_matrix/client/v3/profile/{user_id}");
    guest.do_put(&format!("{profile}/displayname"), json!({ "displayname": "G" })).await;
    let (status, _) = guest.put(&format!("{profile}/m.tz"), json!({ "m.tz": "UTC" })).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn who_knows_the_shared_secret_registers_anybody() {
    let server = kit::server_with(|config| {
        config.registration.enabled = false;
        config.registration.shared_secret = "hush".to_owned();
    })
    .await;
    let path = "/_synapse/admin/v1/register";
    let try_with = |secret: &'static str, admin: bool| {
        let client = server.client();
        async move {
            let nonce = client.do_get(path).await["nonce"].as_str().unwrap().to_owned();
            let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
            let rights = if admin { "admin" } else { "notadmin" };
            mac.update([&*nonce, "root", "pass", rights].join("\0").as_bytes());
            let mac: String =
                mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            json!({
                "nonce": nonce, "username": "root", "password": "pass", "admin": admin, "mac": mac,
                "displayname": "Root",
            })
        }
    };
    let (status, _) = server.client().post(path, try_with("wrong", true).await).await;
    assert_eq!(status, 403);
    let body = try_with("hush", true).await;
    let answer = server.client().do_post(path, body.clone()).await;
    assert_eq!(
        (&answer["user_id"], &answer["home_server"]),
        (&json!("@root:localhost"), &json!("localhost"))
    );
    let root = server.client().with_token(answer["access_token"].as_str().unwrap());
    root.do_get("/_matrix/client/v3/account/whoami").await;
    let profile = root.do_get("/_matrix/client/v3/profile/@root:localhost").await;
    assert_eq!(profile, json!({ "displayname": "Root" }));
    let (status, answer) = server.client().post(path, body).await;
    assert_eq!(status, 400, "a nonce works once: {answer}");
    let (status, answer) = server.client().post(path, try_with("hush", false).await).await;
    assert_eq!((status, &answer["errcode"]), (400, &json!("M_USER_IN_USE")));
}

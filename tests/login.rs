//! Logging in and out, tokens, passwords, the end of an account.

use serde_json::{Value, json};

use crate::kit::{self, PASSWORD, TestServer, encode};

const LOGIN: &str = "/_matrix/client/v3/login";
/// What logs a user in, and what proves a user in one request.
pub(crate) fn with_password(user: &str, password: &str) -> Value {
    json!({
        "type": "m.login.password", "password": password,
        "identifier": { "type": "m.id.user", "user": user },
    })
}

async fn log_in(server: &TestServer, body: Value) -> (u16, Value) {
    server.client().post(LOGIN, body).await
}

#[tokio::test]
async fn flows_are_listed_and_users_are_known_by_any_of_their_names() {
    let server = kit::server().await;
    server.register("alice").await;
    let flows = server.client().do_get(LOGIN).await;
    assert_eq!(
        flows,
        json!({ "flows": [
            { "type": "m.login.password" },
            { "type": "m.login.token", "get_login_token": true },
        ]})
    );
    for name in ["alice", "@alice:localhost", "@ALICE:localhost"] {
        let (status, answer) = log_in(&server, with_password(name, PASSWORD)).await;
        assert_eq!((status, &answer["user_id"]), (200, &json!("@alice:localhost")), "{answer}");
    }
    let old = json!({ "type": "m.login.password", "user": "alice", "password": PASSWORD });
    assert_eq!(log_in(&server, old).await.0, 200);
}

#[tokio::test]
async fn wrong_logins_are_refused_with_the_right_words() {
    let server = kit::server().await;
    server.register("alice").await;
    for (body, status, errcode) in [
        (with_password("alice", "wrong"), 403, "M_FORBIDDEN"),
        (with_password("nobody", PASSWORD), 403, "M_FORBIDDEN"),
        (with_password("@alice:elsewhere", PASSWORD), 403, "M_FORBIDDEN"),
        (json!({ "type": "m.login.token", "token": "no" }), 403, "M_FORBIDDEN"),
        (json!({ "type": "org.example.none" }), 400, "M_UNKNOWN"),
        (json!({ "type": "m.login.password", "password": "x" }), 400, "M_MISSING_PARAM"),
        (json!({}), 400, "M_BAD_JSON"),
    ] {
        let (got, answer) = log_in(&server, body).await;
        assert_eq!((got, &answer["errcode"]), (status, &json!(errcode)), "{answer}");
    }
}

#[tokio::test]
async fn a_login_on_the_same_device_replaces_its_token() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let again = server.log_in("alice", json!({ "device_id": alice.device_id })).await;
    assert_eq!(again.device_id, alice.device_id);
    let (status, answer) = alice.get("/_matrix/client/v3/account/whoami").await;
    assert_eq!((status, &answer["errcode"]), (401, &json!("M_UNKNOWN_TOKEN")));
    assert_eq!(answer["soft_logout"], false);
    let devices = again.do_get("/_matrix/client/v3/devices").await;
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn tokens_go_in_the_header_or_the_query() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v3/account/whoami";
    let (status, answer) = server.client().get(path).await;
    assert_eq!((status, &answer["errcode"]), (401, &json!("M_MISSING_TOKEN")));
    let query = format!("{path}?access_token={}", encode(&alice.token));
    server.client().do_get(&query).await;
}

#[tokio::test]
async fn logging_out_ends_one_device_or_all() {
    let server = kit::server().await;
    let first = server.register("alice").await;
    let second = server.log_in("alice", json!({})).await;
    let third = server.log_in("alice", json!({})).await;
    first.do_post("/_matrix/client/v3/logout", json!({})).await;
    assert_eq!(first.get("/_matrix/client/v3/account/whoami").await.0, 401);
    second.do_get("/_matrix/client/v3/account/whoami").await;
    second.do_post("/_matrix/client/r0/logout/all", json!({})).await;
    for gone in [&second, &third] {
        assert_eq!(gone.get("/_matrix/client/v3/account/whoami").await.0, 401);
    }
}

#[tokio::test]
async fn refresh_tokens_give_new_pairs_also_after_a_restart() {
    let mut server = kit::server().await;
    server.register("alice").await;
    let mut body = with_password("alice", PASSWORD);
    body["refresh_token"] = json!(true);
    let (_, login) = log_in(&server, body).await;
    assert!(login["expires_in_ms"].is_u64(), "{login}");
    server.restart().await;
    let refresh = json!({ "refresh_token": login["refresh_token"] });
    let next = server.client().do_post("/_matrix/client/v3/refresh", refresh.clone()).await;
    let alice = server.client().with_token(next["access_token"].as_str().unwrap());
    alice.do_get("/_matrix/client/v3/account/whoami").await;
    let (status, answer) = server.client().post("/_matrix/client/v3/refresh", refresh).await;
    assert_eq!((status, &answer["errcode"]), (401, &json!("M_UNKNOWN_TOKEN")));
    let old = server.client().with_token(login["access_token"].as_str().unwrap());
    assert_eq!(old.get("/_matrix/client/v3/account/whoami").await.0, 401);
}

#[tokio::test]
async fn a_login_token_logs_another_device_in_once() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let path = "/_matrix/client/v1/login/get_token";
    let (status, asked) = alice.post(path, json!({})).await;
    assert_eq!((status, &asked["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    let mut auth = with_password("alice", PASSWORD);
    auth["session"] = asked["session"].clone();
    let answer = alice.do_post(path, json!({ "auth": auth })).await;
    assert!(answer["expires_in_ms"].is_u64(), "{answer}");
    let body = json!({ "type": "m.login.token", "token": answer["login_token"] });
    let (status, login) = log_in(&server, body.clone()).await;
    assert_eq!((status, &login["user_id"]), (200, &json!("@alice:localhost")));
    assert_eq!(log_in(&server, body).await.0, 403);
}

#[tokio::test]
async fn a_new_password_needs_the_old_one_and_logs_the_others_out() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let other = server.log_in("alice", json!({})).await;
    let path = "/_matrix/client/v3/account/password";
    let (status, refused) = alice.post(path, json!({ "new_password": "x".repeat(513) })).await;
    assert_eq!((status, &refused["errcode"]), (400, &json!("M_INVALID_PARAM")), "{refused}");
    let (status, wrong) = alice
        .post(path, json!({ "new_password": "new", "auth": with_password("alice", "wrong") }))
        .await;
    assert_eq!((status, &wrong["errcode"]), (401, &json!("M_FORBIDDEN")), "{wrong}");
    assert!(wrong["session"].is_string() && wrong["flows"].is_array(), "{wrong}");
    let body = json!({ "new_password": "new", "auth": with_password("alice", PASSWORD) });
    alice.do_post(path, body).await;
    alice.do_get("/_matrix/client/v3/account/whoami").await;
    assert_eq!(other.get("/_matrix/client/v3/account/whoami").await.0, 401);
    assert_eq!(log_in(&server, with_password("alice", PASSWORD)).await.0, 403);
    assert_eq!(log_in(&server, with_password("alice", "new")).await.0, 200);
    // Without a session, and leaving the others alone.
    let body = json!({
        "new_password": "newer", "logout_devices": false, "auth": with_password("alice", "new"),
    });
    server.client().do_post(path, body).await;
    alice.do_get("/_matrix/client/v3/account/whoami").await;
}

#[tokio::test]
async fn a_deactivated_user_is_gone_from_everywhere() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = bob.create_room(json!({ "preset": "public_chat" })).await;
    alice.join(&room).await;
    let path = "/_matrix/client/v3/account/deactivate";
    assert_eq!(alice.post(path, json!({})).await.0, 401);
    let body = json!({ "auth": with_password("alice", PASSWORD), "erase": true });
    let answer = alice.do_post(path, body).await;
    assert_eq!(answer["id_server_unbind_result"], "success");
    assert_eq!(alice.get("/_matrix/client/v3/account/whoami").await.0, 401);
    let (status, refused) = log_in(&server, with_password("alice", PASSWORD)).await;
    assert_eq!((status, &refused["errcode"]), (403, &json!("M_USER_DEACTIVATED")));
    let (_, member) = bob.get_state(&room, "m.room.member", "@alice:localhost").await;
    assert_eq!(member["membership"], "leave", "{member}");
    let (status, taken) =
        server.client().post("/_matrix/client/v3/register", json!({ "username": "alice" })).await;
    assert_eq!((status, &taken["errcode"]), (400, &json!("M_USER_IN_USE")));
}

#[tokio::test]
async fn logins_are_throttled() {
    let server = kit::server_with(|config| config.rate_limits.enabled = true).await;
    let mut refused = None;
    for _ in 0..60 {
        let (status, answer) = log_in(&server, with_password("alice", "wrong")).await;
        if status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("nobody may guess for ever");
    assert_eq!(refused["errcode"], "M_LIMIT_EXCEEDED");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{refused}");
}

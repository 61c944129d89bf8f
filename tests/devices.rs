//! Devices, and what it takes to remove them.

use serde_json::json;

use crate::{
    kit::{self, PASSWORD, encode},
    login::with_password,
};

fn path(device_id: &str) -> String {
    format!("/_matrix/client/v3/devices/{}", encode(device_id))
}

#[tokio::test]
async fn devices_are_listed_and_renamed() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let extra = json!({ "device_id": "A/B", "initial_device_display_name": "second" });
    let second = server.log_in("alice", extra).await;
    let list = alice.do_get("/_matrix/client/v3/devices").await;
    assert_eq!(list["devices"].as_array().unwrap().len(), 2, "{list}");
    let device = alice.do_get(&path(&second.device_id)).await;
    assert_eq!(device["display_name"], "second");
    assert!(device["last_seen_ts"].is_u64(), "{device}");
    alice.do_put(&path(&second.device_id), json!({ "display_name": "new" })).await;
    alice.do_put(&path(&second.device_id), json!({})).await;
    let device = alice.do_get(&path(&second.device_id)).await;
    assert_eq!(device["display_name"], "new");
    let bob = server.register("bob").await;
    for (status, answer) in [
        bob.get(&path(&second.device_id)).await,
        bob.put(&path(&second.device_id), json!({ "display_name": "x" })).await,
        alice.put(&path("NONE"), json!({})).await,
    ] {
        assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    }
}

#[tokio::test]
async fn removing_a_device_needs_its_owners_password() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let second = server.log_in("alice", json!({})).await;
    let path = path(&second.device_id);
    // Without a body, and with a wrong password.
    let (status, asked) = alice.delete(&path).await;
    assert_eq!((status, &asked["flows"]), (401, &json!([{ "stages": ["m.login.password"] }])));
    assert!(asked["session"].is_string() && asked["params"].is_object(), "{asked}");
    let mut auth = with_password("alice", "wrong");
    auth["session"] = asked["session"].clone();
    let (status, wrong) = alice.delete_with(&path, json!({ "auth": auth })).await;
    assert_eq!((status, &wrong["errcode"]), (401, &json!("M_FORBIDDEN")));
    assert_eq!(wrong["session"], asked["session"]);
    // Somebody else's password.
    let (status, _) =
        alice.delete_with(&path, json!({ "auth": with_password("bob", PASSWORD) })).await;
    assert_eq!(status, 403);
    second.do_get("/_matrix/client/v3/account/whoami").await;
    // The right one, in the first request.
    let (status, _) = alice
        .delete_with(&path, json!({ "auth": with_password("@alice:localhost", PASSWORD) }))
        .await;
    assert_eq!(status, 200);
    assert_eq!(second.get("/_matrix/client/v3/account/whoami").await.0, 401);
    assert_eq!(alice.get(&path).await.0, 404);
    bob.do_get("/_matrix/client/v3/account/whoami").await;
}

#[tokio::test]
async fn an_authentication_for_one_device_removes_no_other() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let (first, second) =
        (server.log_in("alice", json!({})).await, server.log_in("alice", json!({})).await);
    let (_, asked) = alice.delete(&path(&first.device_id)).await;
    let auth = json!({ "session": asked["session"] });
    let (status, other) =
        alice.delete_with(&path(&second.device_id), json!({ "auth": auth })).await;
    assert_eq!(status, 401);
    assert_ne!(other["session"], asked["session"]);
}

#[tokio::test]
async fn several_devices_go_at_once() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let (first, second) =
        (server.log_in("alice", json!({})).await, server.log_in("alice", json!({})).await);
    for devices in [json!(vec!["A"; 1_001]), json!(["A".repeat(513)])] {
        let body = json!({ "devices": devices });
        let (status, refused) = alice.post("/_matrix/client/v3/delete_devices", body).await;
        assert_eq!((status, &refused["errcode"]), (400, &json!("M_INVALID_PARAM")));
    }
    let body = json!({
        "devices": [first.device_id, second.device_id, "NONE"],
        "auth": with_password("alice", PASSWORD),
    });
    alice.do_post("/_matrix/client/v3/delete_devices", body).await;
    let list = alice.do_get("/_matrix/client/v3/devices").await;
    assert_eq!(list["devices"].as_array().unwrap().len(), 1);
}

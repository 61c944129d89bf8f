//! Profiles, and what rooms see of them.

use serde_json::{Value, json};

use crate::kit::{self, User, encode};

fn path(user: &User, field: &str) -> String {
    format!("/_matrix/client/v3/profile/{}{field}", encode(&user.user_id))
}

#[tokio::test]
async fn everybody_sees_a_profile_and_its_owner_changes_it() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    assert_eq!(server.client().do_get(&path(&alice, "")).await, json!({}));
    alice.do_put(&path(&alice, "/displayname"), json!({ "displayname": "Alice" })).await;
    alice.do_put(&path(&alice, "/avatar_url"), json!({ "avatar_url": "mxc://a/b" })).await;
    alice.do_put(&path(&alice, "/m.tz"), json!({ "m.tz": "Europe/Berlin" })).await;
    let custom = json!({ "org.example.x": { "deep": [1, null] } });
    alice.do_put(&path(&alice, "/org.example.x"), custom.clone()).await;
    let whole = server.client().do_get(&path(&alice, "")).await;
    assert_eq!(
        whole,
        json!({
            "displayname": "Alice", "avatar_url": "mxc://a/b", "m.tz": "Europe/Berlin",
            "org.example.x": { "deep": [1, null] },
        })
    );
    assert_eq!(bob.do_get(&path(&alice, "/org.example.x")).await, custom);
    let (status, answer) =
        bob.put(&path(&alice, "/displayname"), json!({ "displayname": "Eve" })).await;
    assert_eq!((status, &answer["errcode"]), (403, &json!("M_FORBIDDEN")));
    assert_eq!(bob.delete(&path(&alice, "/m.tz")).await.0, 403);
    alice.do_delete(&path(&alice, "/m.tz")).await;
    alice.do_delete(&path(&alice, "/m.tz")).await;
    alice.do_put(&path(&alice, "/avatar_url"), json!({ "avatar_url": "" })).await;
    let whole = server.client().do_get(&path(&alice, "")).await;
    assert_eq!(whole, json!({ "displayname": "Alice", "org.example.x": { "deep": [1, null] } }));
}

#[tokio::test]
async fn wrong_fields_are_refused_with_the_right_words() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let long = format!("/a{}", "b".repeat(255));
    for (field, body, errcode) in [
        ("/displayname", json!({}), "M_MISSING_PARAM"),
        ("/displayname", json!({ "displayname": 1 }), "M_BAD_JSON"),
        ("/displayname", json!("Alice"), "M_BAD_JSON"),
        ("/Upper", json!({ "Upper": 1 }), "M_INVALID_PARAM"),
        (&*long, json!({ long[1..].to_owned(): 1 }), "M_KEY_TOO_LARGE"),
        ("/org.example.x", json!({ "org.example.x": "x".repeat(65536) }), "M_PROFILE_TOO_LARGE"),
    ] {
        let (status, answer) = alice.put(&path(&alice, field), body).await;
        assert_eq!((status, &answer["errcode"]), (400, &json!(errcode)), "{field}");
    }
    let (status, answer) = alice.get(&path(&alice, "/m.tz")).await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
    let (status, answer) = alice.get("/_matrix/client/v3/profile/@nobody:localhost").await;
    assert_eq!((status, &answer["errcode"]), (404, &json!("M_NOT_FOUND")));
}

#[tokio::test]
async fn a_new_name_is_seen_in_rooms_joined_before_and_after() {
    let server = kit::server().await;
    let (alice, bob) = (server.register("alice").await, server.register("bob").await);
    let room = bob.create_room(json!({ "preset": "public_chat" })).await;
    alice.join(&room).await;
    let mut since = bob.sync_token().await;
    alice.do_put(&path(&alice, "/displayname"), json!({ "displayname": "Alice" })).await;
    let (_, member) = bob.get_state(&room, "m.room.member", &alice.user_id).await;
    assert_eq!(member["displayname"], "Alice", "{member}");
    let told = |answer: &Value| answer["rooms"]["join"][&room].to_string().contains("\"Alice\"");
    bob.sync_until(&mut since, told).await;
    let later = bob.create_room(json!({ "preset": "public_chat" })).await;
    alice.join(&later).await;
    let (_, member) = bob.get_state(&later, "m.room.member", &alice.user_id).await;
    assert_eq!(member["displayname"], "Alice", "{member}");
}

//! Replacing a room by one of another version.

use serde_json::{Value, json};

use crate::kit::{encode, refused, server};

fn path(room: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/upgrade", encode(room))
}

#[tokio::test]
async fn a_room_is_replaced_with_its_state_and_aliases_and_closed() {
    let server = server().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    for (from, to) in [("10", "11"), ("11", "12"), ("12", "10")] {
        let alias = format!("pond{from}");
        let old = alice
            .create_room(json!({
                "room_version": from, "preset": "public_chat", "name": "pond",
                "room_alias_name": alias, "visibility": "public",
                "creation_content": { "type": "org.example.pond" },
            }))
            .await;
        bob.join(&old).await;
        refused(bob.post(&path(&old), json!({ "new_version": to })).await, 403, "M_FORBIDDEN");
        let answer = alice.do_post(&path(&old), json!({ "new_version": to })).await;
        let new = answer["replacement_room"].as_str().unwrap();
        let tombstone = alice.get_state(&old, "m.room.tombstone", "").await.1;
        assert_eq!(tombstone["replacement_room"], new);
        let create = alice.get_state(new, "m.room.create", "").await.1;
        assert_eq!(create["predecessor"]["room_id"], old.as_str());
        assert_eq!(create["type"], "org.example.pond");
        assert_eq!(create["room_version"], to);
        assert_eq!(alice.get_state(new, "m.room.name", "").await.1, json!({ "name": "pond" }));
        let rule = alice.get_state(new, "m.room.join_rules", "").await.1;
        assert_eq!(rule["join_rule"], "public");
        let alias = format!("#{alias}:localhost");
        let found = format!("/_matrix/client/v3/directory/room/{}", encode(&alias));
        assert_eq!(bob.do_get(&found).await["room_id"], new);
        let canonical = alice.get_state(new, "m.room.canonical_alias", "").await.1;
        assert_eq!(canonical["alias"], alias.as_str());
        let levels = alice.get_state(new, "m.room.power_levels", "").await.1;
        let alone = levels["users"].get(alice.user_id.as_str());
        assert_eq!(alone.is_some(), to != "12", "creators of version 12 stand above the levels");
        let message = json!({ "msgtype": "m.text", "body": "still here?" });
        refused(bob.send(&old, "m.room.message", from, message).await, 403, "M_FORBIDDEN");
        let listed: Value = bob.do_get("/_matrix/client/v3/publicRooms").await;
        let ids: Vec<&Value> =
            listed["chunk"].as_array().unwrap().iter().map(|room| &room["room_id"]).collect();
        assert!(ids.contains(&&json!(new)) && !ids.contains(&&json!(old)), "{ids:?}");
        bob.join(new).await;
    }
}

#[tokio::test]
async fn a_room_cannot_be_replaced_by_what_there_is_not() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let wish = json!({ "new_version": "org.example.none" });
    refused(alice.post(&path(&room), wish).await, 400, "M_UNSUPPORTED_ROOM_VERSION");
    let wish = json!({ "new_version": "11" });
    refused(alice.post(&path("!none:localhost"), wish).await, 404, "M_NOT_FOUND");
}

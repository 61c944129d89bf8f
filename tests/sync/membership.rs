//! Invites, knocks and leaves.

use serde_json::{Value, json};

use super::{filter, find, joined, keys, list, more, next, public, texts};
use crate::kit::{User, server};

async fn set_visibility(user: &User, room: &str, visibility: &str) {
    let content = json!({ "history_visibility": visibility });
    let (status, answer) = user.put_state(room, "m.room.history_visibility", "", content).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn an_invite_comes_with_stripped_state_and_once() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let mut since = bob.sync_token().await;
    let room = alice.create_room(json!({ "name": "Secret" })).await;
    alice.invite(&room, &bob).await;
    let sync = more(&bob, &mut since).await;
    let state = list(&sync["rooms"]["invite"][&room]["invite_state"]);
    assert_eq!(find(state, "m.room.name", "").unwrap()["content"]["name"], "Secret");
    assert!(find(state, "m.room.create", "").unwrap()["origin_server_ts"].is_u64());
    let invite = find(state, "m.room.member", &bob.user_id).unwrap();
    assert_eq!(invite["content"]["membership"], "invite");
    assert_eq!(invite["sender"], json!(alice.user_id));
    assert!(find(state, "m.room.member", &alice.user_id).is_some());
    let sync = more(&bob, &mut since).await;
    assert_eq!(sync["rooms"], Value::Null);
    // A first sync has it too, until it is answered.
    let sync = bob.sync(None, "timeout=0").await;
    assert!(sync["rooms"]["invite"][&room].is_object());
    assert_eq!(sync["rooms"]["join"], Value::Null);
    bob.join(&room).await;
    let sync = more(&bob, &mut since).await;
    assert!(joined(&sync, &room).is_object());
    assert_eq!(sync["rooms"]["invite"], Value::Null);
}

#[tokio::test]
async fn a_rejected_invite_is_a_leave() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = alice.create_room(json!({})).await;
    alice.invite(&room, &bob).await;
    let mut since = bob.sync_token().await;
    bob.leave(&room).await;
    let sync = more(&bob, &mut since).await;
    let left = &sync["rooms"]["leave"][&room];
    let events = list(&left["timeline"]);
    assert_eq!(keys(events), [format!("m.room.member {}", bob.user_id)], "{left}");
    assert_eq!(events[0]["content"]["membership"], "leave");
    let sync = more(&bob, &mut since).await;
    assert_eq!(sync["rooms"], Value::Null);
}

#[tokio::test]
async fn a_rescinded_invite_is_a_leave() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = alice.create_room(json!({})).await;
    alice.invite(&room, &bob).await;
    let mut since = bob.sync_token().await;
    let (status, _) = alice.room_post(&room, "kick", json!({ "user_id": bob.user_id })).await;
    assert_eq!(status, 200);
    let sync = more(&bob, &mut since).await;
    let events = list(&sync["rooms"]["leave"][&room]["timeline"]);
    assert_eq!(events[0]["sender"], json!(alice.user_id));
}

#[tokio::test]
async fn an_invite_that_came_and_went_between_two_syncs_is_a_leave() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let mut since = bob.sync_token().await;
    let room = alice.create_room(json!({})).await;
    alice.invite(&room, &bob).await;
    bob.leave(&room).await;
    let sync = more(&bob, &mut since).await;
    assert_eq!(sync["rooms"]["invite"], Value::Null);
    assert!(sync["rooms"]["leave"][&room].is_object());
}

#[tokio::test]
async fn a_knock_comes_with_stripped_state() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let rule = json!({ "type": "m.room.join_rules", "content": { "join_rule": "knock" } });
    let room = alice.create_room(json!({ "name": "Club", "initial_state": [rule] })).await;
    let mut since = bob.sync_token().await;
    let path = format!("/_matrix/client/v3/knock/{}", crate::kit::encode(&room));
    bob.do_post(&path, json!({})).await;
    let sync = more(&bob, &mut since).await;
    let state = list(&sync["rooms"]["knock"][&room]["knock_state"]);
    assert_eq!(find(state, "m.room.name", "").unwrap()["content"]["name"], "Club");
    let knock = find(state, "m.room.member", &bob.user_id).unwrap();
    assert_eq!(knock["content"]["membership"], "knock");
    alice.invite(&room, &bob).await;
    let sync = more(&bob, &mut since).await;
    assert!(sync["rooms"]["invite"][&room].is_object());
    assert_eq!(sync["rooms"]["knock"], Value::Null);
}

#[tokio::test]
async fn a_leave_comes_once_with_the_timeline_up_to_it() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let mut since = bob.sync_token().await;
    alice.say(&room, "before").await;
    bob.leave(&room).await;
    alice.say(&room, "after").await;
    super::topic(&alice, &room, "after").await;
    let sync = more(&bob, &mut since).await;
    assert_eq!(sync["rooms"]["join"], Value::Null);
    let left = &sync["rooms"]["leave"][&room];
    let events = list(&left["timeline"]);
    assert_eq!(texts(events), ["before"]);
    assert_eq!(events.last().unwrap()["content"]["membership"], "leave");
    assert_eq!(list(&left["state"]), [] as [Value; 0]);
    let sync = more(&bob, &mut since).await;
    assert_eq!(sync["rooms"], Value::Null);
}

#[tokio::test]
async fn a_leave_is_told_whatever_the_visibility_and_even_when_forgotten() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    for visibility in ["world_readable", "shared", "invited", "joined"] {
        let room = public(&alice).await;
        set_visibility(&alice, &room, visibility).await;
        bob.join(&room).await;
        let mut since = bob.sync_token().await;
        let path = format!("{room}/{visibility}");
        let kicked = json!({ "user_id": bob.user_id, "reason": path });
        let (status, _) = alice.room_post(&room, "kick", kicked).await;
        assert_eq!(status, 200);
        let (status, _) = bob.room_post(&room, "forget", json!({})).await;
        assert_eq!(status, 200);
        let sync = more(&bob, &mut since).await;
        let events = list(&sync["rooms"]["leave"][&room]["timeline"]);
        let leave = find(events, "m.room.member", &bob.user_id);
        assert_eq!(leave.unwrap()["content"]["reason"], json!(path), "{sync}");
        // A first sync no longer tells of it.
        let all = filter(&json!({ "room": { "include_leave": true } }));
        let sync = bob.sync(None, &all).await;
        assert_eq!(sync["rooms"]["leave"][&room], Value::Null);
    }
}

#[tokio::test]
async fn a_ban_is_a_leave() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let mut since = bob.sync_token().await;
    let (status, _) = alice.room_post(&room, "ban", json!({ "user_id": bob.user_id })).await;
    assert_eq!(status, 200);
    let sync = more(&bob, &mut since).await;
    let events = list(&sync["rooms"]["leave"][&room]["timeline"]);
    assert_eq!(events.last().unwrap()["content"]["membership"], "ban");
}

#[tokio::test]
async fn a_ban_after_the_leave_tells_nothing_of_what_happened_between() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    super::topic(&alice, &room, "then").await;
    bob.join(&room).await;
    let joined_since = bob.sync_token().await;
    bob.leave(&room).await;
    let left_since = bob.sync_token().await;
    super::topic(&alice, &room, "between").await;
    alice.say(&room, "between").await;
    let (status, _) = alice.room_post(&room, "ban", json!({ "user_id": bob.user_id })).await;
    assert_eq!(status, 200);
    let all = filter(&json!({ "room": { "include_leave": true } }));
    for (since, memberships) in [
        (Some(&*left_since), &["ban"][..]),
        (Some(&*joined_since), &["leave", "ban"]),
        (None, &["join", "leave", "ban"]),
    ] {
        for extra in ["", "&use_state_after=true"] {
            let sync = bob.sync(since, &format!("{all}{extra}")).await;
            let left = &sync["rooms"]["leave"][&room];
            assert!(!left.to_string().contains("between"), "{left}");
            let events = list(&left["timeline"]);
            let told = events.iter().filter(|event| event["state_key"] == json!(bob.user_id));
            let told: Vec<_> = told.map(|event| &event["content"]["membership"]).collect();
            assert_eq!(told, memberships, "{left}");
        }
    }
}

#[tokio::test]
async fn rooms_left_long_ago_come_in_a_first_sync_that_asks_for_them() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    super::topic(&alice, &room, "then").await;
    bob.join(&room).await;
    bob.leave(&room).await;
    super::topic(&alice, &room, "now").await;
    let sync = bob.sync(None, "timeout=0").await;
    assert_eq!(sync["rooms"]["leave"], Value::Null);
    let wish = json!({ "room": { "include_leave": true, "timeline": { "limit": 1 } } });
    let sync = bob.sync(None, &filter(&wish)).await;
    let left = &sync["rooms"]["leave"][&room];
    let events = list(&left["timeline"]);
    assert_eq!(events[0]["content"]["membership"], "leave");
    let state = list(&left["state"]);
    assert_eq!(find(state, "m.room.topic", "").unwrap()["content"]["topic"], "then");
    let since = next(&sync);
    let sync = bob.sync(Some(&since), &filter(&wish)).await;
    assert_eq!(sync["rooms"], Value::Null);
}

#[tokio::test]
async fn what_was_said_before_one_was_there_is_hidden() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    set_visibility(&alice, &room, "joined").await;
    alice.say(&room, "hidden").await;
    let mut since = bob.sync_token().await;
    bob.join(&room).await;
    alice.say(&room, "shown").await;
    let sync = more(&bob, &mut since).await;
    let part = &joined(&sync, &room)["timeline"];
    assert_eq!(texts(list(part)), ["shown"]);
    assert_eq!(part["limited"], true);
}

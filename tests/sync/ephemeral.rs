//! Typing, receipts and presence.

use serde_json::{Value, json};

use super::{filter, joined, list, more, next, public};
use crate::kit::{User, encode, server};

fn ephemeral<'a>(sync: &'a Value, room: &str, kind: &str) -> Vec<&'a Value> {
    let events = list(&joined(sync, room)["ephemeral"]);
    events.iter().filter(|event| event["type"] == kind).map(|event| &event["content"]).collect()
}

fn presence<'a>(sync: &'a Value, user: &User) -> Option<&'a Value> {
    let events = list(&sync["presence"]);
    events
        .iter()
        .find(|event| event["sender"] == json!(user.user_id))
        .map(|event| &event["content"])
}

async fn set_typing(user: &User, room: &str, typing: bool) {
    let (room, user_id) = (encode(room), encode(&user.user_id));
    let path = format!("/_matrix/client/v3/rooms/{room}/typing/{user_id}");
    user.do_put(&path, json!({ "typing": typing, "timeout": 30_000 })).await;
}

async fn read(user: &User, room: &str, kind: &str, event_id: &str) {
    let (room, event_id) = (encode(room), encode(event_id));
    let path = format!("/_matrix/client/v3/rooms/{room}/receipt/{kind}/{event_id}");
    user.do_post(&path, json!({})).await;
}

async fn set_presence(user: &User, state: &str, status: &str) {
    let path = format!("/_matrix/client/v3/presence/{}/status", encode(&user.user_id));
    user.do_put(&path, json!({ "presence": state, "status_msg": status })).await;
}

#[tokio::test]
async fn typing_comes_and_goes_and_is_told_once() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let mut since = bob.sync_token().await;
    set_typing(&alice, &room, true).await;
    let sync = more(&bob, &mut since).await;
    let typing = json!({ "user_ids": [alice.user_id] });
    assert_eq!(ephemeral(&sync, &room, "m.typing"), [&typing]);
    assert_eq!(joined(&sync, &room)["timeline"], Value::Null);
    alice.say(&room, "unrelated").await;
    let sync = more(&bob, &mut since).await;
    assert_eq!(ephemeral(&sync, &room, "m.typing"), [] as [&Value; 0]);
    // One who begins now sees it too.
    let sync = bob.sync(None, "timeout=0").await;
    assert_eq!(ephemeral(&sync, &room, "m.typing"), [&typing]);
    set_typing(&alice, &room, false).await;
    let sync = more(&bob, &mut since).await;
    assert_eq!(ephemeral(&sync, &room, "m.typing"), [&json!({ "user_ids": [] })]);
    let none = filter(&json!({ "room": { "ephemeral": { "not_types": ["m.typing"] } } }));
    set_typing(&alice, &room, true).await;
    let sync = bob.sync(Some(&since), &none).await;
    assert_eq!(sync["rooms"], Value::Null);
}

#[tokio::test]
async fn private_receipts_are_for_their_owner_alone() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let [one, two] = [alice.say(&room, "1").await, alice.say(&room, "2").await];
    let mut alices = alice.sync_token().await;
    let mut bobs = bob.sync_token().await;
    read(&bob, &room, "m.read", &one).await;
    read(&bob, &room, "m.read.private", &two).await;
    let seen = more(&alice, &mut alices).await;
    let receipts = ephemeral(&seen, &room, "m.receipt");
    assert!(receipts[0][&one]["m.read"][&bob.user_id]["ts"].is_u64(), "{seen}");
    assert_eq!(receipts[0].as_object().unwrap().len(), 1);
    let seen = more(&bob, &mut bobs).await;
    let receipts = ephemeral(&seen, &room, "m.receipt");
    assert!(receipts[0][&two]["m.read.private"][&bob.user_id].is_object(), "{seen}");
    for (user, since) in [(&alice, &mut alices), (&bob, &mut bobs)] {
        assert_eq!(more(user, since).await["rooms"], Value::Null);
    }
}

#[tokio::test]
async fn presence_is_told_to_those_who_share_a_room() {
    let server = server().await;
    let [alice, bob, carol] = [
        server.register("alice").await,
        server.register("bob").await,
        server.register("carol").await,
    ];
    let room = public(&alice).await;
    bob.join(&room).await;
    let mut bobs = bob.sync_token().await;
    let mut carols = carol.sync_token().await;
    set_presence(&alice, "unavailable", "out to lunch").await;
    let sync = more(&bob, &mut bobs).await;
    let content = presence(&sync, &alice).unwrap();
    assert_eq!(content["presence"], "unavailable");
    assert_eq!(content["status_msg"], "out to lunch");
    assert!(content["last_active_ago"].is_u64(), "{content}");
    let sync = more(&carol, &mut carols).await;
    assert_eq!(presence(&sync, &alice), None);
    let sync = more(&bob, &mut bobs).await;
    assert_eq!(sync["presence"], Value::Null);
    // In a first sync, and not where the filter does not want it.
    let sync = bob.sync(None, "timeout=0").await;
    assert!(presence(&sync, &alice).is_some());
    let sync = bob.sync(None, &filter(&json!({ "presence": { "types": [] } }))).await;
    assert_eq!(sync["presence"], Value::Null);
    let query = filter(&json!({ "presence": { "senders": [bob.user_id] } }));
    let sync = bob.sync(None, &query).await;
    assert_eq!(presence(&sync, &alice), None);
    assert!(presence(&sync, &bob).is_some());
}

#[tokio::test]
async fn newcomers_and_those_one_comes_to_are_told_of() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    let mut alices = alice.sync_token().await;
    let mut bobs = bob.sync_token().await;
    bob.join(&room).await;
    let sync = more(&alice, &mut alices).await;
    assert_eq!(presence(&sync, &bob).unwrap()["presence"], "online");
    let sync = more(&bob, &mut bobs).await;
    assert_eq!(presence(&sync, &alice).unwrap()["presence"], "online");
}

#[tokio::test]
async fn syncing_as_offline_leaves_one_unseen() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let path = format!("/_matrix/client/v3/presence/{}/status", encode(&bob.user_id));
    let query = "timeout=0&set_presence=";
    bob.sync(None, &format!("{query}offline")).await;
    let before = alice.do_get(&path).await;
    bob.sync(None, &format!("{query}unavailable")).await;
    let idle = alice.do_get(&path).await;
    bob.sync(None, &format!("{query}online")).await;
    let there = alice.do_get(&path).await;
    let states = [&before["presence"], &idle["presence"], &there["presence"]];
    assert_eq!(states, [&json!("offline"), &json!("unavailable"), &json!("online")]);
}

#[tokio::test]
async fn a_status_message_outlives_a_restart() {
    let mut server = server().await;
    let alice = server.register("alice").await;
    set_presence(&alice, "online", "here to stay").await;
    server.restart().await;
    let path = format!("/_matrix/client/v3/presence/{}/status", encode(&alice.user_id));
    assert_eq!(alice.do_get(&path).await["status_msg"], "here to stay");
}

#[tokio::test]
async fn who_types_is_told_anew_after_a_restart() {
    let mut server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    set_typing(&alice, &room, true).await;
    let sync = bob.sync(None, "timeout=0").await;
    assert_eq!(ephemeral(&sync, &room, "m.typing").len(), 1);
    server.restart().await;
    let mut since = next(&sync);
    let sync = more(&bob, &mut since).await;
    assert_eq!(ephemeral(&sync, &room, "m.typing"), [&json!({ "user_ids": [] })]);
    let sync = more(&bob, &mut since).await;
    assert_eq!(sync["rooms"], Value::Null);
}

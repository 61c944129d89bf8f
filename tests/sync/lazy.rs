//! Member events that are sent only of those who appear.

use serde_json::{Value, json};

use super::{filter, find, joined, list, next, public, timeline};
use crate::kit::{TestServer, User, server};

/// A room of three, all of whom said something: Carol last.
async fn scene(server: &TestServer) -> (User, User, User, String) {
    let [alice, bob, carol] = [
        server.register("alice").await,
        server.register("bob").await,
        server.register("carol").await,
    ];
    let room = public(&alice).await;
    for (user, text) in [(&bob, "b"), (&carol, "c")] {
        user.join(&room).await;
        user.say(&room, text).await;
    }
    carol.say(&room, "again").await;
    (alice, bob, carol, room)
}

fn lazy(extra: &Value) -> String {
    let mut state = json!({ "lazy_load_members": true });
    state.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    // Named, so that the room has no heroes.
    filter(&json!({ "room": { "state": state, "timeline": { "limit": 1 } } }))
}

fn members(sync: &Value, room: &str) -> Vec<String> {
    let state = list(&joined(sync, room)["state"]);
    let mut members: Vec<_> = (state.iter())
        .filter(|event| event["type"] == "m.room.member")
        .map(|event| event["state_key"].as_str().unwrap().to_owned())
        .collect();
    members.sort_unstable();
    members
}

async fn name(user: &User, room: &str) {
    let (status, _) = user.put_state(room, "m.room.name", "", json!({ "name": "Named" })).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn only_senders_and_oneself_come_at_first() {
    let server = server().await;
    let (alice, _, carol, room) = scene(&server).await;
    name(&alice, &room).await;
    carol.say(&room, "named").await;
    let sync = alice.sync(None, &lazy(&json!({}))).await;
    assert_eq!(members(&sync, &room), [alice.user_id.clone(), carol.user_id.clone()]);
    assert!(find(list(&joined(&sync, &room)["state"]), "m.room.create", "").is_some());
}

#[tokio::test]
async fn heroes_come_too() {
    let server = server().await;
    let (alice, bob, carol, room) = scene(&server).await;
    let sync = alice.sync(None, &lazy(&json!({}))).await;
    let heroes = &joined(&sync, &room)["summary"]["m.heroes"];
    assert_eq!(heroes, &json!([bob.user_id, carol.user_id]));
    let all = [alice.user_id.clone(), bob.user_id.clone(), carol.user_id.clone()];
    assert_eq!(members(&sync, &room), all);
}

#[tokio::test]
async fn a_member_comes_once_unless_asked_otherwise() {
    let server = server().await;
    let (alice, bob, carol, room) = scene(&server).await;
    name(&alice, &room).await;
    carol.say(&room, "named").await;
    let redundant = lazy(&json!({ "include_redundant_members": true }));
    let once = lazy(&json!({}));
    let mut since = next(&alice.sync(None, &once).await);
    let mut said = async |user: &User, query: &str| {
        user.say(&room, "more").await;
        let sync = alice.sync(Some(&since), query).await;
        since = next(&sync);
        members(&sync, &room)
    };
    assert_eq!(said(&carol, &once).await, [] as [String; 0]);
    assert_eq!(said(&bob, &once).await, [bob.user_id.as_str()]);
    assert_eq!(said(&bob, &once).await, [] as [String; 0]);
    assert_eq!(said(&bob, &redundant).await, [bob.user_id.as_str()]);
    assert_eq!(said(&carol, &redundant).await, [carol.user_id.as_str()]);
}

#[tokio::test]
async fn devices_are_told_apart_and_a_first_sync_begins_anew() {
    let server = server().await;
    let (alice, _, carol, room) = scene(&server).await;
    name(&alice, &room).await;
    carol.say(&room, "named").await;
    let other = server.log_in("alice", json!({})).await;
    let query = lazy(&json!({}));
    for user in [&alice, &other, &alice] {
        let sync = user.sync(None, &query).await;
        assert!(members(&sync, &room).contains(&carol.user_id));
    }
}

#[tokio::test]
async fn an_answer_that_was_lost_is_given_again() {
    let server = server().await;
    let (alice, bob, carol, room) = scene(&server).await;
    name(&alice, &room).await;
    carol.say(&room, "named").await;
    let query = lazy(&json!({}));
    let since = next(&alice.sync(None, &query).await);
    bob.say(&room, "more").await;
    for _ in 0..2 {
        let sync = alice.sync(Some(&since), &query).await;
        assert_eq!(members(&sync, &room), [bob.user_id.as_str()]);
    }
}

#[tokio::test]
async fn member_changes_in_a_gap_all_come() {
    let server = server().await;
    let (alice, bob, carol, room) = scene(&server).await;
    name(&alice, &room).await;
    carol.say(&room, "named").await;
    let query = lazy(&json!({}));
    let since = next(&alice.sync(None, &query).await);
    bob.leave(&room).await;
    let dave = server.register("dave").await;
    dave.join(&room).await;
    carol.say(&room, "one").await;
    carol.say(&room, "two").await;
    let sync = alice.sync(Some(&since), &query).await;
    assert_eq!(joined(&sync, &room)["timeline"]["limited"], true);
    assert_eq!(timeline(&sync, &room).len(), 1);
    assert_eq!(members(&sync, &room), [bob.user_id.clone(), dave.user_id.clone()]);
}

#[tokio::test]
async fn a_member_who_changed_comes_again() {
    let server = server().await;
    let (alice, bob, carol, room) = scene(&server).await;
    name(&alice, &room).await;
    bob.say(&room, "named").await;
    let query = lazy(&json!({}));
    let since = next(&alice.sync(None, &query).await);
    let content = json!({ "membership": "join", "displayname": "Bobby" });
    let (status, _) = bob.put_state(&room, "m.room.member", &bob.user_id, content).await;
    assert_eq!(status, 200);
    let sync = alice.sync(Some(&since), &query).await;
    let since = next(&sync);
    let changed = find(timeline(&sync, &room), "m.room.member", &bob.user_id).unwrap();
    assert_eq!(changed["content"]["displayname"], "Bobby");
    // What came in the timeline is known too.
    bob.say(&room, "it is me").await;
    carol.say(&room, "and me").await;
    bob.say(&room, "and me").await;
    let wide = json!({ "room": { "state": { "lazy_load_members": true } } });
    let sync = alice.sync(Some(&since), &filter(&wide)).await;
    assert_eq!(members(&sync, &room), [carol.user_id.as_str()]);
}

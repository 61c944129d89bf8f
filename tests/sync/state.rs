//! State: right across gaps, at both ends of the timeline, and whole on demand.

use serde_json::{Value, json};

use super::{filter, find, joined, keys, list, more, public, timeline, topic};
use crate::kit::server;

#[tokio::test]
async fn the_state_leads_to_the_start_of_the_timeline() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({ "name": "Home" })).await;
    topic(&alice, &room, "old").await;
    alice.say(&room, "x").await;
    topic(&alice, &room, "new").await;
    let query = filter(&json!({ "room": { "timeline": { "limit": 1 } } }));
    let sync = alice.sync(None, &query).await;
    let state = list(&joined(&sync, &room)["state"]);
    assert_eq!(find(state, "m.room.topic", "").unwrap()["content"]["topic"], "old");
    assert_eq!(find(state, "m.room.name", "").unwrap()["content"]["name"], "Home");
    assert!(find(state, "m.room.create", "").is_some());
    assert!(find(state, "m.room.member", &alice.user_id).is_some());
    assert_eq!(timeline(&sync, &room)[0]["content"]["topic"], "new");
    // With everything in the timeline there is no state before it.
    let query = filter(&json!({ "room": { "timeline": { "limit": 100 } } }));
    let sync = alice.sync(None, &query).await;
    assert_eq!(list(&joined(&sync, &room)["state"]), [] as [Value; 0]);
}

#[tokio::test]
async fn what_changed_in_a_gap_is_in_the_state() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    topic(&alice, &room, "one").await;
    let since = alice.sync_token().await;
    topic(&alice, &room, "two").await;
    bob.join(&room).await;
    for number in 0..5 {
        alice.say(&room, &number.to_string()).await;
    }
    topic(&alice, &room, "three").await;
    let query = filter(&json!({ "room": { "timeline": { "limit": 2 } } }));
    let sync = alice.sync(Some(&since), &query).await;
    let state = list(&joined(&sync, &room)["state"]);
    let bobs = format!("m.room.member {}", bob.user_id);
    assert_eq!(keys(state), [bobs, "m.room.topic ".to_owned()]);
    assert_eq!(find(state, "m.room.topic", "").unwrap()["content"]["topic"], "two");
    let events = timeline(&sync, &room);
    assert_eq!(find(events, "m.room.topic", "").unwrap()["content"]["topic"], "three");
    // Without a gap the timeline says it all.
    let query = filter(&json!({ "room": { "timeline": { "limit": 50 } } }));
    let sync = alice.sync(Some(&since), &query).await;
    assert_eq!(list(&joined(&sync, &room)["state"]), [] as [Value; 0]);
}

#[tokio::test]
async fn state_after_leads_to_the_end_of_the_timeline() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    topic(&alice, &room, "one").await;
    let after = "use_state_after=true";
    let sync = alice.sync(None, &format!("timeout=0&{after}")).await;
    let room_sync = joined(&sync, &room);
    assert_eq!(room_sync["state"], Value::Null);
    let state = list(&room_sync["state_after"]);
    assert_eq!(find(state, "m.room.topic", "").unwrap()["content"]["topic"], "one");
    assert!(find(state, "m.room.create", "").is_some());
    let since = super::next(&sync);
    topic(&alice, &room, "two").await;
    alice.say(&room, "x").await;
    let sync = alice.sync(Some(&since), &format!("timeout=0&{after}")).await;
    let state = list(&joined(&sync, &room)["state_after"]);
    assert_eq!(keys(state), ["m.room.topic "]);
    assert_eq!(state[0]["content"]["topic"], "two");
    let since = super::next(&sync);
    alice.say(&room, "y").await;
    let sync = alice.sync(Some(&since), &format!("timeout=0&{after}")).await;
    let room_sync = joined(&sync, &room);
    assert!(room_sync["state_after"].is_object(), "{room_sync}");
    assert_eq!(list(&room_sync["state_after"]), [] as [Value; 0]);
}

#[tokio::test]
async fn what_the_timeline_filter_hides_is_told_by_the_state() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    let since = alice.sync_token().await;
    alice.say(&room, "first").await;
    topic(&alice, &room, "hidden").await;
    alice.say(&room, "last").await;
    let messages = json!({ "room": { "timeline": { "types": ["m.room.message"] } } });
    for since in [Some(&*since), None] {
        let sync = alice.sync(since, &filter(&messages)).await;
        assert!(timeline(&sync, &room).iter().all(|event| event["type"] == "m.room.message"));
        let state = list(&joined(&sync, &room)["state"]);
        assert_eq!(find(state, "m.room.topic", "").unwrap()["content"]["topic"], "hidden");
        assert_eq!(keys(state).iter().filter(|key| *key == "m.room.topic ").count(), 1);
    }
}

#[tokio::test]
async fn full_state_tells_the_whole_state_at_once() {
    let server = server().await;
    let alice = server.register("alice").await;
    let room = public(&alice).await;
    let quiet = public(&alice).await;
    let mut since = alice.sync_token().await;
    alice.say(&room, "new").await;
    let sync = alice.sync(Some(&since), "timeout=60000&full_state=true").await;
    for room in [&room, &quiet] {
        let state = list(&joined(&sync, room)["state"]);
        for kind in ["m.room.create", "m.room.power_levels", "m.room.join_rules"] {
            assert!(find(state, kind, "").is_some(), "{kind} is missing");
        }
        assert!(find(state, "m.room.member", &alice.user_id).is_some());
    }
    assert_eq!(super::texts(timeline(&sync, &room)), ["new"]);
    assert_eq!(timeline(&sync, &quiet).len(), 0);
    let sync = more(&alice, &mut since).await;
    assert_eq!(joined(&sync, &quiet), &Value::Null);
}

#[tokio::test]
async fn a_newly_joined_room_comes_whole() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    topic(&alice, &room, "about").await;
    for number in 0..5 {
        alice.say(&room, &number.to_string()).await;
    }
    let since = bob.sync_token().await;
    bob.join(&room).await;
    alice.say(&room, "welcome").await;
    let query = filter(&json!({ "room": { "timeline": { "limit": 3 } } }));
    let sync = bob.sync(Some(&since), &query).await;
    let room_sync = joined(&sync, &room);
    let state = list(&room_sync["state"]);
    for kind in ["m.room.create", "m.room.power_levels", "m.room.topic"] {
        assert!(find(state, kind, "").is_some(), "{kind} is missing");
    }
    assert!(find(state, "m.room.member", &alice.user_id).is_some());
    assert_eq!(room_sync["timeline"]["limited"], true);
    let events = timeline(&sync, &room);
    assert!(find(events, "m.room.member", &bob.user_id).is_some());
    assert_eq!(super::texts(events), ["4", "welcome"]);
    assert_eq!(room_sync["summary"]["m.joined_member_count"], 2);
}

#[tokio::test]
async fn one_who_left_and_came_back_between_two_syncs_misses_nothing() {
    let server = server().await;
    let [alice, bob] = [server.register("alice").await, server.register("bob").await];
    let room = public(&alice).await;
    bob.join(&room).await;
    let since = bob.sync_token().await;
    bob.leave(&room).await;
    topic(&alice, &room, "meanwhile").await;
    bob.join(&room).await;
    let sync = bob.sync(Some(&since), "timeout=0").await;
    let events = timeline(&sync, &room);
    assert!(find(events, "m.room.topic", "").is_some(), "{events:?}");
    assert_eq!(sync["rooms"]["leave"], Value::Null);
}

#[tokio::test]
async fn summaries_name_heroes_and_count() {
    let server = server().await;
    let [alice, bob, carol] = [
        server.register("alice").await,
        server.register("bob").await,
        server.register("carol").await,
    ];
    let room = public(&alice).await;
    bob.join(&room).await;
    alice.invite(&room, &carol).await;
    let sync = alice.sync(None, "timeout=0").await;
    let summary = &joined(&sync, &room)["summary"];
    assert_eq!(summary["m.joined_member_count"], 2);
    assert_eq!(summary["m.invited_member_count"], 1);
    assert_eq!(summary["m.heroes"], json!([bob.user_id, carol.user_id]));
    let mut since = super::next(&sync);
    alice.say(&room, "nobody came").await;
    let sync = more(&alice, &mut since).await;
    assert_eq!(joined(&sync, &room)["summary"], Value::Null);
    carol.join(&room).await;
    let sync = more(&alice, &mut since).await;
    let summary = &joined(&sync, &room)["summary"];
    assert_eq!(summary["m.joined_member_count"], 3);
    assert_eq!(summary["m.invited_member_count"], 0);
    let (status, _) = alice.put_state(&room, "m.room.name", "", json!({ "name": "Named" })).await;
    assert_eq!(status, 200);
    bob.leave(&room).await;
    let sync = more(&alice, &mut since).await;
    let summary = &joined(&sync, &room)["summary"];
    assert_eq!(summary["m.joined_member_count"], 2);
    assert_eq!(summary["m.heroes"], Value::Null);
}

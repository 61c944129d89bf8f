//! Transactions with events that are wrong in every way.

use serde_json::{Value, json};

use super::stage;
use crate::kit::{self, Made};

/// Whether the answer to an event names an error.
fn is_refused(pdus: &Value, event_id: &str) -> bool {
    pdus[event_id]["error"].is_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_event_does_not_block_the_rest_of_a_transaction() {
    for version in ["6", "11", "12"] {
        let mut stage = stage(version).await;
        let rules = stage.room.rules.clone();
        let first = stage.room.message(&stage.peer, "first");
        stage.room.follow(&first);
        let mut forged = stage.room.message(&stage.peer, "forged").json;
        forged["signatures"]["liar.test"]["ed25519:peer"] = "A".repeat(86).into();
        let mut foreign = stage.room.draft("m.room.message", None, json!({ "body": "foreign" }));
        foreign["sender"] = "@alice:one.test".into();
        let foreign = stage.peer.seal(foreign, &rules);
        let mut nowhere = stage.room.draft("m.room.message", None, json!({ "body": "nowhere" }));
        nowhere["room_id"] = "!nowhere:liar.test".into();
        let nowhere = stage.peer.seal(nowhere, &rules);
        let second = stage.room.message(&stage.peer, "second");
        stage.room.follow(&second);
        let forged_id = kit::event_id(&forged, &rules);
        let events = [
            first.json.clone(),
            json!("no event"),
            json!({}),
            forged,
            foreign.json,
            nowhere.json,
            second.json.clone(),
        ];
        let pdus = stage.peer.transact(&stage.network[0], "t1", &events).await;
        assert_eq!((&pdus[&first.event_id], &pdus[&second.event_id]), (&json!({}), &json!({})));
        for bad in [&forged_id, &foreign.event_id] {
            assert!(is_refused(&pdus, bad), "version {version}: {pdus}");
        }
        assert_eq!(stage.texts_until_marker().await, ["first", "second", "marker"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_content_is_not_what_was_hashed_is_seen_without_it() {
    let mut stage = stage("11").await;
    let mut event = stage.room.message(&stage.peer, "what was signed").json;
    event["content"]["body"] = "what was put there".into();
    let event_id = kit::event_id(&event, &stage.room.rules);
    let pdus = stage.peer.transact(&stage.network[0], "t1", std::slice::from_ref(&event)).await;
    assert_eq!(pdus[&event_id], json!({}));
    stage.room.follow(&Made { event_id, json: event });
    assert_eq!(stage.texts_until_marker().await, ["m.room.message", "marker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_transaction_twice_gives_the_same_answer_and_one_event() {
    let mut stage = stage("11").await;
    let event = stage.room.message(&stage.peer, "once");
    let bad = json!({ "type": "m.room.message" });
    let events = [event.json.clone(), bad];
    let first = stage.peer.transact(&stage.network[0], "same", &events).await;
    let second = stage.peer.transact(&stage.network[0], "same", &events).await;
    assert_eq!(first, second);
    // The same event in another transaction is known.
    let third = stage.peer.transact(&stage.network[0], "other", &events[..1]).await;
    assert_eq!(third[&event.event_id], json!({}));
    stage.room.follow(&event);
    assert_eq!(stage.texts_until_marker().await, ["once", "marker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_events_hold() {
    let mut stage = stage("11").await;
    let rules = stage.room.rules.clone();
    let draft = stage.room.draft("m.room.message", None, json!({ "body": "bad" }));
    let fake = |number: usize| json!(format!("${:0>43}", number));
    let with = |field: &str, value: Value| {
        let mut draft = draft.clone();
        draft[field] = value;
        stage.peer.seal(draft, &rules)
    };
    let many: Vec<_> = (0..21).map(fake).collect();
    let spoilt = [
        ("21 prev_events", with("prev_events", many.clone().into())),
        ("11 auth_events", with("auth_events", many[..11].to_vec().into())),
        ("no prev_events", with("prev_events", json!([]))),
        ("a negative depth", with("depth", json!(-1))),
        ("a long type", with("type", "t".repeat(300).into())),
        ("a long state key", with("state_key", "k".repeat(300).into())),
    ];
    let mut events: Vec<Value> = spoilt.iter().map(|(_, made)| made.json.clone()).collect();
    // Two without an ID: too large, and no event at all.
    for (field, value) in [("content", json!({ "body": "x".repeat(65_536) })), ("type", json!(7))] {
        let mut event = stage.room.message(&stage.peer, "bad").json;
        event[field] = value;
        events.push(event);
    }
    let pdus = stage.peer.transact(&stage.network[0], "t1", &events).await;
    for (what, made) in &spoilt {
        assert_ne!(pdus[&made.event_id], json!({}), "{what}: {pdus}");
    }
    assert_eq!(stage.texts_until_marker().await, ["marker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn floats_and_huge_integers_are_no_events() {
    let mut stage = stage("11").await;
    let good = stage.room.message(&stage.peer, "bad").json;
    let spoil = |value: Value| {
        let mut event = good.clone();
        event["content"]["number"] = value;
        event
    };
    let events = [spoil(json!(1.5)), spoil(json!(9_007_199_254_740_993_u64)), spoil(json!(-1e300))];
    let (status, answer) = stage.peer.try_transact_raw(&stage.network[0], "t1", &events).await;
    assert!(status == 400 || status == 401, "{status} {answer}");
    assert_eq!(stage.texts_until_marker().await, ["marker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_depth_does_not_stop_a_room() {
    let mut stage = stage("11").await;
    let mut draft = stage.room.draft("m.room.message", None, json!({ "body": "deep" }));
    draft["depth"] = json!(9_007_199_254_740_991_u64);
    let deep = stage.peer.seal(draft, &stage.room.rules);
    let pdus = stage.peer.transact(&stage.network[0], "t1", std::slice::from_ref(&deep.json)).await;
    assert_eq!(pdus[&deep.event_id], json!({}));
    stage.alice.say(&stage.room.room_id, "after").await;
    stage.room.latest = vec![deep.event_id];
    stage.room.depth = 9_007_199_254_740_991;
    assert_eq!(stage.texts_until_marker().await, ["deep", "after", "marker"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rules_forbid_is_rejected_and_so_is_what_builds_on_it() {
    let mut stage = stage("11").await;
    let topic = stage.room.draft("m.room.topic", Some(""), json!({ "topic": "mine" }));
    let topic = stage.peer.seal(topic, &stage.room.rules);
    let member = format!("@mallory:{}", stage.peer.name());
    let powers = json!({ "users": { member: 100 } });
    let powers = stage.room.draft("m.room.power_levels", Some(""), powers);
    let powers = stage.peer.seal(powers, &stage.room.rules);
    let mut after = stage.room.clone();
    after.set(powers.clone());
    let built = after.draft("m.room.name", Some(""), json!({ "name": "mine" }));
    let built = stage.peer.seal(built, &stage.room.rules);
    let events = [topic.json.clone(), powers.json.clone(), built.json.clone()];
    stage.peer.transact(&stage.network[0], "t1", &events).await;
    assert_eq!(stage.texts_until_marker().await, ["marker"]);
    let view = stage.network[0].room_view(&stage.room.room_id).await;
    for made in [topic, powers, built] {
        assert!(view.rejected.contains(&made.event_id), "{view:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_one_banned_meanwhile_is_kept_and_not_shown() {
    let mut stage = stage("11").await;
    let late = stage.room.message(&stage.peer, "late");
    let room_id = stage.room.room_id.clone();
    let ban = json!({ "user_id": stage.room.user });
    assert_eq!(stage.alice.room_post(&room_id, "ban", ban).await.0, 200);
    stage.peer.transact(&stage.network[0], "t1", std::slice::from_ref(&late.json)).await;
    let view = stage.network[0].room_view(&room_id).await;
    // Without a user in the room the peer may not be heard at all.
    assert!(!view.extremities.contains(&late.event_id), "{view:?}");
    let mut texts = Vec::new();
    stage.alice.say(&room_id, "end").await;
    stage
        .alice
        .sync_until(&mut stage.since, |sync| {
            let events = sync["rooms"]["join"][&room_id]["timeline"]["events"].as_array();
            let events = events.into_iter().flatten();
            texts.extend(
                events.filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)),
            );
            texts.iter().any(|text| text == "end")
        })
        .await;
    assert_eq!(texts, ["end"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_another_room_is_no_ground_for_one_of_this() {
    let mut stage = stage("11").await;
    let other =
        stage.alice.create_room(json!({ "preset": "public_chat", "room_version": "11" })).await;
    let other = stage.peer.join(&stage.network[0], &other, "mallory").await;
    let mut draft = stage.room.draft("m.room.message", None, json!({ "body": "crossed" }));
    draft["auth_events"] = other.auth_events("m.room.message", None).into();
    let by_auth = stage.peer.seal(draft, &stage.room.rules);
    let mut draft = stage.room.draft("m.room.message", None, json!({ "body": "crossed" }));
    draft["prev_events"] = json!(other.latest);
    let by_prev = stage.peer.seal(draft, &stage.room.rules);
    let events = [by_auth.json.clone(), by_prev.json.clone()];
    stage.peer.transact(&stage.network[0], "t1", &events).await;
    assert_eq!(stage.texts_until_marker().await, ["marker"]);
    let view = stage.network[0].room_view(&stage.room.room_id).await;
    assert!(!view.accepted.contains(&by_auth.event_id), "{view:?}");
}

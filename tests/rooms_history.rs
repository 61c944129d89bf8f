//! Paging through a room, and what is around an event.

use serde_json::{Value, json};

use crate::{
    kit::encode,
    rooms_people::{Person, Town, event_ids, text_of},
};

/// All pages in one direction until there is no more, and how many there were.
async fn all_pages(
    who: &Person,
    room: &str,
    from: Option<&str>,
    query: &str,
) -> (Vec<Value>, usize) {
    let mut from = from.map(str::to_owned);
    let mut events = Vec::new();
    for pages in 1..200 {
        let start = from.as_deref().map(|f| format!("&from={}", encode(f))).unwrap_or_default();
        let page = who.messages(room, &format!("{query}{start}")).await.ok();
        events.extend(page["chunk"].as_array().unwrap().iter().cloned());
        if let Some(from) = &from {
            assert_eq!(page["start"], *from);
        }
        match page["end"].as_str() {
            Some(end) => from = Some(end.to_owned()),
            None => return (events, pages),
        }
    }
    panic!("paging does not end");
}

fn bodies(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn paging_gives_every_event_once_in_both_directions() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({ "name": "Pond" })).await;
    let texts: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    for text in &texts {
        alice.say(&room, text).await;
    }
    for limit in [1, 7, 100] {
        let (mut back, pages) =
            all_pages(&alice, &room, None, &format!("dir=b&limit={limit}")).await;
        let (forth, _) = all_pages(&alice, &room, None, &format!("dir=f&limit={limit}")).await;
        assert!(pages >= back.len() / limit, "{pages} pages");
        back.reverse();
        let ids = |events: &[Value]| event_ids(&json!(events));
        assert_eq!(ids(&back), ids(&forth));
        assert_eq!(bodies(&forth), texts);
        assert_eq!(forth[0]["type"], "m.room.create");
    }
}

#[tokio::test]
async fn paging_goes_on_from_a_sync() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    for n in 0..30 {
        alice.say(&room, &n.to_string()).await;
    }
    let sync = alice.sync(None).await;
    let timeline = &sync["rooms"]["join"][&room]["timeline"];
    assert_eq!(timeline["limited"], true);
    let shown = event_ids(&timeline["events"]);
    let prev_batch = timeline["prev_batch"].as_str().unwrap();
    let (older, _) = all_pages(&alice, &room, Some(prev_batch), "dir=b&limit=9").await;
    let (newer, _) = all_pages(&alice, &room, Some(prev_batch), "dir=f&limit=9").await;
    assert_eq!(event_ids(&json!(newer)), shown);
    let (all, _) = all_pages(&alice, &room, None, "dir=f&limit=50").await;
    let mut both = event_ids(&json!(older));
    both.reverse();
    both.extend(shown);
    assert_eq!(both, event_ids(&json!(all)));

    let next_batch = sync["next_batch"].as_str().unwrap();
    alice.say(&room, "later").await;
    let (after, _) = all_pages(&alice, &room, Some(next_batch), "dir=f").await;
    assert_eq!(bodies(&after), ["later"]);
    let to = encode(prev_batch);
    let (between, _) =
        all_pages(&alice, &room, Some(next_batch), &format!("dir=b&limit=50&to={to}")).await;
    assert_eq!(between.len(), timeline["events"].as_array().unwrap().len());
}

#[tokio::test]
async fn filters_choose_what_a_page_shows() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    for n in 0..6 {
        let who = if n % 2 == 0 { &alice } else { &bob };
        who.say(&room, &n.to_string()).await;
        let path = format!("/rooms/{room}/send/org.example.note/{n}");
        who.put(&path, json!({ "body": format!("note {n}"), "url": "mxc://localhost/x" }))
            .await
            .ok();
    }
    let alice_id = &alice.id;
    for (filter, expected) in [
        (json!({ "types": ["m.room.message"] }), vec!["0", "1", "2", "3", "4", "5"]),
        (json!({ "types": ["m.room.m*"], "senders": [alice_id] }), vec!["0", "2", "4"]),
        (
            json!({ "not_types": ["m.room.*"], "not_senders": [alice_id] }),
            vec!["note 1", "note 3", "note 5"],
        ),
        (
            json!({ "contains_url": true, "senders": [alice_id] }),
            vec!["note 0", "note 2", "note 4"],
        ),
        (json!({ "types": ["m.room.message"], "not_types": ["m.room.message"] }), vec![]),
        (json!({ "types": [] }), vec![]),
    ] {
        let query = format!("dir=f&limit=2&filter={}", encode(&filter.to_string()));
        let (events, _) = all_pages(&alice, &room, None, &query).await;
        assert_eq!(bodies(&events), expected, "{filter}");
    }
    let lazy =
        encode(&json!({ "lazy_load_members": true, "types": ["m.room.message"] }).to_string());
    let page = alice.messages(&room, &format!("dir=b&limit=1&filter={lazy}")).await.ok();
    let state = page["state"].as_array().unwrap();
    assert_eq!(state.len(), 1);
    assert_eq!(state[0]["state_key"], bob.id);
}

#[tokio::test]
async fn nonsense_is_refused() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({})).await;
    for (query, errcode) in [
        ("limit=5", "M_MISSING_PARAM"),
        ("dir=sideways", "M_INVALID_PARAM"),
        ("dir=b&from=nonsense", "M_INVALID_PARAM"),
        ("dir=b&to=nonsense", "M_INVALID_PARAM"),
        ("dir=b&limit=many", "M_INVALID_PARAM"),
    ] {
        alice.messages(&room, query).await.refused(400, errcode);
    }
    let answer = alice.messages(&room, "dir=b&filter=nonsense").await;
    assert_eq!(answer.status, 400, "{answer:?}");
    alice.messages("!none:localhost", "dir=b").await.hidden();
    let empty = alice.messages(&room, "dir=b&limit=0").await;
    assert!(matches!(empty.status, 200 | 400), "{empty:?}");
}

#[tokio::test]
async fn context_shows_both_sides_and_pages_on() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({ "name": "Pond" })).await;
    let mut sent = Vec::new();
    for n in 0..15 {
        sent.push(alice.say(&room, &n.to_string()).await);
    }
    let context_of = async |event: &str, query: &str| {
        alice.get(&format!("/rooms/{room}/context/{}?{query}", encode(event))).await
    };
    let context = context_of(&sent[7], "limit=4").await.ok();
    assert_eq!(context["event"]["event_id"], sent[7]);
    assert_eq!(event_ids(&context["events_before"]), [sent[6].clone(), sent[5].clone()]);
    assert_eq!(event_ids(&context["events_after"]), [sent[8].clone(), sent[9].clone()]);
    let state = context["state"].as_array().unwrap();
    assert!(state.iter().any(|event| event["type"] == "m.room.name"));
    let end = context["end"].as_str().unwrap();
    let (newer, _) = all_pages(&alice, &room, Some(end), "dir=f&limit=2").await;
    assert_eq!(event_ids(&json!(newer)), sent[10..]);
    let start = context["start"].as_str().unwrap();
    let page = alice.messages(&room, &format!("dir=b&limit=3&from={}", encode(start))).await.ok();
    assert_eq!(event_ids(&page["chunk"]), [sent[4].clone(), sent[3].clone(), sent[2].clone()]);

    let alone = context_of(&sent[7], "limit=0").await.ok();
    assert_eq!(alone["event"]["event_id"], sent[7]);
    for side in ["events_before", "events_after"] {
        assert_eq!(alone[side].as_array().map_or(0, Vec::len), 0);
    }
    let filter = encode(&json!({ "types": ["m.room.name"] }).to_string());
    let filtered = context_of(&sent[7], &format!("limit=50&filter={filter}")).await.ok();
    assert_eq!(filtered["events_before"].as_array().unwrap().len(), 1);
    assert_eq!(filtered["events_after"].as_array().map_or(0, Vec::len), 0);
    context_of("$missing", "").await.refused(404, "M_NOT_FOUND");
    let elsewhere = alice.create(json!({})).await;
    let path = format!("/rooms/{elsewhere}/context/{}", encode(&sent[7]));
    alice.get(&path).await.refused(404, "M_NOT_FOUND");
    alice.event(&elsewhere, &sent[7]).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn the_state_of_a_context_is_of_its_time() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({ "name": "then" })).await;
    let event = alice.say(&room, "at that time").await;
    alice.set_state(&room, "m.room.name", "", json!({ "name": "now" })).await.ok();
    let path = format!("/rooms/{room}/context/{}?limit=0", encode(&event));
    let context = alice.get(&path).await.ok();
    let state = context["state"].as_array().unwrap();
    let name = state.iter().find(|event| event["type"] == "m.room.name").unwrap();
    assert_eq!(name["content"]["name"], "then");
}

#[tokio::test]
async fn every_served_event_has_what_clients_expect() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat", "name": "one" })).await;
    alice.invite(&room, &bob).await.ok();
    bob.join(&room).await.ok();
    let renamed =
        alice.set_state(&room, "m.room.name", "", json!({ "name": "two" })).await.event_id();
    let (events, _) = all_pages(&bob, &room, None, "dir=f&limit=5").await;
    for event in &events {
        for field in ["event_id", "room_id", "sender", "type"] {
            assert!(event[field].is_string(), "{field} in {event}");
        }
        assert_eq!(event["room_id"], room);
        assert!(event["content"].is_object() && event["origin_server_ts"].is_u64(), "{event}");
        assert!(event["unsigned"]["age"].is_u64(), "{event}");
        assert!(event["unsigned"]["membership"].is_string(), "{event}");
        for inner in ["auth_events", "prev_events", "hashes", "signatures", "depth"] {
            assert_eq!(event.get(inner), None, "{event}");
        }
    }
    let memberships: Vec<&Value> =
        events.iter().map(|event| &event["unsigned"]["membership"]).collect();
    let of = |kind: &str, key: &str, membership: &str| {
        let wanted = |event: &&Value| {
            event["type"] == kind
                && event["state_key"] == key
                && (key.is_empty() || event["content"]["membership"] == membership)
        };
        events.iter().find(wanted).unwrap()["unsigned"].clone()
    };
    assert_eq!(memberships[0], "leave");
    assert_eq!(of("m.room.member", &bob.id, "invite")["membership"], "invite");
    let joined = of("m.room.member", &bob.id, "join");
    assert_eq!(joined["membership"], "join");
    assert_eq!(joined["prev_content"]["membership"], "invite");
    assert!(joined["replaces_state"].is_string());
    let event = alice.event(&room, &renamed).await.ok();
    assert_eq!(event["unsigned"]["prev_content"], json!({ "name": "one" }));
    assert_eq!(event["unsigned"]["membership"], "join");
    let first = alice.state_event(&room, "m.room.create", "").await;
    assert_eq!(first["unsigned"].get("prev_content"), None);
}

#[tokio::test]
async fn one_who_left_pages_only_to_the_leave() {
    let town = Town::start().await;
    let [alice, bob] = town.people(["alice", "bob"]).await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await.ok();
    alice.say(&room, "before").await;
    bob.leave(&room).await.ok();
    alice.say(&room, "meanwhile").await;
    alice.put(&format!("/rooms/{room}/send/m.room.message/1"), text_of("still")).await.ok();
    for dir in ["b", "f"] {
        let (events, _) = all_pages(&bob, &room, None, &format!("dir={dir}&limit=3")).await;
        assert_eq!(bodies(&events), ["before"], "{dir}");
    }
    bob.join(&room).await.ok();
    let (events, _) = all_pages(&bob, &room, None, "dir=f&limit=3").await;
    assert_eq!(bodies(&events), ["before", "meanwhile", "still"]);
}

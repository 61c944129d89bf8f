use std::sync::Arc;

use ruma::{RoomVersionId, events::StateEventType};
use serde_json::json;

use super::{all_events, current, invited, message, raw, rooms, state, user, wish};
use crate::{NewRoom, Profile, RoomPreset, RoomsError, StateSelect, Visibility};

/// A wish with everything in it.
fn full_wish(version: RoomVersionId) -> NewRoom {
    let initial =
        |kind: &str, key: &str, content| (StateEventType::from(kind), key.to_owned(), raw(content));
    NewRoom {
        preset: Some(RoomPreset::PublicChat),
        visibility: Visibility::Public,
        alias_localpart: Some("pub".to_owned()),
        name: Some("The Pub".to_owned()),
        topic: Some("Hoppy hour".to_owned()),
        invites: vec![invited("bob"), invited("bob")],
        is_direct: true,
        initial_state: vec![
            initial("m.room.history_visibility", "", json!({"history_visibility": "joined"})),
            initial("m.room.name", "", json!({"name": "overridden"})),
            initial("org.example", "key", json!({"a": 1})),
        ],
        creator_profile: Profile { displayname: Some("Alice".to_owned()), avatar_url: None },
        creation_content: Some(raw(
            json!({"type": "m.space", "creator": "@x:y", "room_version": "1"}),
        )),
        ..wish(version)
    }
}

const FULL_ORDER: [&str; 11] = [
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.canonical_alias",
    "m.room.join_rules",
    "m.room.guest_access",
    "m.room.history_visibility",
    "org.example",
    "m.room.name",
    "m.room.topic",
    "m.room.member",
];

#[tokio::test]
async fn a_room_of_every_version_is_created_in_the_order_of_the_specification() {
    for version in event::SUPPORTED {
        let rooms = rooms().await;
        let room_id = rooms.create(&user("alice"), full_wish(version.clone())).await.unwrap();
        let events = all_events(&rooms, &room_id).await;
        let kinds: Vec<String> = events.iter().map(|event| event.pdu.kind.to_string()).collect();
        assert_eq!(kinds, FULL_ORDER, "version {version}");
        let position = events[0].position;
        for (index, event) in events.iter().enumerate() {
            assert_eq!((event.position, event.index as usize), (position, index));
            let before = index.checked_sub(1).map(|before| events[before].pdu.event_id.clone());
            assert_eq!(event.pdu.prev_events, Vec::from_iter(before));
            assert_eq!(event.pdu.room_id, room_id);
        }
        rooms.send(&user("alice"), &room_id, message("hello")).await.unwrap();
    }
}

#[tokio::test]
async fn a_room_of_every_version_holds_what_was_wished() {
    for version in event::SUPPORTED {
        let rooms = rooms().await;
        let room_id = rooms.create(&user("alice"), full_wish(version.clone())).await.unwrap();
        let create = current(&rooms, &room_id, "m.room.create", "").await.unwrap();
        assert_eq!(create["type"], "m.space");
        assert_eq!(create["room_version"], version.as_str());
        let creator = create.get("creator").and_then(|creator| creator.as_str());
        let by_sender = version.rules().unwrap().authorization.use_room_create_sender;
        assert_eq!(creator, (!by_sender).then_some("@alice:here.example"));
        let (alice, bob) = (user("alice"), user("bob"));
        for (kind, key, content) in [
            (
                "m.room.topic",
                "",
                json!({"topic": "Hoppy hour", "m.topic": {"m.text": [{"body": "Hoppy hour"}]}}),
            ),
            ("m.room.name", "", json!({"name": "The Pub"})),
            (
                "m.room.member",
                alice.as_str(),
                json!({"membership": "join", "displayname": "Alice"}),
            ),
            ("m.room.member", bob.as_str(), json!({"membership": "invite", "is_direct": true})),
            ("m.room.join_rules", "", json!({"join_rule": "public"})),
            ("m.room.history_visibility", "", json!({"history_visibility": "joined"})),
        ] {
            assert_eq!(current(&rooms, &room_id, kind, key).await, Some(content), "{kind} {key}");
        }
        let room = rooms.load_room(&room_id).await.unwrap();
        let head = rooms.head_of(&room).await.unwrap();
        assert_eq!((head.joined_count(), head.invited_count()), (1, 1));
        assert!(rooms.memberships(&bob).await.unwrap().get(room.number).is_some());
    }
}

#[tokio::test]
async fn a_room_of_version_12_is_named_by_its_create_event_and_belongs_to_its_creators() {
    let rooms = rooms().await;
    let new = NewRoom {
        preset: Some(RoomPreset::TrustedPrivateChat),
        invites: vec![invited("bob"), invited("carol")],
        creation_content: Some(raw(
            json!({"additional_creators": [user("bob"), user("dora"), user("alice")]}),
        )),
        ..NewRoom::default()
    };
    let room_id = rooms.create(&user("alice"), new).await.unwrap();
    let events = all_events(&rooms, &room_id).await;
    let create = &events[0].pdu;
    assert_eq!(room_id.as_str()[1..], create.event_id.as_str()[1..]);
    assert!(!create.json.contains("room_id"));
    assert!(events.iter().all(|event| !event.pdu.auth_events.contains(&create.event_id)));
    let content = current(&rooms, &room_id, "m.room.create", "").await.unwrap();
    assert_eq!(content["additional_creators"], json!([user("bob"), user("carol"), user("dora")]));
    let levels = current(&rooms, &room_id, "m.room.power_levels", "").await.unwrap();
    assert_eq!(levels["users"], json!({}));
    assert_eq!(levels["events"]["m.room.tombstone"], 150);
}

#[tokio::test]
async fn those_trusted_have_the_power_of_the_creator_before_version_12() {
    let rooms = rooms().await;
    let new = NewRoom {
        preset: Some(RoomPreset::TrustedPrivateChat),
        invites: vec![invited("bob")],
        ..wish(RoomVersionId::V11)
    };
    let room_id = rooms.create(&user("alice"), new).await.unwrap();
    let levels = current(&rooms, &room_id, "m.room.power_levels", "").await.unwrap();
    assert_eq!(levels["users"], json!({user("alice").as_str(): 100, user("bob").as_str(): 100}));
    let room = rooms.load_room(&room_id).await.unwrap();
    let root = rooms.current_state(&room).await.unwrap();
    let powers = rooms.powers(&room, root).await.unwrap();
    assert_eq!(powers.of(&user("bob")), powers.of(&user("alice")));
}

#[tokio::test]
async fn the_power_levels_can_be_overridden_but_not_against_the_creator() {
    let rooms = rooms().await;
    let with = |version: RoomVersionId, levels| NewRoom {
        power_level_override: Some(raw(levels)),
        ..wish(version)
    };
    let alice = user("alice");
    let levels = json!({"events_default": 10, "events": {"m.room.name": 1}});
    let room_id = rooms.create(&alice, with(RoomVersionId::V12, levels)).await.unwrap();
    let levels = current(&rooms, &room_id, "m.room.power_levels", "").await.unwrap();
    assert_eq!(levels["events_default"], 10);
    assert_eq!(levels["events"], json!({"m.room.name": 1, "m.room.tombstone": 150}));
    assert_eq!(levels["kick"], 50);
    let without =
        rooms.create(&alice, with(RoomVersionId::V11, json!({"users": {"@x:y": 5}}))).await;
    assert!(matches!(without, Err(RoomsError::Invalid { .. })), "{without:?}");
    let named = json!({"users": {alice.as_str(): 100}});
    let named = rooms.create(&alice, with(RoomVersionId::V12, named)).await;
    assert!(matches!(named, Err(RoomsError::Invalid { .. })), "{named:?}");
    let text = rooms.create(&alice, with(RoomVersionId::V12, json!({"ban": "high"}))).await;
    assert!(matches!(text, Err(RoomsError::InvalidRoomState { .. })), "{text:?}");
    let powerless = json!({"users": {alice.as_str(): 5}});
    let powerless = rooms.create(&alice, with(RoomVersionId::V10, powerless)).await;
    assert!(matches!(powerless, Err(RoomsError::InvalidRoomState { .. })), "{powerless:?}");
}

#[tokio::test]
async fn a_wish_that_makes_no_sense_leaves_nothing_behind() {
    let rooms = rooms().await;
    let alice = user("alice");
    let before = rooms.store().position();
    let unknown = rooms.create(&alice, wish("99".try_into().unwrap())).await;
    assert!(matches!(unknown, Err(RoomsError::UnsupportedVersion { .. })), "{unknown:?}");
    for localpart in ["", "with space", "a:b", "a\u{1}b", "a\0b"] {
        let new = NewRoom { alias_localpart: Some(localpart.to_owned()), ..NewRoom::default() };
        let bad = rooms.create(&alice, new).await;
        assert!(matches!(bad, Err(RoomsError::InvalidParam { .. })), "{bad:?}");
    }
    for creators in [json!("@bob:here.example"), json!(["bob"]), json!([1])] {
        let content = raw(json!({ "additional_creators": creators }));
        let new = NewRoom { creation_content: Some(content), ..NewRoom::default() };
        let bad = rooms.create(&alice, new).await;
        assert!(matches!(bad, Err(RoomsError::InvalidParam { .. })), "{bad:?}");
    }
    let member =
        (StateEventType::RoomMember, user("bob").to_string(), raw(json!({"membership": "join"})));
    let new = NewRoom { initial_state: vec![member], ..NewRoom::default() };
    let forged = rooms.create(&alice, new).await;
    assert!(matches!(forged, Err(RoomsError::InvalidRoomState { .. })), "{forged:?}");
    assert_eq!(rooms.store().position(), before);
    assert!(rooms.memberships(&alice).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_alias_is_given_once_even_to_those_who_ask_at_the_same_time() {
    let rooms = rooms().await;
    let create = |name: &'static str| {
        let rooms = rooms.clone();
        let new = NewRoom { alias_localpart: Some("pub".to_owned()), ..NewRoom::default() };
        tokio::spawn(async move { rooms.create(&user(name), new).await })
    };
    let (alice, bob) = tokio::join!(create("alice"), create("bob"));
    let results = [alice.unwrap(), bob.unwrap()];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let refused = results.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(refused, RoomsError::AliasTaken { .. }), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_wish_many_times_in_one_millisecond_makes_as_many_rooms() {
    let rooms = rooms().await;
    let creating: Vec<_> = (0..8)
        .map(|_| {
            let rooms = rooms.clone();
            tokio::spawn(async move { rooms.create(&user("alice"), NewRoom::default()).await })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for created in creating {
        ids.insert(created.await.unwrap().unwrap());
    }
    assert_eq!(ids.len(), 8);
}

#[tokio::test]
async fn the_initial_state_invites_nobody_from_afar() {
    let rooms = rooms().await;
    let invite = raw(json!({"membership": "invite"}));
    let afar = (StateEventType::RoomMember, "@bob:elsewhere.example".to_owned(), invite);
    let new = NewRoom { initial_state: vec![afar], ..NewRoom::default() };
    assert!(matches!(rooms.create(&user("alice"), new).await, Err(RoomsError::Remote { .. })));
}

#[tokio::test]
async fn a_state_is_selected_by_type_and_key() {
    let rooms = rooms().await;
    let alice = user("alice");
    let room_id = rooms
        .create(&alice, NewRoom { invites: vec![invited("bob")], ..NewRoom::default() })
        .await
        .unwrap();
    rooms.send(&alice, &room_id, state("a.first", "", json!({}))).await.unwrap();
    rooms.send(&alice, &room_id, state("z.last", "k", json!({}))).await.unwrap();
    let room = rooms.load_room(&room_id).await.unwrap();
    let root = rooms.current_state(&room).await.unwrap();
    let select = async |select: StateSelect| {
        let events = rooms.state_events(&room, root, &select).await.unwrap();
        events.iter().map(|pdu| pdu.kind.to_string()).collect::<Vec<_>>()
    };
    let all = select(StateSelect::All).await;
    assert_eq!(all.len(), 9);
    assert_eq!(all[0], "m.room.create");
    let without = select(StateSelect::without_members()).await;
    assert_eq!(without.len(), 7);
    assert!(!without.contains(&"m.room.member".to_owned()));
    assert_eq!(select(StateSelect::kind(StateEventType::RoomMember)).await.len(), 2);
    assert_eq!(select(StateSelect::members([&alice])).await, ["m.room.member"]);
    let both = StateSelect::NotTypes(["a.first", "z.last"].map(StateEventType::from).into());
    assert_eq!(select(both).await.len(), 7);
    let arc = Arc::clone(&room);
    let diff = rooms.state_diff(&arc, None, root).await.unwrap();
    assert_eq!(diff.len(), 9);
}

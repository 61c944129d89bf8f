use std::{collections::BTreeMap, sync::Arc};

use event::Draft;
use ruma::{MilliSecondsSinceUnixEpoch, RoomVersionId, UInt, events::TimelineEventType};
use serde_json::json;
use store::{Batch, Store};

use super::{current, load, message, raw, rooms_on, state, user, wish};
use crate::{
    NewEvent, NewRoom, RoomsError,
    append::{Assembly, accept::Place},
};

async fn open_room(rooms: &crate::Rooms, version: RoomVersionId) -> ruma::OwnedRoomId {
    let new = NewRoom { preset: Some(crate::RoomPreset::PublicChat), ..wish(version) };
    let room = rooms.create(&user("alice"), new).await.unwrap();
    for name in ["bob", "carol"] {
        let member = state("m.room.member", user(name).as_str(), json!({"membership": "join"}));
        rooms.send(&user(name), &room, member).await.unwrap();
    }
    room
}

#[tokio::test]
async fn a_redacted_event_is_pruned_where_it_is_stored_in_every_version() {
    for version in event::SUPPORTED {
        let store = Store::memory();
        let rooms = rooms_on(store.clone()).await;
        let room = open_room(&rooms, version.clone()).await;
        let bob = user("bob");
        let secret = rooms.send(&bob, &room, message("secret")).await.unwrap();
        let redaction = NewEvent::redaction(secret.clone(), Some("oops"));
        let redaction = rooms.send(&bob, &room, redaction).await.unwrap();
        for rooms in [rooms.clone(), rooms_on(store.clone()).await] {
            let event = load(&rooms, &room, &secret).await;
            assert_eq!(event.redacted_by.as_ref(), Some(&redaction));
            assert_eq!(event.pdu.content.get(), "{}");
            assert!(!event.pdu.json.contains("secret"));
            assert_eq!(event.pdu.event_id, secret);
            let redacting = load(&rooms, &room, &redaction).await;
            assert_eq!(redacting.pdu.redacts.as_ref(), Some(&secret));
            assert!(redacting.pdu.content.get().contains("oops"));
        }
    }
}

#[tokio::test]
async fn only_who_has_the_power_redacts_what_others_said() {
    let rooms = rooms_on(Store::memory()).await;
    let room = open_room(&rooms, RoomVersionId::V12).await;
    let said = rooms.send(&user("bob"), &room, message("said")).await.unwrap();
    let redact = || NewEvent::redaction(said.clone(), None);
    let refused = rooms.send(&user("carol"), &room, redact()).await;
    assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
    assert!(load(&rooms, &room, &said).await.redacted_by.is_none());
    let first = rooms.send(&user("alice"), &room, redact()).await.unwrap();
    let second = rooms.send(&user("bob"), &room, redact()).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(load(&rooms, &room, &said).await.redacted_by, Some(first));
}

#[tokio::test]
async fn there_must_be_something_to_redact() {
    let rooms = rooms_on(Store::memory()).await;
    let room = open_room(&rooms, RoomVersionId::V10).await;
    let nothing = ruma::event_id!("$nothing").to_owned();
    let unknown = rooms.send(&user("bob"), &room, NewEvent::redaction(nothing, None)).await;
    assert!(matches!(unknown, Err(RoomsError::NotFound { .. })), "{unknown:?}");
    let bare = NewEvent::message("m.room.redaction".into(), raw(json!({})));
    let bare = rooms.send(&user("bob"), &room, bare).await;
    assert!(matches!(bare, Err(RoomsError::InvalidParam { .. })), "{bare:?}");
    let said = rooms.send(&user("bob"), &room, message("said")).await.unwrap();
    let plain = NewEvent::message("m.room.redaction".into(), raw(json!({"redacts": said})));
    let plain = rooms.send(&user("bob"), &room, plain).await.unwrap();
    assert_eq!(load(&rooms, &room, &said).await.redacted_by, Some(plain));
}

#[tokio::test]
async fn a_redacted_state_event_stays_in_the_state() {
    let rooms = rooms_on(Store::memory()).await;
    let room = open_room(&rooms, RoomVersionId::V12).await;
    let topic = state("m.room.topic", "", json!({"topic": "gone soon"}));
    let topic = rooms.send(&user("alice"), &room, topic).await.unwrap();
    let redaction = NewEvent::redaction(topic.clone(), None);
    rooms.send(&user("alice"), &room, redaction).await.unwrap();
    assert_eq!(current(&rooms, &room, "m.room.topic", "").await, Some(json!({})));
    let empty = state("m.room.topic", "", json!({}));
    assert_ne!(rooms.send(&user("alice"), &room, empty).await.unwrap(), topic);
}

#[tokio::test]
async fn a_redaction_that_is_not_accepted_redacts_nothing() {
    let rooms = rooms_on(Store::memory()).await;
    let room = open_room(&rooms, RoomVersionId::V12).await;
    let (alice, said) = (user("alice"), message("said"));
    let said = rooms.send(&alice, &room, said).await.unwrap();
    for (rejected, soft_failed) in [(true, false), (false, true), (false, false)] {
        let mut lane = rooms.enter(&room).await.unwrap();
        let before = lane.state();
        let mut assembly = Assembly::new(&rooms, Arc::clone(lane.room()), Arc::clone(&lane.head));
        let draft = Draft {
            room_id: Some(room.clone()),
            sender: alice.clone(),
            kind: TimelineEventType::RoomRedaction,
            state_key: None,
            content: raw(json!({ "reason": format!("{rejected} {soft_failed}") })),
            redacts: Some(said.clone()),
            prev_events: vec![said.clone()],
            auth_events: Vec::new(),
            reference_hashes: BTreeMap::new(),
            depth: UInt::new_saturating(100),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(super::NOW_MS)),
        };
        let pdu = assembly.build(draft).unwrap();
        let place = Place { rejected, soft_failed, ..Place::at(before) };
        assembly.accept(pdu, place).await.unwrap();
        rooms.commit(&mut lane, assembly, Batch::new()).await.unwrap();
        let redacted = load(&rooms, &room, &said).await.redacted_by.is_some();
        assert_eq!(redacted, !rejected && !soft_failed);
    }
}

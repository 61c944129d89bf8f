use std::{slice, sync::Arc};

use event::Draft;
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomVersionId, UInt, UserId};
use serde_json::json;
use store::Batch;

use super::{all_events, current, is_sound, load, message, raw, rooms, state, user, wish};
use crate::{
    NewEvent, NewRoom, RoomPreset, Rooms,
    append::{Assembly, accept::Place},
    new_event::Content,
};

/// Adds an event after some others, wherever they are, as one that came from afar would be.
async fn add_after(
    rooms: &Rooms,
    room_id: &OwnedRoomId,
    sender: &UserId,
    prev: &[OwnedEventId],
    new: NewEvent,
) -> OwnedEventId {
    let mut lane = rooms.enter(room_id).await.unwrap();
    let room = Arc::clone(lane.room());
    let mut assembly = Assembly::new(rooms, Arc::clone(&room), Arc::clone(&lane.head));
    let mut roots = Vec::new();
    let mut depth = 0;
    for id in prev {
        let event = assembly.event_by_id(id).await.unwrap().unwrap();
        roots.push(event.state_after);
        depth = depth.max(u64::from(event.pdu.depth) + 1);
    }
    let before = assembly.resolve(&roots).await.unwrap();
    let Content::Raw(content) = new.content else { panic!("no content") };
    let key = new.state_key.as_deref();
    let keys = event::auth_types(&new.kind, sender, key, &content, &room.rules).unwrap();
    let auth = assembly.auth_state(before, keys.clone()).await.unwrap();
    let auth_events: Vec<_> =
        keys.iter().filter_map(|key| Some(auth.get(key)?.event_id.clone())).collect();
    let reference_hashes =
        assembly.reference_hashes(prev.iter().chain(&auth_events)).await.unwrap();
    let draft = Draft {
        room_id: Some(room_id.clone()),
        sender: sender.to_owned(),
        kind: new.kind,
        state_key: new.state_key,
        content,
        redacts: None,
        prev_events: prev.to_vec(),
        auth_events,
        reference_hashes,
        depth: UInt::new_saturating(depth),
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(super::NOW_MS + depth)),
    };
    let pdu = assembly.build(draft).unwrap();
    let id = pdu.event_id.clone();
    assembly.accept(pdu, Place::at(before)).await.unwrap();
    rooms.commit(&mut lane, assembly, Batch::new()).await.unwrap();
    id
}

async fn open_room(rooms: &Rooms, version: RoomVersionId) -> OwnedRoomId {
    let new = NewRoom { preset: Some(RoomPreset::PublicChat), ..wish(version) };
    let room = rooms.create(&user("alice"), new).await.unwrap();
    let member = state("m.room.member", user("bob").as_str(), json!({"membership": "join"}));
    rooms.send(&user("bob"), &room, member).await.unwrap();
    room
}

async fn newest(rooms: &Rooms, room: &OwnedRoomId) -> OwnedEventId {
    all_events(rooms, room).await.last().unwrap().pdu.event_id.clone()
}

#[tokio::test]
async fn branches_that_do_not_conflict_are_joined_by_the_next_event() {
    for version in event::SUPPORTED {
        let rooms = rooms().await;
        let alice = user("alice");
        let room = open_room(&rooms, version).await;
        let root = newest(&rooms, &room).await;
        let name = state("m.room.name", "", json!({"name": "left"}));
        let left = add_after(&rooms, &room, &alice, slice::from_ref(&root), name).await;
        let topic = state("m.room.topic", "", json!({"topic": "right"}));
        let right = add_after(&rooms, &room, &alice, &[root], topic).await;
        let joined = rooms.load_room(&room).await.unwrap();
        assert_eq!(rooms.head_of(&joined).await.unwrap().extremities().len(), 2);
        let both = async || {
            let name = current(&rooms, &room, "m.room.name", "").await;
            let topic = current(&rooms, &room, "m.room.topic", "").await;
            assert_eq!(
                (name, topic),
                (Some(json!({"name": "left"})), Some(json!({"topic": "right"})))
            );
        };
        both().await;
        is_sound(&rooms).await;
        let merge = rooms.send(&alice, &room, message("merge")).await.unwrap();
        let merge = load(&rooms, &room, &merge).await;
        assert_eq!(merge.pdu.prev_events, [left, right]);
        assert_eq!(rooms.head_of(&joined).await.unwrap().extremities(), [merge.number]);
        both().await;
        rooms.send(&alice, &room, message("after")).await.unwrap();
        both().await;
        is_sound(&rooms).await;
    }
}

#[tokio::test]
async fn a_ban_on_one_branch_undoes_what_the_banned_did_on_the_other() {
    for version in event::SUPPORTED {
        let rooms = rooms().await;
        let (alice, bob) = (user("alice"), user("bob"));
        let room = open_room(&rooms, version).await;
        let mut levels = current(&rooms, &room, "m.room.power_levels", "").await.unwrap();
        levels["users"][bob.as_str()] = json!(50);
        let levels = state("m.room.power_levels", "", levels);
        let root = rooms.send(&alice, &room, levels).await.unwrap();
        let joined = rooms.load_room(&room).await.unwrap();
        assert_eq!(rooms.head_of(&joined).await.unwrap().joined_count(), 2);

        let ban = state("m.room.member", bob.as_str(), json!({"membership": "ban"}));
        add_after(&rooms, &room, &alice, slice::from_ref(&root), ban).await;
        assert_eq!(rooms.head_of(&joined).await.unwrap().joined_count(), 1);
        let name = state("m.room.name", "", json!({"name": "bob was here"}));
        let name = add_after(&rooms, &room, &bob, &[root], name).await;

        // Version 1 knows no conflict where one branch alone has set something.
        let named = current(&rooms, &room, "m.room.name", "").await;
        assert_eq!(named.is_some(), joined.version == RoomVersionId::V1);
        let banned = current(&rooms, &room, "m.room.member", bob.as_str()).await.unwrap();
        assert_eq!(banned["membership"], "ban");
        assert_eq!(rooms.head_of(&joined).await.unwrap().joined_count(), 1);
        let memberships = rooms.memberships(&bob).await.unwrap();
        assert!(!memberships.is_joined(joined.number));
        let event = load(&rooms, &room, &name).await;
        assert_ne!(event.state_before, event.state_after);
        is_sound(&rooms).await;
        assert!(rooms.send(&bob, &room, message("still here?")).await.is_err());
        rooms.send(&alice, &room, message("merged")).await.unwrap();
        assert_eq!(current(&rooms, &room, "m.room.name", "").await, named);
        is_sound(&rooms).await;
    }
}

#[tokio::test]
async fn an_event_of_ours_follows_a_bounded_number_of_others() {
    let rooms = rooms().await;
    let alice = user("alice");
    let room = open_room(&rooms, RoomVersionId::V12).await;
    let root = newest(&rooms, &room).await;
    for number in 0..25 {
        let content = raw(json!({ "body": number.to_string(), "msgtype": "m.text" }));
        let event = NewEvent::message("m.room.message".into(), content);
        add_after(&rooms, &room, &alice, slice::from_ref(&root), event).await;
    }
    let joined = rooms.load_room(&room).await.unwrap();
    assert_eq!(rooms.head_of(&joined).await.unwrap().extremities().len(), 25);
    let merge = rooms.send(&alice, &room, message("merge")).await.unwrap();
    assert_eq!(load(&rooms, &room, &merge).await.pdu.prev_events.len(), 20);
    assert_eq!(rooms.head_of(&joined).await.unwrap().extremities().len(), 6);
    is_sound(&rooms).await;
}

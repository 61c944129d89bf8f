use std::collections::BTreeMap;

use event::{Draft, Pdu};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId, UInt, UserId, events::room::member::MembershipState,
};
use serde_json::{json, value::to_raw_value};

use super::Far;
use crate::Received;

/// A room with a name and some members, of whom one who joins is told few.
async fn busy_room(far: &Far, version: RoomVersionId) -> OwnedRoomId {
    let alice = far.net.user("alice", 0);
    let room = far.net.room(version).await;
    let name = json!({ "name": "busy" });
    far.net.nodes[0].set(&alice, &room, "m.room.name", "", name).await.unwrap();
    for number in 0..40 {
        let user = format!("user{number}");
        far.join((&user, 0), &room, &[]).await.unwrap();
    }
    room
}

async fn wait(far: &Far, node: usize, room: &OwnedRoomId) {
    let rooms = &far.net.nodes[node].rooms;
    let room = rooms.load_room(room).await.unwrap();
    rooms.wait_until_whole(&room).await;
    assert!(!rooms.is_partial(room.number));
}

#[tokio::test]
async fn a_room_can_be_written_before_its_members_are_known() {
    for version in [RoomVersionId::V6, RoomVersionId::V10, RoomVersionId::V12] {
        let far = Far::new(2).await;
        let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
        let room = busy_room(&far, version).await;
        far.net.wires.no_state.store(true, std::sync::atomic::Ordering::Relaxed);
        far.join(("bob", 1), &room, &[0]).await.unwrap();
        let rooms = far.net.nodes[1].rooms.clone();
        let known = rooms.load_room(&room).await.unwrap();
        assert!(rooms.is_partial(known.number));
        assert_eq!(rooms.whole_since(known.number), None);
        assert!(far.net.nodes[1].state(&room).await.len() < 12);
        far.net.nodes[1].say(&bob, &room, "already here").await;
        far.catch_up(1, 0, &room).await;
        // Of one whom we have not been told of.
        let user = far.net.user("user7", 0);
        far.net.nodes[0].say(&user, &room, "welcome").await;
        far.catch_up(0, 1, &room).await;
        far.leave(("user8", 0), &room).await.unwrap();
        far.catch_up(0, 1, &room).await;
        let topic = json!({ "topic": "new" });
        far.net.nodes[0].set(&alice, &room, "m.room.topic", "", topic).await.unwrap();
        far.catch_up(0, 1, &room).await;
        assert!(rooms.is_partial(known.number));
        // Neither may we answer for the room yet.
        far.net.wires.no_state.store(false, std::sync::atomic::Ordering::Relaxed);
        wait(&far, 1, &room).await;
        assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
        assert_eq!(rooms.joined_members(&bob, &room).await.unwrap().len(), 41);
        assert_eq!(rooms.joined_users(&known).await.unwrap().len(), 41);
        assert_eq!(rooms.head_of(&known).await.unwrap().joined_count(), 41);
        far.net.nodes[1].say(&bob, &room, "still here").await;
        far.are_sound().await;
    }
}

#[tokio::test]
async fn the_members_are_fetched_also_after_a_restart() {
    let mut far = Far::new(2).await;
    let bob = far.net.user("bob", 1);
    let room = busy_room(&far, RoomVersionId::V12).await;
    far.net.wires.no_state.store(true, std::sync::atomic::Ordering::Relaxed);
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.net.restart(1).await;
    let number = far.net.nodes[1].rooms.load_room(&room).await.unwrap().number;
    assert!(far.net.nodes[1].rooms.is_partial(number));
    far.net.nodes[1].say(&bob, &room, "after the restart").await;
    far.net.wires.no_state.store(false, std::sync::atomic::Ordering::Relaxed);
    wait(&far, 1, &room).await;
    far.catch_up(1, 0, &room).await;
    assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
    far.net.restart(1).await;
    let rooms = &far.net.nodes[1].rooms;
    assert!(!rooms.is_partial(number));
    assert!(rooms.whole_since(number).is_some_and(|since| since > store::Position::ZERO));
    far.are_sound().await;
}

/// A message of a user of the third server that names what it likes.
async fn forge(
    far: &Far,
    sender: &UserId,
    room: &OwnedRoomId,
    after: OwnedEventId,
    auth_events: Vec<OwnedEventId>,
) -> Pdu {
    let before = far.net.event(1, room, &after).await;
    let draft = Draft {
        room_id: Some(room.clone()),
        sender: sender.to_owned(),
        kind: "m.room.message".into(),
        state_key: None,
        content: to_raw_value(&json!({ "msgtype": "m.text", "body": "not banned" })).unwrap(),
        redacts: None,
        prev_events: vec![after],
        auth_events,
        reference_hashes: BTreeMap::new(),
        depth: before.depth + UInt::from(1_u32),
        origin_server_ts: before.origin_server_ts,
    };
    let rules = event::rules(&RoomVersionId::V11).unwrap();
    let node = &far.net.nodes[2];
    event::build(draft, &node.name, &node.key, &rules).unwrap()
}

#[tokio::test]
async fn what_only_the_missing_members_seemed_to_allow_is_taken_back() {
    let far = Far::new(3).await;
    let (alice, bob) = (far.net.user("alice", 0), far.net.user("bob", 1));
    let mallory = far.net.user("mallory", 2);
    let room = busy_room(&far, RoomVersionId::V11).await;
    far.join(("mallory", 2), &room, &[0]).await.unwrap();
    wait(&far, 2, &room).await;
    far.catch_up(2, 0, &room).await;
    let state = far.net.nodes[0].state(&room).await;
    let of = |kind: &str, key: &str| state[&(kind.to_owned(), key.to_owned())].clone();
    let allowed_by = vec![
        of("m.room.create", ""),
        of("m.room.power_levels", ""),
        of("m.room.member", mallory.as_str()),
    ];
    far.net.nodes[0].rooms.ban(&alice, &room, &mallory, None).await.unwrap();
    far.net.wires.no_state.store(true, std::sync::atomic::Ordering::Relaxed);
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    // What mallory says follows our join, and names their own join as what allows it.
    let after = far.member_event(1, &bob, &room).await.unwrap();
    let said = forge(&far, &mallory, &room, after, allowed_by).await;
    let received = far.net.give(&said, 2, 1).await.unwrap();
    assert_eq!(received, Received::Accepted);
    far.net.wires.no_state.store(false, std::sync::atomic::Ordering::Relaxed);
    wait(&far, 1, &room).await;
    let known = far.net.nodes[1].rooms.load_room(&room).await.unwrap();
    let event = far.net.nodes[1].rooms.event_by_id(&known, &said.event_id).await.unwrap();
    let shown = event.is_some_and(|event| !event.rejected && !event.soft_failed);
    assert!(!shown);
    assert_eq!(far.seen(1, &mallory, &room).await, Some(MembershipState::Ban));
    let after = far.net.nodes[1].say(&bob, &room, "go on").await;
    let after = far.net.event(1, &room, &after).await;
    far.net.give(&after, 1, 0).await.unwrap();
}

#[tokio::test]
async fn a_state_without_what_we_know_makes_no_room_whole() {
    let far = Far::new(2).await;
    let room = busy_room(&far, RoomVersionId::V11).await;
    *far.net.wires.lie.lock().unwrap() = Some(crate::tests::net::Lie::NoCreate);
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    let rooms = &far.net.nodes[1].rooms;
    let number = rooms.load_room(&room).await.unwrap().number;
    let count = || {
        let asked = far.net.wires.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.ends_with("for state")).count()
    };
    // Once it is asked again, the first answer has been judged.
    while count() < 2 {
        assert!(rooms.is_partial(number));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    *far.net.wires.lie.lock().unwrap() = None;
    wait(&far, 1, &room).await;
    assert_eq!(far.net.nodes[0].state(&room).await, far.net.nodes[1].state(&room).await);
    far.are_sound().await;
}

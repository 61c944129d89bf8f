use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use event::{Draft, ServerKey};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, ServerName, UInt, UserId,
    events::TimelineEventType,
};
use serde_json::{json, value::to_raw_value};
use store::Batch;

use super::JoinedServers;
use crate::{
    append::{Assembly, accept::Place},
    tests::life::Home,
};

/// Sets what a user is, as an event from afar would.
pub(crate) async fn set_member(
    home: &Home,
    room: &RoomId,
    user: &str,
    membership: &str,
) -> OwnedEventId {
    let user = UserId::parse(user).unwrap();
    let mut lane = home.rooms.enter(room).await.unwrap();
    let mut assembly = Assembly::new(&home.rooms, Arc::clone(lane.room()), Arc::clone(&lane.head));
    let prev = assembly.events(&lane.head.extremities.clone()).await.unwrap();
    let draft = Draft {
        room_id: Some(room.to_owned()),
        sender: user.clone(),
        kind: TimelineEventType::RoomMember,
        state_key: Some(user.to_string()),
        content: to_raw_value(&json!({ "membership": membership })).unwrap(),
        redacts: None,
        prev_events: prev.iter().map(|event| event.pdu.event_id.clone()).collect(),
        auth_events: Vec::new(),
        reference_hashes: BTreeMap::new(),
        depth: UInt::new_saturating(lane.head.depth + 1),
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(1)),
    };
    let key = ServerKey::from_parts([7; 32], "k1").unwrap();
    let rules = &lane.room().rules;
    let pdu = event::build(draft, user.server_name(), &key, rules).unwrap();
    let id = pdu.event_id.clone();
    assembly.accept(pdu, Place::at(lane.head.state)).await.unwrap();
    home.rooms.commit(&mut lane, assembly, Batch::new()).await.unwrap();
    id
}

/// The newest event.
async fn newest(home: &Home, room: &RoomId) -> OwnedEventId {
    let room = home.room(room).await;
    let head = home.rooms.head_of(&room).await.unwrap();
    let events = home.rooms.events(&room, head.extremities()).await.unwrap();
    events[0].pdu.event_id.clone()
}

async fn servers(home: &Home, room: &RoomId) -> Arc<JoinedServers> {
    let room = home.room(room).await;
    home.rooms.joined_servers(&room).await.unwrap()
}

async fn told(home: &Home, room: &RoomId, event: &EventId) -> Vec<String> {
    let room = home.room(room).await;
    let event = home.rooms.event_by_id(&room, event).await.unwrap().unwrap();
    let servers: BTreeSet<_> = home.rooms.servers_to_tell(&room, &event).await.unwrap();
    servers.into_iter().map(String::from).collect()
}

#[tokio::test]
async fn the_servers_of_a_room_are_kept_up_to_date() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    assert_eq!(servers(&home, &room).await.len(), 1);
    for (user, membership, expected) in [
        ("@a:one.example", "join", "home.example one.example"),
        ("@b:one.example", "join", "home.example one.example"),
        ("@a:one.example", "leave", "home.example one.example"),
        ("@c:two.example", "invite", "home.example one.example"),
        ("@c:two.example", "join", "home.example one.example two.example"),
        ("@c:two.example", "join", "home.example one.example two.example"),
        ("@b:one.example", "leave", "home.example two.example"),
    ] {
        set_member(&home, &room, user, membership).await;
        let now = servers(&home, &room).await;
        let names: Vec<_> = now.iter().map(|server| server.to_string()).collect();
        assert_eq!(names.join(" "), expected, "after {user} {membership}");
        let known = home.room(&room).await;
        home.rooms.inner.caches.joined_servers.drop_value(&known.number);
        assert_eq!(now.users, servers(&home, &room).await.users, "read anew");
        let state = home.rooms.current_state(&known).await.unwrap();
        let slow = home.rooms.servers_in_state(&known, state).await.unwrap();
        assert_eq!(now.users, slow.users, "found in the state");
    }
    set_member(&home, &room, "@d:two.example", "join").await;
    let now = servers(&home, &room).await;
    assert_eq!(now.by_users()[0], "two.example");
    assert!(now.contains(ServerName::parse("home.example").unwrap().as_ref()));
}

#[tokio::test]
async fn an_event_is_for_those_who_were_there_before_it_however_late_it_is_asked() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let alone = home.say("alice", &room, "alone").await;
    set_member(&home, &room, "@a:one.example", "join").await;
    let to_one = home.say("alice", &room, "to one").await;
    let joins = set_member(&home, &room, "@c:two.example", "join").await;
    let to_both = home.say("alice", &room, "to both").await;
    home.kick("alice", &room, "@a:one.example").await.unwrap();
    let kick = newest(&home, &room).await;
    let to_two = home.say("alice", &room, "to two").await;
    for again in 0..2 {
        assert_eq!(told(&home, &room, &alone).await, [""; 0], "{again}");
        assert_eq!(told(&home, &room, &to_one).await, ["one.example"]);
        assert_eq!(told(&home, &room, &joins).await, ["one.example"]);
        assert_eq!(told(&home, &room, &to_both).await, ["one.example", "two.example"]);
        assert_eq!(told(&home, &room, &kick).await, ["one.example", "two.example"]);
        assert_eq!(told(&home, &room, &to_two).await, ["two.example"]);
        // Many members later the answers are the same.
        for user in 0..40 {
            let user = format!("@u{user}:three{user}.example");
            set_member(&home, &room, &user, "join").await;
        }
    }
}

#[tokio::test]
async fn the_server_of_a_rescinded_invite_is_told() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    set_member(&home, &room, "@c:two.example", "invite").await;
    assert_eq!(told(&home, &room, &home.say("alice", &room, "hush").await).await, [""; 0]);
    home.kick("alice", &room, "@c:two.example").await.unwrap();
    let kick = newest(&home, &room).await;
    assert_eq!(told(&home, &room, &kick).await, ["two.example"]);
}

//! What it costs to resolve states, in events that have to be read.

use std::sync::Arc;

use ruma::{OwnedRoomId, RoomVersionId};
use serde_json::json;

use crate::{
    Rooms, StateRoot,
    append::Assembly,
    tests::{core, net::Net},
};

/// How many events are read when two states of a room are resolved, by one who knows nothing yet.
async fn cost(net: &Net, room: &OwnedRoomId, roots: [StateRoot; 2]) -> usize {
    let rooms: Rooms = core::rooms_on(net.nodes[0].rooms.store().clone()).await;
    let room = rooms.load_room(room).await.unwrap();
    let head = rooms.head_of(&room).await.unwrap();
    let mut assembly = Assembly::new(&rooms, Arc::clone(&room), head);
    let resolved = assembly.resolve(&roots).await.unwrap();
    assert!(!roots.contains(&resolved));
    rooms.inner.caches.events.len()
}

async fn roots(net: &Net, room: &OwnedRoomId) -> [StateRoot; 2] {
    let node = &net.nodes[0];
    let alice = net.user("alice", 0);
    let before = node.extremities(room).await;
    let mut roots = Vec::new();
    for topic in ["left", "right"] {
        net.tick();
        let content = json!({ "topic": topic });
        let pdu = node.force(&alice, room, &before, "m.room.topic", content).await;
        let keys = node.key.public_keys(&node.name);
        let room = node.rooms.load_room(room).await.unwrap();
        let event = event::verify(&pdu.json, &keys, &room.rules).unwrap();
        node.rooms.receive(&node.name, event).await.unwrap();
        let event = node.load(&room.room_id, &pdu.event_id).await.unwrap();
        roots.push(event.state_after);
    }
    let name = json!({ "name": "otherwise the same as the left one" });
    node.set(&alice, room, "m.room.name", "", name).await.unwrap();
    roots.try_into().unwrap()
}

#[tokio::test]
async fn two_states_that_differ_in_little_are_resolved_at_little_cost() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let net = Net::new(1).await;
        let room = net.room(version).await;
        for number in 0..300 {
            let user = net.user(&format!("user{number}"), 0);
            let join = json!({ "membership": "join" });
            net.nodes[0].set(&user, &room, "m.room.member", user.as_str(), join).await.unwrap();
        }
        let roots = roots(&net, &room).await;
        let cost = cost(&net, &room, roots).await;
        assert!(cost < 20, "{cost} events were read");
    }
}

#[tokio::test]
async fn a_long_auth_chain_below_the_difference_is_not_read() {
    let net = Net::new(1).await;
    let room = net.room(RoomVersionId::V12).await;
    let user = net.user("restless", 0);
    for number in 0..400 {
        let membership = if number % 2 == 0 { "join" } else { "leave" };
        let member = json!({ "membership": membership });
        net.nodes[0].set(&user, &room, "m.room.member", user.as_str(), member).await.unwrap();
    }
    let roots = roots(&net, &room).await;
    let cost = cost(&net, &room, roots).await;
    assert!(cost < 20, "{cost} events were read");
}

use std::slice::from_ref;

use ruma::{OwnedEventId, OwnedRoomId, RoomVersionId, ServerName, api::Direction, server_name};
use serde_json::json;

use crate::{
    Gap, Pdu, RoomsError,
    tests::{
        core::state,
        net::{Net, Node},
    },
};

/// Two servers; `@bob` of the second joins a room of `@alice` of the first between two messages.
struct Scene {
    net: Net,
    room: OwnedRoomId,
    early: OwnedEventId,
    late: OwnedEventId,
}

impl Scene {
    async fn new(visibility: &str) -> Self {
        let net = Net::new(3).await;
        let room = net.room(RoomVersionId::V11).await;
        let (alice, bob) = (net.user("alice", 0), net.user("bob", 1));
        let content = json!({ "history_visibility": visibility });
        let event = state("m.room.history_visibility", "", content);
        net.nodes[0].rooms.send(&alice, &room, event).await.unwrap();
        net.tick();
        let early = net.nodes[0].say(&alice, &room, "early").await;
        net.tick();
        net.join(&bob, 1, &room, 0).await;
        let late = net.nodes[0].say(&alice, &room, "late").await;
        Self { net, room, early, late }
    }

    fn host(&self) -> &Node {
        &self.net.nodes[0]
    }

    fn guest(&self) -> &ServerName {
        &self.net.nodes[1].name
    }

    async fn backfill(&self) -> Vec<std::sync::Arc<Pdu>> {
        let from = [self.late.clone()];
        self.host().rooms.backfill_for(self.guest(), &self.room, &from, 100).await.unwrap()
    }

    /// What the guest is shown of an event.
    async fn content(&self, id: &OwnedEventId) -> String {
        let events = self.backfill().await;
        let event = events.iter().find(|pdu| pdu.event_id == *id).unwrap();
        event.content.get().to_owned()
    }

    async fn kick(&self) -> OwnedEventId {
        let bob = self.net.user("bob", 1);
        let leave = state("m.room.member", bob.as_str(), json!({ "membership": "leave" }));
        self.host().rooms.send(&self.net.user("alice", 0), &self.room, leave).await.unwrap()
    }
}

fn is_forbidden<T: std::fmt::Debug>(result: Result<T, RoomsError>) -> bool {
    matches!(result, Err(RoomsError::Forbidden { .. }))
}

#[tokio::test]
async fn history_comes_newest_first_and_back_to_the_beginning() {
    let scene = Scene::new("shared").await;
    let events = scene.backfill().await;
    assert_eq!(events.first().unwrap().event_id, scene.late);
    assert_eq!(events.last().unwrap().kind.to_string(), "m.room.create");
    assert!(scene.content(&scene.early).await.contains("early"));
    let depths: Vec<u64> = events.iter().map(|pdu| pdu.depth.into()).collect();
    assert!(depths.is_sorted_by(|newer, older| newer >= older), "{depths:?}");
    let rooms = &scene.host().rooms;
    let from = [scene.late.clone()];
    let some = rooms.backfill_for(scene.guest(), &scene.room, &from, 2).await.unwrap();
    assert_eq!(some.len(), 2);
}

#[tokio::test]
async fn what_was_said_before_a_server_came_is_redacted_where_the_room_wants_it() {
    for visibility in ["joined", "invited"] {
        let scene = Scene::new(visibility).await;
        assert_eq!(scene.content(&scene.early).await, "{}", "{visibility}");
        assert!(scene.content(&scene.late).await.contains("late"), "{visibility}");
        let rooms = &scene.host().rooms;
        let event = rooms.event_for(scene.guest(), &scene.early).await.unwrap();
        assert_eq!(event.content.get(), "{}", "{visibility}");
    }
}

#[tokio::test]
async fn a_server_that_never_was_in_the_room_gets_nothing() {
    let scene = Scene::new("world_readable").await;
    let (rooms, room, late) = (&scene.host().rooms, &scene.room, &scene.late);
    let stranger = scene.net.nodes[2].name.clone();
    assert!(is_forbidden(rooms.event_for(&stranger, late).await));
    assert!(is_forbidden(rooms.backfill_for(&stranger, room, from_ref(late), 5).await));
    assert!(is_forbidden(rooms.state_for(&stranger, room, late).await));
    assert!(is_forbidden(rooms.auth_chain_for(&stranger, room, late).await));
    let near = rooms.event_near_for(&stranger, room, 0, Direction::Forward).await;
    assert!(is_forbidden(near));
    let unknown = ruma::room_id!("!nothing:s0.test");
    let error = rooms.state_for(scene.guest(), unknown, late).await.unwrap_err();
    assert!(matches!(error, RoomsError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_was_put_out_still_learns_how_but_nothing_later() {
    let scene = Scene::new("shared").await;
    let (rooms, room) = (&scene.host().rooms, &scene.room);
    let kick = scene.kick().await;
    let after = scene.host().say(&scene.net.user("alice", 0), room, "gone").await;
    let event = rooms.event_for(scene.guest(), &kick).await.unwrap();
    assert!(event.content.get().contains("leave"));
    rooms.state_for(scene.guest(), room, &kick).await.unwrap();
    assert!(is_forbidden(rooms.state_for(scene.guest(), room, &after).await));
    let secret = rooms.event_for(scene.guest(), &after).await.unwrap();
    assert_eq!(secret.content.get(), "{}");
    let events = rooms.backfill_for(scene.guest(), room, from_ref(&after), 100).await.unwrap();
    assert_eq!(events.first().unwrap().event_id, kick);
}

#[tokio::test]
async fn a_gap_is_filled_with_what_lies_between_the_oldest_first() {
    let scene = Scene::new("shared").await;
    let (rooms, room) = (&scene.host().rooms, &scene.room);
    let alice = scene.net.user("alice", 0);
    let mut said = Vec::new();
    for number in 0..6 {
        said.push(scene.host().say(&alice, room, &number.to_string()).await);
    }
    let gap = |limit| Gap {
        latest: vec![said[5].clone()],
        earliest: vec![scene.late.clone()],
        min_depth: 0,
        limit,
    };
    let ids = async |gap: &Gap| -> Vec<OwnedEventId> {
        let events = rooms.missing_events_for(scene.guest(), room, gap).await.unwrap();
        events.iter().map(|pdu| pdu.event_id.clone()).collect()
    };
    assert_eq!(ids(&gap(10)).await, said[..5]);
    // Those nearest to the event that is known of come first.
    assert_eq!(ids(&gap(2)).await, said[3..5]);
    assert_eq!(ids(&gap(0)).await, Vec::<OwnedEventId>::new());
    let depth = rooms.event_for(scene.guest(), &said[4]).await.unwrap().depth;
    let shallow = Gap { min_depth: depth.into(), ..gap(10) };
    assert_eq!(ids(&shallow).await, said[4..5]);
}

#[tokio::test]
async fn the_state_is_that_before_the_event_with_all_that_allows_it() {
    let scene = Scene::new("shared").await;
    let (rooms, room) = (&scene.host().rooms, &scene.room);
    let alice = scene.net.user("alice", 0);
    let topic = |text: &str| state("m.room.topic", "", json!({ "topic": text }));
    let first = rooms.send(&alice, room, topic("first")).await.unwrap();
    let second = rooms.send(&alice, room, topic("second")).await.unwrap();
    let (_, state) = rooms.state_for(scene.guest(), room, &second).await.unwrap();
    let ids: Vec<_> = state.state.iter().map(|(_, id)| id.clone()).collect();
    assert!(ids.contains(&first) && !ids.contains(&second));
    let chain: Vec<_> = state.auth_chain.iter().map(|(_, id)| id.clone()).collect();
    let whole = rooms.auth_chain_for(scene.guest(), room, &second).await.unwrap();
    assert!(whole.iter().all(|pdu| chain.contains(&pdu.event_id)));
    assert!(whole.iter().any(|pdu| pdu.kind.to_string() == "m.room.create"));
    let create = whole.first().unwrap();
    let (_, nothing) = rooms.state_for(scene.guest(), room, &create.event_id).await.unwrap();
    assert!(nothing.state.is_empty() && nothing.auth_chain.is_empty());
    let unknown = ruma::event_id!("$unknown");
    let error = rooms.state_for(scene.guest(), room, unknown).await.unwrap_err();
    assert!(matches!(error, RoomsError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_the_list_denies_gets_nothing() {
    let scene = Scene::new("shared").await;
    let (rooms, room) = (&scene.host().rooms, &scene.room);
    let content = json!({ "allow": ["*"], "deny": ["s1.test"] });
    let acl = state("m.room.server_acl", "", content);
    rooms.send(&scene.net.user("alice", 0), room, acl).await.unwrap();
    let (guest, late) = (scene.guest(), &scene.late);
    assert!(is_forbidden(rooms.backfill_for(guest, room, from_ref(late), 5).await));
    assert!(is_forbidden(rooms.state_for(guest, room, late).await));
    assert!(is_forbidden(rooms.auth_chain_for(guest, room, late).await));
    let gap = Gap { latest: vec![late.clone()], earliest: Vec::new(), min_depth: 0, limit: 5 };
    assert!(is_forbidden(rooms.missing_events_for(guest, room, &gap).await));
    assert!(
        rooms
            .acl_allows(&rooms.load_room(room).await.unwrap(), server_name!("x.test"))
            .await
            .unwrap()
    );
}

#[tokio::test]
async fn an_event_is_found_by_its_time() {
    let scene = Scene::new("shared").await;
    let (rooms, room) = (&scene.host().rooms, &scene.room);
    let early = rooms.event_for(scene.guest(), &scene.early).await.unwrap();
    let time: u64 = early.origin_server_ts.0.into();
    for direction in [Direction::Forward, Direction::Backward] {
        let found = rooms.event_near_for(scene.guest(), room, time, direction).await.unwrap();
        assert_eq!(found, (scene.early.clone(), time));
    }
    let future = rooms.event_near_for(scene.guest(), room, time + 1_000_000, Direction::Forward);
    assert!(matches!(future.await.unwrap_err(), RoomsError::NotFound { .. }));
}

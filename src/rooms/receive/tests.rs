mod cost;
mod liars;
mod random;

use std::collections::HashMap;

use ruma::{OwnedRoomId, OwnedUserId, RoomVersionId};
use serde_json::json;

use super::fetch::{Receiving, is_passing};
use crate::{NewEvent, Received, RemoteError, RoomsError, tests::net::Net};

/// Two servers or more in a room, with a user each.
async fn together(count: u8, version: RoomVersionId) -> (Net, OwnedRoomId, Vec<OwnedUserId>) {
    let net = Net::new(count).await;
    let room = net.room(version).await;
    let mut users = vec![net.user("alice", 0)];
    for node in 1..usize::from(count) {
        let user = net.user("user", node);
        net.join(&user, node, &room, 0).await;
        let join = net.nodes[0].extremities(&room).await.into_iter().next().unwrap();
        let join = net.event(0, &room, &join).await;
        for other in 1..node {
            net.give(&join, node, other).await.unwrap();
        }
        users.push(user);
    }
    (net, room, users)
}

#[tokio::test]
async fn an_event_goes_both_ways_in_every_version() {
    for version in event::SUPPORTED {
        let (net, room, users) = together(2, version).await;
        for (from, to) in [(0, 1), (1, 0)] {
            let id = net.nodes[from].say(&users[from], &room, "hello").await;
            let pdu = net.event(from, &room, &id).await;
            assert_eq!(net.give(&pdu, from, to).await.unwrap(), Received::Accepted);
            assert_eq!(net.give(&pdu, from, to).await.unwrap(), Received::Known);
        }
        assert_eq!(net.nodes[0].state(&room).await, net.nodes[1].state(&room).await);
        assert_eq!(net.nodes[0].extremities(&room).await, net.nodes[1].extremities(&room).await);
        net.nodes[0].is_sound().await;
        net.nodes[1].is_sound().await;
    }
}

#[tokio::test]
async fn missing_events_are_fetched_from_who_sent_the_one_after_them() {
    let (net, room, users) = together(2, RoomVersionId::V11).await;
    let mut last = None;
    for number in 0..70 {
        last = Some(net.nodes[0].say(&users[0], &room, &number.to_string()).await);
    }
    let last = net.event(0, &room, &last.unwrap()).await;
    let ready = net.verified(&last, &net.nodes[1].rooms.load_room(&room).await.unwrap());
    let waits = net.nodes[1].rooms.receive_if_ready(&net.nodes[0].name, ready).await.unwrap();
    assert_eq!(waits, None);
    assert_eq!(net.give(&last, 0, 1).await.unwrap(), Received::Accepted);
    assert_eq!(net.nodes[1].accepted(&room).await.len(), 71);
    assert_eq!(net.nodes[0].extremities(&room).await, net.nodes[1].extremities(&room).await);
    let asked = net.wires.asked.lock().unwrap().clone();
    assert_eq!(asked, vec!["s1.test asks s0.test for missing events"; 4]);
    net.nodes[1].is_sound().await;
}

#[tokio::test]
async fn a_hole_that_nobody_fills_is_bridged_by_the_state_behind_it() {
    for version in [RoomVersionId::V1, RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        let (net, room, users) = together(2, version).await;
        let lost = net.nodes[0].say(&users[0], &room, "lost").await;
        let topic = json!({ "topic": "dusk" });
        let topic = net.nodes[0].set(&users[0], &room, "m.room.topic", "", topic).await.unwrap();
        let name = json!({ "name": "Pond" });
        net.nodes[0].set(&users[0], &room, "m.room.name", "", name).await.unwrap();
        let last = net.nodes[0].say(&users[0], &room, "after").await;
        let last = net.event(0, &room, &last).await;
        net.wires.lost.lock().unwrap().insert(lost.clone());
        assert_eq!(net.give(&last, 0, 1).await.unwrap(), Received::Accepted);
        let accepted = net.nodes[1].accepted(&room).await;
        assert!(!accepted.contains(&lost) && !accepted.contains(&topic));
        // The topic itself follows what is lost, so its place is not known: the next one has it.
        assert_eq!(net.nodes[0].state(&room).await, net.nodes[1].state(&room).await);
        assert_eq!(net.nodes[1].extremities(&room).await.len(), 2);
        net.nodes[1].is_sound().await;
        // What comes late is no new end of the graph: something follows it already.
        net.wires.lost.lock().unwrap().clear();
        for id in [&lost, &topic] {
            let late = net.event(0, &room, id).await;
            assert_eq!(net.give(&late, 0, 1).await.unwrap(), Received::Accepted, "{id}");
        }
        let ends = net.nodes[1].extremities(&room).await;
        assert!(ends.iter().eq([&last.event_id]));
        assert_eq!(net.nodes[0].state(&room).await, net.nodes[1].state(&room).await);
        net.nodes[1].is_sound().await;
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_now_can_be_later() {
    let (net, room, users) = together(3, RoomVersionId::V10).await;
    net.nodes[0].say(&users[0], &room, "first").await;
    let last = net.nodes[0].say(&users[0], &room, "second").await;
    let last = net.event(0, &room, &last).await;
    net.cut(0, 1);
    let failed = net.give(&last, 0, 1).await;
    assert!(matches!(failed, Err(RoomsError::Incomplete { .. })), "{failed:?}");
    net.heal();
    assert_eq!(net.give(&last, 0, 1).await.unwrap(), Received::Accepted);
}

#[tokio::test]
async fn a_redaction_before_its_target_takes_effect_when_that_comes() {
    for version in [RoomVersionId::V10, RoomVersionId::V12] {
        let (net, room, users) = together(2, version).await;
        let said = net.nodes[0].say(&users[0], &room, "secret").await;
        let said_pdu = net.event(0, &room, &said).await;
        let redaction = NewEvent::redaction(said.clone(), None);
        let redaction = net.nodes[0].rooms.send(&users[0], &room, redaction).await.unwrap();
        let redaction = net.event(0, &room, &redaction).await;
        net.wires.lost.lock().unwrap().insert(said.clone());
        // Nobody gives the event: the redaction stands behind a hole.
        let received = net.give(&redaction, 0, 1).await.unwrap();
        assert!(matches!(received, Received::Rejected { .. }), "{received:?}");
        net.wires.lost.lock().unwrap().clear();
        assert_eq!(net.give(&redaction, 0, 1).await.unwrap(), Received::Accepted);
        let said = net.nodes[1].load(&room, &said).await.unwrap();
        assert_eq!(said.redacted_by, Some(redaction.event_id.clone()));
        assert!(!said.pdu.json.contains("secret") && said_pdu.json.contains("secret"));
        net.nodes[1].is_sound().await;
    }
}

#[tokio::test]
async fn loose_ends_are_tied_up_when_they_become_too_many() {
    let (net, room, users) = together(2, RoomVersionId::V11).await;
    let before = net.nodes[0].extremities(&room).await;
    let mut pdus = Vec::new();
    for number in 0..12 {
        // Twelve events that do not know of each other.
        let id = net.nodes[0].say_after(&users[0], &room, &before, &number.to_string()).await;
        pdus.push(net.event(0, &room, &id).await);
    }
    for pdu in &pdus {
        assert_eq!(net.give(pdu, 0, 1).await.unwrap(), Received::Accepted);
        assert!(net.nodes[1].extremities(&room).await.len() <= 10);
    }
    let events = crate::tests::core::all_events(&net.nodes[1].rooms, &room).await;
    let dummy = events.iter().find(|event| event.pdu.kind.to_string() == super::DUMMY_EVENT);
    let dummy = dummy.unwrap();
    assert_eq!(dummy.pdu.sender, users[1]);
    let page = net.nodes[1].page(&users[1], &room, None, 100).await;
    assert!(page.chunk.iter().all(|event| event.event.number != dummy.number));
    assert_eq!(net.give(&dummy.pdu, 1, 0).await.unwrap(), Received::Accepted);
    net.nodes[1].is_sound().await;
}

#[tokio::test]
async fn what_one_banned_says_on_another_branch_is_kept_and_not_shown() {
    let (net, room, users) = together(3, RoomVersionId::V12).await;
    let said = net.nodes[1].say(&users[1], &room, "hello").await;
    let said = net.event(1, &room, &said).await;
    let ban = json!({ "membership": "ban" });
    let kind = "m.room.member";
    let ban = net.nodes[0].set(&users[0], &room, kind, users[1].as_str(), ban).await.unwrap();
    let ban = net.event(0, &room, &ban).await;
    assert_eq!(net.give(&ban, 0, 2).await.unwrap(), Received::Accepted);
    let received = net.give(&said, 1, 2).await.unwrap();
    assert!(matches!(received, Received::SoftFailed { .. }), "{received:?}");
    let kept = net.nodes[2].load(&room, &said.event_id).await.unwrap();
    assert!(kept.soft_failed);
    let ends = net.nodes[2].extremities(&room).await;
    assert!(ends.iter().eq([&ban.event_id]));
    // Somebody who had seen it says something after it: all of it is tied together again.
    assert_eq!(net.give(&said, 1, 0).await.unwrap().clone(), received);
    let both = [ban.event_id.clone(), said.event_id.clone()].into();
    let after = net.nodes[0].say_after(&users[0], &room, &both, "after").await;
    let after = net.event(0, &room, &after).await;
    assert_eq!(net.give(&after, 0, 2).await.unwrap(), Received::Accepted);
    let ends = net.nodes[2].extremities(&room).await;
    assert!(ends.iter().eq([&after.event_id]));
    net.nodes[2].is_sound().await;
}

#[tokio::test]
async fn an_event_that_the_rules_refuse_is_kept_as_rejected() {
    let (net, room, users) = together(2, RoomVersionId::V11).await;
    let before = net.nodes[1].extremities(&room).await;
    let topic = json!({ "topic": "mine" });
    let refused = net.nodes[1].force(&users[1], &room, &before, "m.room.topic", topic).await;
    let received = net.give(&refused, 1, 0).await.unwrap();
    assert!(matches!(received, Received::Rejected { .. }), "{received:?}");
    assert!(net.nodes[0].load(&room, &refused.event_id).await.unwrap().rejected);
    assert_eq!(net.give(&refused, 1, 0).await.unwrap(), Received::Known);
    assert!(!net.nodes[0].state(&room).await.contains_key(&("m.room.topic".into(), "".into())));
    net.nodes[0].is_sound().await;
}

#[tokio::test]
async fn a_state_that_is_not_given_wholly_is_not_believed() {
    let (net, room, users) = together(2, RoomVersionId::V11).await;
    for number in 0..80 {
        let key = number.to_string();
        net.nodes[0].set(&users[0], &room, "test.kind", &key, json!({})).await.unwrap();
    }
    let last = net.nodes[0].say(&users[0], &room, "last").await;
    let known = net.nodes[1].rooms.load_room(&room).await.unwrap();
    let server = &net.nodes[0].name;
    let no_state = &net.wires.no_state;
    no_state.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut receiving = Receiving::new(&net.nodes[1].rooms, known, server);
    let mut pool = HashMap::new();
    let missed = receiving.state_before(server, &last, &mut pool).await.unwrap();
    assert!(missed.is_err() && receiving.unreached);
    no_state.store(false, std::sync::atomic::Ordering::Relaxed);
    let state = receiving.state_before(server, &last, &mut pool).await.unwrap().unwrap();
    assert_eq!(state.len(), net.nodes[0].state(&room).await.len());
}

#[test]
fn only_passing_failures_are_worth_another_try() {
    let server = || ruma::ServerName::parse("other.test").unwrap();
    for (status, passing) in [(400, false), (403, false), (404, false), (429, true), (502, true)] {
        let (errcode, message) = (String::new(), String::new());
        let server = server();
        let refused = RemoteError::Refused { server, status, errcode, message, room_version: None };
        assert_eq!(is_passing(&refused), passing, "{status}");
    }
    assert!(is_passing(&RemoteError::Unreachable { server: server(), why: String::new() }));
    assert!(!is_passing(&RemoteError::BadAnswer { server: server(), why: String::new() }));
}

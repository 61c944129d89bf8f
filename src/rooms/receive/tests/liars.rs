//! Servers that answer, but not what is so.

use ruma::RoomVersionId;
use serde_json::json;

use super::together;
use crate::{Received, tests::net::Lie};

#[tokio::test]
async fn a_state_that_makes_no_sense_is_believed_by_nobody() {
    for lie in [Lie::NoCreate, Lie::Twice] {
        let (net, room, users) = together(2, RoomVersionId::V11).await;
        let topic = json!({ "topic": "none" });
        let topic = net.nodes[0].set(&users[0], &room, "m.room.topic", "", topic).await.unwrap();
        let topic = net.event(0, &room, &topic).await;
        assert_eq!(net.give(&topic, 0, 1).await.unwrap(), Received::Accepted);
        let lost = net.nodes[0].say(&users[0], &room, "lost").await;
        let topic = json!({ "topic": "one" });
        net.nodes[0].set(&users[0], &room, "m.room.topic", "", topic).await.unwrap();
        let after = net.nodes[0].say(&users[0], &room, "after").await;
        let topic = json!({ "topic": "two" });
        net.nodes[0].set(&users[0], &room, "m.room.topic", "", topic).await.unwrap();
        net.wires.lost.lock().unwrap().insert(lost);
        *net.wires.lie.lock().unwrap() = Some(lie);
        let after = net.event(0, &room, &after).await;
        let before = net.nodes[1].state(&room).await;
        let received = net.give(&after, 0, 1).await.unwrap();
        assert!(matches!(received, Received::Rejected { .. }), "{lie:?}: {received:?}");
        assert_eq!(net.nodes[1].state(&room).await, before);
        net.nodes[1].is_sound().await;
        *net.wires.lie.lock().unwrap() = None;
        assert_eq!(net.give(&after, 0, 1).await.unwrap(), Received::Accepted, "{lie:?}");
        net.nodes[1].is_sound().await;
    }
}

#[tokio::test]
async fn what_was_not_asked_for_changes_nothing() {
    let (net, room, users) = together(2, RoomVersionId::V12).await;
    let lost = net.nodes[0].say(&users[0], &room, "lost").await;
    net.nodes[0].say(&users[0], &room, "between").await;
    let after = net.nodes[0].say(&users[0], &room, "after").await;
    for number in 0..30 {
        net.nodes[0].say(&users[0], &room, &format!("later {number}")).await;
    }
    net.wires.lost.lock().unwrap().insert(lost);
    *net.wires.lie.lock().unwrap() = Some(Lie::Unasked);
    let after = net.event(0, &room, &after).await;
    assert_eq!(net.give(&after, 0, 1).await.unwrap(), Received::Accepted);
    assert!(net.nodes[1].extremities(&room).await.contains(&after.event_id));
    net.nodes[1].is_sound().await;
}

#[tokio::test]
async fn an_answer_that_never_ends_costs_a_bounded_number_of_requests() {
    let (net, room, users) = together(2, RoomVersionId::V10).await;
    for number in 0..200 {
        net.nodes[0].say(&users[0], &room, &number.to_string()).await;
    }
    let last = net.nodes[0].say(&users[0], &room, "last").await;
    let last = net.event(0, &room, &last).await;
    *net.wires.lie.lock().unwrap() = Some(Lie::Endless);
    let received = net.give(&last, 0, 1).await.unwrap();
    assert!(matches!(received, Received::Rejected { .. }), "{received:?}");
    let asked = net.wires.asked.lock().unwrap().len();
    assert!(asked < 100, "{asked} requests");
    net.nodes[1].is_sound().await;
}

use ruma::{RoomVersionId, events::room::member::MembershipState};
use serde_json::{Value as JsonValue, json};

use super::Far;
use crate::{JoinAnswer, RemoteError, RoomsError, tests::net::Lies};

/// Tries to join over a server that lies: it is blamed, and nothing is left behind.
async fn is_blamed(version: RoomVersionId, lies: Lies) {
    let far = Far::new(2).await;
    let room = far.net.room(version).await;
    *far.net.wires.lies.lock().unwrap() = lies;
    let before = far.net.nodes[1].rooms.store().position();
    let refused = far.join(("bob", 1), &room, &[0]).await;
    let Err(RoomsError::Servers { failures }) = &refused else { panic!("{refused:?}") };
    assert!(matches!(&failures[..], [RemoteError::BadAnswer { .. }]), "{failures:?}");
    assert_eq!(far.net.nodes[1].rooms.store().position(), before);
    assert!(far.net.nodes[1].rooms.room(&room).await.unwrap().is_none());
    assert_eq!(far.membership(("bob", 1), &room).await, None);
    // The truth is believed again.
    *far.net.wires.lies.lock().unwrap() = Lies::default();
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    far.are_sound().await;
}

#[tokio::test]
async fn nothing_is_signed_but_the_step_that_was_asked_for() {
    let lies: [fn(&mut JsonValue); 9] = [
        |event| event["room_id"] = json!("!other:s0.test"),
        |event| event["sender"] = json!("@carol:s1.test"),
        |event| event["state_key"] = json!("@carol:s1.test"),
        |event| event["type"] = json!("m.room.message"),
        |event| event["content"] = json!({ "membership": "ban" }),
        |event| event["content"] = json!("join"),
        |event| event["prev_events"] = json!({}),
        |event| event["depth"] = json!(-1),
        |event| event["auth_events"] = json!(vec!["$x"; 11]),
    ];
    for lie in lies {
        is_blamed(RoomVersionId::V11, Lies { template: Some(lie), join: None }).await;
    }
}

#[tokio::test]
async fn what_a_template_says_besides_is_not_signed() {
    let far = Far::new(2).await;
    let bob = far.net.user("bob", 1);
    let room = far.net.room(RoomVersionId::V11).await;
    let lie: fn(&mut JsonValue) = |event| {
        event["content"]["displayname"] = json!("Mallory");
        event["unsigned"] = json!({ "age": 1 });
        event["redacts"] = json!("$x");
        event["origin_server_ts"] = json!(1);
    };
    *far.net.wires.lies.lock().unwrap() = Lies { template: Some(lie), join: None };
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    let join = far.member_event(0, &bob, &room).await.unwrap();
    let join = far.net.event(0, &room, &join).await;
    assert!(!join.json.contains("Mallory"), "{}", join.json);
    assert!(!join.json.contains("redacts"), "{}", join.json);
    assert!(u64::from(join.origin_server_ts.0) > 1);
}

#[tokio::test]
async fn a_state_that_makes_no_room_is_refused() {
    let lies: [fn(&mut JoinAnswer); 3] = [
        // No create event.
        |answer| answer.state.retain(|event| event.pdu().kind.to_string() != "m.room.create"),
        // Nothing that lets anybody in.
        |answer| answer.state.retain(|event| event.pdu().kind.to_string() == "m.room.create"),
        // Nothing at all.
        |answer| {
            answer.state.clear();
            answer.auth_chain.clear();
        },
    ];
    for lie in lies {
        for version in [RoomVersionId::V6, RoomVersionId::V12] {
            is_blamed(version, Lies { template: None, join: Some(lie) }).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_names_too_many_others_is_not_remembered_for_all() {
    let far = Far::new(2).await;
    let alice = far.net.user("alice", 0);
    let room = far.net.room(RoomVersionId::V11).await;
    let name = json!({ "name": "a" });
    far.net.nodes[0].set(&alice, &room, "m.room.name", "", name).await.unwrap();
    far.net.wires.no_state.store(true, std::sync::atomic::Ordering::Relaxed);
    let lie: fn(&mut JoinAnswer) = |answer| {
        answer.servers_in_room = (0..10_000)
            .map(|number| ruma::ServerName::parse(format!("x{number}.test")).unwrap())
            .collect();
    };
    *far.net.wires.lies.lock().unwrap() = Lies { template: None, join: Some(lie) };
    far.join(("bob", 1), &room, &[0]).await.unwrap();
    let rooms = &far.net.nodes[1].rooms;
    let known = rooms.load_room(&room).await.unwrap();
    let row = rooms.partial_row(known.number).await.unwrap().unwrap();
    assert!(row.servers.len() <= 1 + crate::partial::SERVERS_MAX);
    assert_eq!(row.servers[0], far.net.nodes[0].name);
    assert_eq!(far.membership(("bob", 1), &room).await, Some(MembershipState::Join));
}

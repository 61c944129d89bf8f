use ruma::{RoomVersionId, events::StateEventType};
use serde_json::json;
use store::Store;

use super::{all_events, current, load, message, raw, rooms, rooms_on, state, user, wish};
use crate::{NewEvent, NewRoom, RoomsError, TxnKey};

fn txn(device: &str, id: &str) -> TxnKey {
    TxnKey { device_id: device.to_owned(), txn_id: id.to_owned() }
}

#[tokio::test]
async fn a_transaction_is_done_once_per_device_and_type() {
    let rooms = rooms().await;
    let alice = user("alice");
    let room = rooms.create(&alice, NewRoom::default()).await.unwrap();
    let first = rooms.send(&alice, &room, message("a").txn(txn("D", "1"))).await.unwrap();
    let again = rooms.send(&alice, &room, message("b").txn(txn("D", "1"))).await.unwrap();
    assert_eq!(first, again);
    let other = rooms.send(&alice, &room, message("a").txn(txn("E", "1"))).await.unwrap();
    assert_ne!(first, other);
    let kind = NewEvent::message("org.example".into(), raw(json!({}))).txn(txn("D", "1"));
    assert_ne!(first, rooms.send(&alice, &room, kind).await.unwrap());
    let stored = load(&rooms, &room, &first).await;
    let made = stored.txn.clone().unwrap();
    assert_eq!((made.device_id.as_str(), made.txn_id.as_str()), ("D", "1"));
}

#[tokio::test]
async fn one_transaction_sent_by_many_at_once_makes_one_event() {
    let rooms = rooms().await;
    let room = rooms.create(&user("alice"), NewRoom::default()).await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (rooms, room) = (rooms.clone(), room.clone());
            let event = message("once").txn(txn("D", "same"));
            tokio::spawn(async move { rooms.send(&user("alice"), &room, event).await.unwrap() })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.push(task.await.unwrap());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn events_sent_at_once_stand_in_one_line() {
    let rooms = rooms().await;
    let room = rooms.create(&user("alice"), NewRoom::default()).await.unwrap();
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            let (rooms, room) = (rooms.clone(), room.clone());
            let event = message(&number.to_string());
            tokio::spawn(async move { rooms.send(&user("alice"), &room, event).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let events = all_events(&rooms, &room).await;
    for pair in events.windows(2) {
        assert_eq!(pair[1].pdu.prev_events, [pair[0].pdu.event_id.clone()]);
        assert!((pair[0].position, pair[0].index) < (pair[1].position, pair[1].index));
        assert_eq!(pair[0].state_after, pair[1].state_before);
        assert!(pair[0].pdu.depth < pair[1].pdu.depth);
    }
}

#[tokio::test]
async fn a_request_given_up_in_the_middle_is_not_half_done() {
    let rooms = rooms().await;
    let alice = user("alice");
    let room = rooms.create(&alice, NewRoom::default()).await.unwrap();
    for polls in 0..40 {
        let event = message("given up").txn(txn("D", &polls.to_string()));
        let mut sending = Box::pin(rooms.send(&alice, &room, event.clone()));
        for _ in 0..polls {
            if futures_util::poll!(&mut sending).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(sending);
        let after = rooms.send(&alice, &room, message("after")).await.unwrap();
        let again = rooms.send(&alice, &room, event.clone()).await.unwrap();
        assert_eq!(again, rooms.send(&alice, &room, event).await.unwrap());
        assert_ne!(after, again);
    }
    let events = all_events(&rooms, &room).await;
    for pair in events.windows(2) {
        assert_eq!(pair[1].pdu.prev_events, [pair[0].pdu.event_id.clone()]);
    }
}

#[tokio::test]
async fn a_state_that_does_not_change_makes_no_event() {
    let rooms = rooms().await;
    let alice = user("alice");
    let room = rooms.create(&alice, NewRoom::default()).await.unwrap();
    let name = |name: &str| state("m.room.name", "", json!({ "name": name, "x": [1, 2] }));
    let first = rooms.send(&alice, &room, name("one")).await.unwrap();
    assert_eq!(rooms.send(&alice, &room, name("one")).await.unwrap(), first);
    let second = rooms.send(&alice, &room, name("two")).await.unwrap();
    assert_ne!(second, first);
    let stored = load(&rooms, &room, &second).await;
    assert_eq!(stored.prev_state, Some(first));
}

#[tokio::test]
async fn what_the_rules_refuse_is_not_written() {
    let rooms = rooms().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let room = rooms.create(&alice, wish(RoomVersionId::V11)).await.unwrap();
    let before = rooms.store().position();
    let stranger = rooms.send(&bob, &room, message("hi")).await;
    assert!(matches!(stranger, Err(RoomsError::Forbidden { .. })), "{stranger:?}");
    let unknown = rooms.send(&alice, ruma::room_id!("!no:where"), message("hi")).await;
    assert!(matches!(unknown, Err(RoomsError::NotFound { .. })), "{unknown:?}");
    let large = rooms.send(&alice, &room, message(&"x".repeat(70_000))).await;
    assert!(matches!(large, Err(RoomsError::TooLarge { .. })), "{large:?}");
    let float = NewEvent::message("a.b".into(), raw(json!({"n": 1.5})));
    assert!(matches!(rooms.send(&alice, &room, float).await, Err(RoomsError::Event(_))));
    let list = NewEvent::message("a.b".into(), raw(json!([1])));
    assert!(matches!(rooms.send(&alice, &room, list).await, Err(RoomsError::Event(_))));
    let remote = ruma::user_id!("@x:elsewhere.example");
    let remote = rooms.send(remote, &room, message("hi")).await;
    assert!(matches!(remote, Err(RoomsError::Remote { .. })), "{remote:?}");
    let create = rooms.send(&alice, &room, state("m.room.create", "", json!({}))).await;
    assert!(create.is_err());
    let bad_levels = state("m.room.power_levels", "", json!({"users": {"nobody": 1}}));
    assert!(rooms.send(&alice, &room, bad_levels).await.is_err());
    assert_eq!(rooms.store().position(), before);
}

#[tokio::test]
async fn everything_is_the_same_after_a_restart() {
    let store = Store::memory();
    let alice = user("alice");
    let rooms = rooms_on(store.clone()).await;
    let room_id = rooms.create(&alice, NewRoom::default()).await.unwrap();
    for number in 0..40 {
        let key = number.to_string();
        rooms
            .send(&alice, &room_id, state("org.example", &key, json!({"n": number})))
            .await
            .unwrap();
        rooms.send(&alice, &room_id, message(&key).txn(txn("D", &key))).await.unwrap();
    }
    let events = all_events(&rooms, &room_id).await;
    rooms.stop().await;

    let again = rooms_on(store).await;
    let room = again.load_room(&room_id).await.unwrap();
    for (before, after) in events.iter().zip(all_events(&again, &room_id).await) {
        assert_eq!(before.pdu.json, after.pdu.json);
        assert_eq!(before.pdu.event_id, after.pdu.event_id);
        assert_eq!(before.position, after.position);
        assert_eq!(before.meta(), after.meta());
        let state = again.state_at(&room, before.position).await.unwrap();
        if before.position > events[0].position {
            assert_eq!(state, Some(before.state_after));
        }
    }
    let first = again.send(&alice, &room_id, message("x").txn(txn("D", "7"))).await.unwrap();
    assert_eq!(current(&again, &room_id, "org.example", "7").await.unwrap(), json!({"n": 7}));
    assert!(events.iter().any(|event| event.pdu.event_id == first));
    again.send(&alice, &room_id, message("goes on")).await.unwrap();
    let before_all = store::Position::new(events[0].position.get() - 1);
    assert_eq!(again.state_at(&room, before_all).await.unwrap(), None);
}

#[tokio::test]
async fn the_state_at_each_event_stays_what_it_was() {
    let rooms = rooms().await;
    let alice = user("alice");
    let room_id = rooms.create(&alice, NewRoom::default()).await.unwrap();
    let mut ids = Vec::new();
    for number in 0..100 {
        ids.push(
            rooms.send(&alice, &room_id, state("n", "", json!({ "n": number }))).await.unwrap(),
        );
    }
    let room = rooms.load_room(&room_id).await.unwrap();
    for (number, id) in ids.iter().enumerate() {
        let event = rooms.event_by_id(&room, id).await.unwrap().unwrap();
        let kind = StateEventType::from("n");
        let after = rooms.state_event(&room, event.state_after, &kind, "").await.unwrap().unwrap();
        assert_eq!(after.event_id, *id);
        let before = rooms.state_event(&room, event.state_before, &kind, "").await.unwrap();
        let expected = number.checked_sub(1).map(|before| ids[before].clone());
        assert_eq!(before.map(|pdu| pdu.event_id.clone()), expected);
        let diff =
            rooms.state_diff(&room, Some(event.state_before), event.state_after).await.unwrap();
        assert_eq!(diff.len(), 1);
        assert_eq!(diff[0].1, Some(event.number));
    }
}

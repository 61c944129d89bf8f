use std::sync::Arc;

use ruma::OwnedEventId;
use serde_json::json;
use store::{
    MemoryEngine, Store,
    faults::{Fault, FaultyEngine},
};

use super::{all_events, invited, message, rooms_on, state, user};
use crate::{NewEvent, NewRoom, Rooms, RoomsError, TxnKey};

/// What a client does, with transaction IDs, until something fails. Gives what was acknowledged.
async fn work(rooms: &Rooms, room: &ruma::RoomId) -> (Vec<OwnedEventId>, Option<RoomsError>) {
    let alice = user("alice");
    let mut acknowledged = Vec::new();
    for number in 0..6_u32 {
        let txn = TxnKey { device_id: "D".to_owned(), txn_id: number.to_string() };
        let event: NewEvent = match number % 3 {
            0 => message(&number.to_string()),
            1 => state("m.room.name", "", json!({ "name": number.to_string() })),
            _ => NewEvent::redaction(acknowledged.last().cloned().unwrap(), None),
        };
        match rooms.send(&alice, room, event.txn(txn)).await {
            Ok(id) => acknowledged.push(id),
            Err(error) => return (acknowledged, Some(error)),
        }
    }
    (acknowledged, None)
}

#[tokio::test]
async fn a_crash_at_any_commit_loses_nothing_acknowledged_and_leaves_nothing_half_done() {
    for fault in [Fault::BeforeWrite, Fault::AfterWrite] {
        for commits in 0..=6 {
            let engine = Arc::new(MemoryEngine::new());
            let healthy = rooms_on(Store::with_engine(engine.clone())).await;
            let new = NewRoom { invites: vec![invited("bob")], ..NewRoom::default() };
            let room = healthy.create(&user("alice"), new).await.unwrap();

            let faulty = Arc::new(FaultyEngine::new(engine.clone(), commits, fault));
            let crashing = rooms_on(Store::with_engine(faulty)).await;
            let (acknowledged, failure) = work(&crashing, &room).await;
            assert_eq!(acknowledged.len() as u64, commits);
            assert_eq!(failure.is_some(), commits < 6);
            if failure.is_some() {
                assert!(crashing.send(&user("alice"), &room, message("more")).await.is_err());
            }

            let restarted = rooms_on(Store::with_engine(engine)).await;
            let (again, failure) = work(&restarted, &room).await;
            assert!(failure.is_none(), "{failure:?}");
            assert_eq!(again[..acknowledged.len()], acknowledged);
            let events = all_events(&restarted, &room).await;
            let sent: Vec<_> =
                events.iter().rev().take(6).rev().map(|e| e.pdu.event_id.clone()).collect();
            assert_eq!(sent, again);
            for pair in events.windows(2) {
                assert_eq!(pair[1].pdu.prev_events, [pair[0].pdu.event_id.clone()]);
                assert_eq!(pair[0].state_after, pair[1].state_before);
            }
        }
    }
}

#[tokio::test]
async fn a_room_is_created_whole_or_not_at_all() {
    for fault in [Fault::BeforeWrite, Fault::AfterWrite] {
        let engine = Arc::new(MemoryEngine::new());
        let faulty = Arc::new(FaultyEngine::new(engine.clone(), 0, fault));
        let crashing = rooms_on(Store::with_engine(faulty)).await;
        let new = NewRoom {
            alias_localpart: Some("pub".to_owned()),
            invites: vec![invited("bob")],
            ..NewRoom::default()
        };
        assert!(crashing.create(&user("alice"), new).await.is_err());
        let restarted = rooms_on(Store::with_engine(engine)).await;
        let memberships = restarted.memberships(&user("bob")).await.unwrap();
        assert_eq!(memberships.len(), usize::from(fault == Fault::AfterWrite));
        for record in memberships.iter() {
            assert_eq!(all_events(&restarted, &record.room_id).await.len(), 8);
        }
    }
}

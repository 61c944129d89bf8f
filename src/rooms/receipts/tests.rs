use ruma::{
    EventId, OwnedRoomId,
    events::receipt::{ReceiptThread, ReceiptType},
};
use serde_json::json;
use store::Position;

use super::Receipt;
use crate::{Result, RoomsError, tests::life::Home};

async fn read(home: &Home, user: &str, room: &OwnedRoomId, event: &EventId) -> Result<()> {
    let thread = ReceiptThread::Unthreaded;
    home.rooms.send_receipt(&home.user(user), room, ReceiptType::Read, event, thread).await
}

async fn after(home: &Home, room: &OwnedRoomId, after: Position) -> Vec<Receipt> {
    let upto = home.rooms.store().position();
    let room = home.room(room).await;
    home.rooms.receipts_after(&room, after, upto).await.unwrap()
}

#[tokio::test]
async fn a_receipt_moves_forward_only_and_is_listed_once() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    home.join("bob", &room).await.unwrap();
    let (first, second) =
        (home.say("alice", &room, "1").await, home.say("alice", &room, "2").await);
    read(&home, "bob", &room, &first).await.unwrap();
    let between = home.rooms.store().position();
    read(&home, "bob", &room, &second).await.unwrap();
    read(&home, "bob", &room, &first).await.unwrap();
    let receipts = after(&home, &room, Position::ZERO).await;
    assert_eq!(receipts.len(), 1);
    assert_eq!(receipts[0].event_id, second);
    assert_eq!(after(&home, &room, between).await, receipts);
    assert!(after(&home, &room, home.rooms.store().position()).await.is_empty());
    read(&home, "alice", &room, &second).await.unwrap();
    assert_eq!(after(&home, &room, Position::ZERO).await.len(), 2);
}

#[tokio::test]
async fn types_and_threads_are_kept_apart() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let alice = home.user("alice");
    let root = home.say("alice", &room, "root").await;
    let relation = json!({ "rel_type": "m.thread", "event_id": root });
    let content = json!({ "body": "in thread", "m.relates_to": relation });
    let reply = home.send("alice", &room, "m.room.message", content).await;
    let annotation = json!({ "rel_type": "m.annotation", "event_id": reply, "key": "+1" });
    let reaction =
        home.send("alice", &room, "m.reaction", json!({ "m.relates_to": annotation })).await;
    let thread = ReceiptThread::Thread(root.clone());
    let send = async |kind: ReceiptType, event: &EventId, thread: &ReceiptThread| {
        home.rooms.send_receipt(&alice, &room, kind, event, thread.clone()).await
    };
    send(ReceiptType::Read, &reply, &ReceiptThread::Unthreaded).await.unwrap();
    send(ReceiptType::Read, &root, &ReceiptThread::Main).await.unwrap();
    send(ReceiptType::Read, &reply, &thread).await.unwrap();
    send(ReceiptType::ReadPrivate, &reaction, &thread).await.unwrap();
    let receipts = after(&home, &room, Position::ZERO).await;
    assert_eq!(receipts.len(), 4);
    let private: Vec<_> = receipts.iter().filter(|receipt| receipt.private).collect();
    assert_eq!(private.len(), 1);
    assert_eq!(private[0].thread, thread);
    for (event, thread) in [(&reply, &ReceiptThread::Main), (&reaction, &ReceiptThread::Main)] {
        let refused = send(ReceiptType::Read, event, thread).await;
        assert!(matches!(refused, Err(RoomsError::InvalidParam { .. })), "{refused:?}");
    }
    let other = ReceiptThread::Thread(reply.clone());
    let refused = send(ReceiptType::Read, &root, &other).await;
    assert!(matches!(refused, Err(RoomsError::InvalidParam { .. })), "{refused:?}");
}

#[tokio::test]
async fn receipts_are_for_members_and_for_events_that_are_there() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let said = home.say("alice", &room, "hello").await;
    let stranger = read(&home, "bob", &room, &said).await;
    assert!(matches!(stranger, Err(RoomsError::Forbidden { .. })), "{stranger:?}");
    let unknown = EventId::parse("$unknown").unwrap();
    let missing = read(&home, "alice", &room, &unknown).await;
    assert!(matches!(missing, Err(RoomsError::NotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn many_receipts_are_read_over_several_pages() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let number = home.room(&room).await.number;
    let event_id = home.say("alice", &room, "hello").await;
    for user in 0..1_100 {
        let mut batch = store::Batch::new();
        let name = format!("@u{user}:home.example");
        let key = (number, "m.read".to_owned(), String::new(), name.clone());
        let row = crate::tables::ReceiptRow { event_id: event_id.clone(), timestamp_ms: 1 };
        batch.put(&crate::tables::RECEIPTS, &key, &store::Stamped::pending(store::Json(row)));
        let key = (number, Position::PENDING, "m.read".to_owned(), String::new(), name);
        batch.put(&crate::tables::RECEIPTS_BY_POSITION, &key, &());
        home.rooms.store().commit(batch).await.unwrap();
    }
    let receipts = after(&home, &room, Position::ZERO).await;
    assert_eq!(receipts.len(), 1_100);
    assert!(receipts.is_sorted_by_key(|receipt| std::cmp::Reverse(receipt.position)));
}

#[tokio::test]
async fn other_servers_tell_how_far_their_members_have_read_and_nothing_else() {
    let home = Home::new().await;
    let room = home.public_room("alice").await;
    let member = "@a:one.example";
    crate::servers::tests::set_member(&home, &room, member, "join").await;
    let said = home.say("alice", &room, "1").await;
    let newer = home.say("alice", &room, "2").await;
    let origin = ruma::ServerName::parse("one.example").unwrap();
    let told = |event: &str, thread: Option<&str>| {
        let data = json!({ "ts": 7, "thread_id": thread });
        json!({ "event_ids": [event], "data": data })
    };
    let receive = async |content: serde_json::Value| {
        let content = serde_json::value::to_raw_value(&content).unwrap();
        home.rooms.receive_receipts(&origin, &content).await.unwrap();
        let receipts = after(&home, &room, Position::ZERO).await;
        let told = receipts.into_iter().map(|r| (r.user_id.to_string(), r.event_id, r.thread));
        told.collect::<Vec<_>>()
    };
    let nothing = receive(json!({
        "!unknown:x": { "m.read": { member: told(said.as_str(), None) } },
        "no room": { "m.read": { member: told(said.as_str(), None) } },
        room.as_str(): {
            "m.read.private": { member: told(said.as_str(), None) },
            "m.read": {
                "@b:one.example": told(said.as_str(), None),
                "@alice:home.example": told(said.as_str(), None),
                "@c:two.example": told(said.as_str(), None),
            },
        },
    }));
    assert!(nothing.await.is_empty());
    let of = |event: &ruma::OwnedEventId, thread: ReceiptThread| {
        (member.to_owned(), event.clone(), thread)
    };
    let read = |receipt: serde_json::Value| {
        let users = json!({ member: receipt, "@d:one.example": 5 });
        json!({ room.as_str(): { "m.read": users } })
    };
    let unthreaded = ReceiptThread::Unthreaded;
    assert_eq!(receive(read(told(newer.as_str(), None))).await, [of(&newer, unthreaded.clone())]);
    // An older one changes nothing, one for an event that is still to come does.
    assert_eq!(receive(read(told(said.as_str(), None))).await, [of(&newer, unthreaded.clone())]);
    let coming = EventId::parse("$coming").unwrap();
    assert_eq!(receive(read(told("$coming", None))).await, [of(&coming, unthreaded.clone())]);
    let both = receive(read(told(said.as_str(), Some("main")))).await;
    assert_eq!(both, [of(&said, ReceiptThread::Main), of(&coming, unthreaded)]);
}

use std::sync::Arc;

use clock::ManualClock;
use event::ServerKey;
use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, UserId,
    events::{StateEventType, TimelineEventType},
    owned_server_name, user_id,
};
use serde_json::{Value, json, value::to_raw_value};
use store::{Batch, Position, Stamped, Store};

use super::{CheckReport, bits::Bits, check};
use crate::{
    EventNumber, LOG_TOPIC, NewEvent, NewRoom, NodeNumber, Profile, Rooms, RoomsConfig,
    RoomsLogRow, TxnKey,
    head::Head,
    room::Room,
    tables::{
        ALIASES, EVENT_META, EVENT_NUMBERS, EVENT_ROOMS, EVENTS, HEADS, MEMBERSHIPS, ROOM_ALIASES,
        ROOM_MEMBERS, ROOM_NUMBERS, STATE_KEYS, STATE_NODES, TIMELINE, TRANSACTIONS,
    },
};

fn alice() -> &'static UserId {
    user_id!("@alice:localhost")
}

fn bob() -> &'static UserId {
    user_id!("@bob:localhost")
}

/// A room with some history in a store of its own.
struct Town {
    store: Store,
    rooms: Rooms,
    room_id: OwnedRoomId,
    key: Arc<ServerKey>,
}

impl Town {
    fn name() -> OwnedServerName {
        owned_server_name!("localhost")
    }

    async fn build(version: RoomVersionId) -> Self {
        let store = Store::memory();
        let key = Arc::new(ServerKey::from_parts([3; 32], "test").unwrap());
        let config = RoomsConfig::new(Self::name(), RoomVersionId::V12, Arc::clone(&key));
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let rooms = Rooms::open(store.clone(), config, clock).await.unwrap();
        let new = NewRoom {
            version: Some(version),
            alias_localpart: Some("pond".to_owned()),
            name: Some("Pond".to_owned()),
            invites: vec![(bob().to_owned(), Profile::default())],
            ..NewRoom::default()
        };
        let room_id = rooms.create(alice(), new).await.unwrap();
        let town = Self { store, rooms, room_id, key };
        town.live().await;
        town
    }

    async fn live(&self) {
        let (rooms, room) = (&self.rooms, &*self.room_id);
        rooms.join(bob(), room, &[], Profile::default(), None).await.unwrap();
        let mut sent = Vec::new();
        for number in 0..5 {
            let txn = TxnKey { device_id: "D".to_owned(), txn_id: format!("t{number}") };
            let content = to_raw_value(&json!({ "body": format!("message {number}") })).unwrap();
            let event = NewEvent::message(TimelineEventType::RoomMessage, content).txn(txn);
            sent.push(rooms.send(bob(), room, event).await.unwrap());
        }
        for topic in 0..40 {
            let content = to_raw_value(&json!({ "topic": topic })).unwrap();
            let kind = StateEventType::from("org.example.topic");
            let event = NewEvent::state(kind, format!("key {topic}"), content);
            rooms.send(alice(), room, event).await.unwrap();
        }
        rooms.send(alice(), room, NewEvent::redaction(sent.remove(0), None)).await.unwrap();
        rooms.kick(alice(), room, bob(), Some("bye".to_owned())).await.unwrap();
        rooms.invite(alice(), room, bob(), Profile::default(), None, false).await.unwrap();
        rooms.join(bob(), room, &[], Profile::default(), None).await.unwrap();
        let carol = user_id!("@carol:localhost");
        rooms.ban(alice(), room, carol, None).await.unwrap();
    }

    async fn check(&self) -> CheckReport {
        check(&self.store, &Self::name(), self.key.public_keys(&Self::name())).await.unwrap()
    }

    async fn room(&self) -> Arc<Room> {
        self.rooms.room(&self.room_id).await.unwrap().unwrap()
    }

    async fn head(&self) -> Head {
        self.store.get(&HEADS, &self.room().await.number).await.unwrap().unwrap()
    }

    /// The last message with this body, by number and ID.
    async fn message(&self, body: &str) -> (EventNumber, String) {
        let room = self.room().await;
        for number in (1..self.head().await.next_event.get()).rev().map(EventNumber::new) {
            let json = self.store.get(&EVENTS, &(room.number, number)).await.unwrap().unwrap();
            if json.contains(&format!("\"{body}\"")) {
                let meta = self.store.get(&EVENT_META, &(room.number, number)).await.unwrap();
                return (number, meta.unwrap().value.event_id.to_string());
            }
        }
        panic!("no {body}");
    }

    /// Checks that damage is found and told in these words.
    async fn finds(&self, batch: Batch, words: &str) {
        self.store.commit(batch).await.unwrap();
        let report = self.check().await;
        let found = report.disagreements.iter().any(|sentence| sentence.contains(words));
        assert!(found, "no word of {words:?} in:\n{report}");
    }
}

#[tokio::test]
async fn rooms_of_every_version_are_sound() {
    for version in event::SUPPORTED {
        let town = Town::build(version.clone()).await;
        let report = town.check().await;
        assert!(report.is_sound(), "version {version}:\n{report}");
        assert_eq!(report.rooms, 1);
        assert_eq!(report.events + 1, town.head().await.next_event.get());
        assert!(report.log_rows >= report.events && report.state_nodes > 40, "{report}");
        assert!(report.to_string().ends_with("all agree"), "{report}");
        // Without its oldest rows the log is still right.
        town.store.trim_log(Position::new(5)).await.unwrap();
        assert!(town.check().await.is_sound());
    }
}

#[tokio::test]
async fn an_empty_store_is_sound() {
    let key = ServerKey::from_parts([3; 32], "test").unwrap();
    let report =
        check(&Store::memory(), &Town::name(), key.public_keys(&Town::name())).await.unwrap();
    assert_eq!(report, CheckReport::default());
}

#[tokio::test]
async fn another_key_has_signed_nothing() {
    let town = Town::build(RoomVersionId::V12).await;
    let other = ServerKey::from_parts([4; 32], "test").unwrap();
    let report = check(&town.store, &Town::name(), other.public_keys(&Town::name())).await.unwrap();
    assert_eq!(report.disagreements.len() as u64, report.events);
    assert!(report.disagreements[0].contains("is not signed by us"), "{report}");
}

#[tokio::test]
async fn changed_events_are_found() {
    for (from, to, words) in [
        ("message 3", "message 7", "does not have the content that it was hashed with"),
        ("@bob:localhost\"", "@eve:localhost\"", "is not signed by us"),
        ("@bob:localhost\"", "@eve:localhost\"", "has the reference hash $"),
        ("\"content\":", " \"content\":", "is not stored as canonical JSON"),
        ("{", "", "cannot be read"),
    ] {
        let town = Town::build(RoomVersionId::V11).await;
        let (number, _) = town.message("message 3").await;
        let key = (town.room().await.number, number);
        let json = town.store.get(&EVENTS, &key).await.unwrap().unwrap();
        let mut batch = Batch::new();
        batch.put(&EVENTS, &key, &json.replace(from, to));
        town.finds(batch, words).await;
    }
}

#[tokio::test]
async fn missing_rows_of_an_event_are_found() {
    let words = [
        "is not found by its ID",
        "is not found by its ID alone",
        "is not in the timeline at its position",
        "is not found by its transaction",
        "has no record",
        ", which is missing",
    ];
    for (index, words) in words.into_iter().enumerate() {
        let town = Town::build(RoomVersionId::V12).await;
        let room = town.room().await.number;
        let (number, event_id) = town.message("message 3").await;
        let key = (room, number);
        let meta = town.store.get(&EVENT_META, &key).await.unwrap().unwrap();
        let mut batch = Batch::new();
        match index {
            0 => batch.delete(&EVENT_NUMBERS, &(room, event_id)),
            1 => batch.delete(&EVENT_ROOMS, &event_id),
            2 => {
                let index = u32::try_from(meta.value.index).unwrap();
                batch.delete(&TIMELINE, &(room, meta.position, index));
            }
            3 => {
                let txn = ["@bob:localhost", "D", "m.room.message", "t3"].map(str::to_owned);
                let [user, device, kind, txn] = txn;
                batch.delete(&TRANSACTIONS, &(room, user, device, kind, txn));
            }
            4 => batch.delete(&EVENT_META, &key),
            _ => batch.delete(&EVENTS, &key),
        }
        town.finds(batch, words).await;
    }
}

#[tokio::test]
async fn a_wrong_head_is_found() {
    type Change = fn(&mut Head);
    let changes: [(Change, &str); 6] = [
        (|head| head.extremities = vec![EventNumber::new(3)], "the extremities are [3]"),
        (|head| head.joined += 1, "joined members in the head"),
        (|head| head.invited += 1, "invited members in the head"),
        (|head| head.depth += 1, "the head has the depth"),
        (|head| head.state = NodeNumber::new(1), "is not that at the end of the timeline"),
        (|head| head.next_event = EventNumber::new(4), "a number that is not given out yet"),
    ];
    for (change, words) in changes {
        let town = Town::build(RoomVersionId::V10).await;
        let mut head = town.head().await;
        change(&mut head);
        let mut batch = Batch::new();
        batch.put(&HEADS, &town.room().await.number, &head);
        town.finds(batch, words).await;
    }
}

#[tokio::test]
async fn a_wrong_state_is_found() {
    let town = Town::build(RoomVersionId::V12).await;
    let room = town.room().await.number;
    let (number, _) = town.message("message 3").await;
    let key = (room, number);
    let meta = town.store.get(&EVENT_META, &key).await.unwrap().unwrap();
    let mut wrong = meta.value.clone();
    wrong.state_after = NodeNumber::new(1);
    let mut batch = Batch::new();
    let row = Stamped { position: meta.position, value: wrong };
    batch.put(&EVENT_META, &key, &row);
    town.finds(batch, "changes the state, although it must not").await;
    let report = town.check().await.to_string();
    assert!(report.contains("than the events that it follows left"), "{report}");

    let town = Town::build(RoomVersionId::V12).await;
    let room = town.room().await.number;
    let mut batch = Batch::new();
    batch.delete(&STATE_NODES, &(room, town.head().await.state));
    town.finds(batch, "a state lacks a node").await;

    let town = Town::build(RoomVersionId::V12).await;
    let room = town.room().await.number;
    let mut batch = Batch::new();
    let name = ("org.example.topic".to_owned(), "key 7".to_owned());
    batch.delete(&STATE_KEYS, &(room, name.0, name.1));
    town.finds(batch, "is not found by its name").await;
}

#[tokio::test]
async fn wrong_members_are_found() {
    let town = Town::build(RoomVersionId::V12).await;
    let room = town.room().await.number;
    let row = (room, "join".to_owned(), bob().as_str().to_owned());
    let mut batch = Batch::new();
    batch.delete(&ROOM_MEMBERS, &row);
    town.finds(batch, "but not in the table of members").await;

    let town = Town::build(RoomVersionId::V12).await;
    let room = town.room().await.number;
    let mut batch = Batch::new();
    batch.delete(&MEMBERSHIPS, &(bob().as_str().to_owned(), room));
    town.finds(batch, "is not among the memberships of its user").await;

    let town = Town::build(RoomVersionId::V12).await;
    let room = town.room().await.number;
    let row = (room, "join".to_owned(), "@ghost:localhost".to_owned());
    let mut batch = Batch::new();
    batch.put(&ROOM_MEMBERS, &row, &EventNumber::new(2));
    town.finds(batch, "rows of members: 4 instead of 3").await;
}

#[tokio::test]
async fn wrong_tables_and_log_rows_are_found() {
    let town = Town::build(RoomVersionId::V12).await;
    let alias = "#pond:localhost".to_owned();
    let mut batch = Batch::new();
    batch.delete(&ALIASES, &alias);
    town.finds(batch, "aliases of rooms: 1 instead of 0").await;

    let town = Town::build(RoomVersionId::V12).await;
    let mut batch = Batch::new();
    batch.delete(&ROOM_ALIASES, &(town.room().await.number, alias));
    town.finds(batch, "is not among those of its room").await;

    let town = Town::build(RoomVersionId::V12).await;
    let mut batch = Batch::new();
    batch.delete(&ROOM_NUMBERS, &town.room_id.as_str().to_owned());
    town.finds(batch, "is not found by its ID").await;

    let town = Town::build(RoomVersionId::V12).await;
    let row = RoomsLogRow::Event {
        room: town.room().await.number,
        room_id: town.room_id.clone(),
        event: EventNumber::new(2),
        kind: TimelineEventType::RoomMessage,
        state_key: None,
        sender: alice().to_owned(),
        member: None,
        relay: false,
    };
    let mut batch = Batch::new();
    batch.log(LOG_TOPIC, row.encode().unwrap());
    town.finds(batch, "which was not accepted there").await;
}

#[test]
fn a_report_keeps_a_bounded_number_of_sentences() {
    let mut report = CheckReport::default();
    for number in 0..1_500 {
        report.say(format!("sentence {number}"));
    }
    assert_eq!((report.disagreements.len(), report.more), (1_000, 500));
    let text = report.to_string();
    assert!(text.contains("and 500 more") && text.ends_with("1500 disagreements"), "{text}");
}

#[test]
fn bits_are_kept_within_their_bound() {
    let (mut some, mut other) = (Bits::below(130), Bits::below(130));
    for number in [0, 1, 63, 64, 129, 5_000] {
        some.insert(number);
    }
    other.insert(63);
    assert_eq!(some.minus(&other).collect::<Vec<_>>(), [0, 1, 64, 129]);
    assert_eq!(some.minus(&Bits::default()).count(), 5);
}

/// Rooms are found by what they are called, whatever their version.
#[tokio::test]
async fn several_rooms_are_checked_together() {
    let town = Town::build(RoomVersionId::V12).await;
    for version in event::SUPPORTED {
        let new = NewRoom { version: Some(version), ..NewRoom::default() };
        let room_id: OwnedRoomId = town.rooms.create(alice(), new).await.unwrap();
        let content: Value = json!({ "body": "hello" });
        let event =
            NewEvent::message(TimelineEventType::RoomMessage, to_raw_value(&content).unwrap());
        let room_id: &RoomId = &room_id;
        town.rooms.send(alice(), room_id, event).await.unwrap();
    }
    let report = town.check().await;
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.rooms, 1 + event::SUPPORTED.len() as u64);
}

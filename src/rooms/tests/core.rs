//! Creating, sending, states, forks and crashes.

mod coherence;
mod crash;
mod create;
mod fork;
mod redact;
mod send;

use std::sync::Arc;

use clock::ManualClock;
use event::ServerKey;
use ruma::{
    OwnedEventId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Value as JsonValue, json, value::RawValue as RawJsonValue};
use store::Store;

use crate::{NewEvent, NewRoom, Profile, Rooms, RoomsConfig, StoredEvent};

pub(crate) const NOW_MS: u64 = 1_700_000_000_000;

/// Rooms on a store.
pub(crate) async fn rooms_on(store: Store) -> Rooms {
    let key = Arc::new(ServerKey::from_parts([7; 32], "k1").unwrap());
    let server_name = ServerName::parse("here.example").unwrap();
    let config = RoomsConfig::new(server_name, RoomVersionId::V12, key);
    Rooms::open(store, config, Arc::new(ManualClock::new(NOW_MS))).await.unwrap()
}

/// Rooms on an empty store.
pub(crate) async fn rooms() -> Rooms {
    rooms_on(Store::memory()).await
}

pub(crate) fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:here.example")).unwrap()
}

pub(crate) fn raw(value: JsonValue) -> Box<RawJsonValue> {
    serde_json::value::to_raw_value(&value).unwrap()
}

pub(crate) fn message(body: &str) -> NewEvent {
    let content = raw(json!({ "msgtype": "m.text", "body": body }));
    NewEvent::message(TimelineEventType::RoomMessage, content)
}

pub(crate) fn state(kind: &str, key: &str, content: JsonValue) -> NewEvent {
    NewEvent::state(StateEventType::from(kind), key, raw(content))
}

pub(crate) fn wish(version: RoomVersionId) -> NewRoom {
    NewRoom { version: Some(version), ..NewRoom::default() }
}

pub(crate) fn invited(name: &str) -> (OwnedUserId, Profile) {
    (user(name), Profile::default())
}

/// The current state event of a kind.
pub(crate) async fn current(
    rooms: &Rooms,
    room: &RoomId,
    kind: &str,
    key: &str,
) -> Option<JsonValue> {
    let room = rooms.load_room(room).await.unwrap();
    let root = rooms.current_state(&room).await.unwrap();
    let pdu = rooms.state_event(&room, root, &StateEventType::from(kind), key).await.unwrap()?;
    Some(serde_json::from_str(pdu.content.get()).unwrap())
}

/// Checks everything that is stored.
pub(crate) async fn is_sound(rooms: &Rooms) {
    let RoomsConfig { server_name, key, .. } = &rooms.inner.config;
    let report =
        crate::check(rooms.store(), server_name, key.public_keys(server_name)).await.unwrap();
    assert!(report.is_sound(), "{report}");
}

/// All events of a room, in the order of their numbers.
pub(crate) async fn all_events(rooms: &Rooms, room: &RoomId) -> Vec<Arc<StoredEvent>> {
    let room = rooms.load_room(room).await.unwrap();
    let head = rooms.head_of(&room).await.unwrap();
    let numbers: Vec<_> = (1..head.next_event.get()).map(crate::EventNumber::new).collect();
    rooms.events(&room, &numbers).await.unwrap()
}

pub(crate) async fn load(rooms: &Rooms, room: &RoomId, id: &OwnedEventId) -> Arc<StoredEvent> {
    let room = rooms.load_room(room).await.unwrap();
    rooms.event_by_id(&room, id).await.unwrap().unwrap()
}

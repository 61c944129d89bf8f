//! The engine as a whole, on rooms and users in memory.

mod client;
mod cost;
mod model;
mod race;
mod waking;

use std::sync::Arc;

use clock::ManualClock;
use event::ServerKey;
use rooms::{NewEvent, NewRoom, Profile, RoomPreset, Rooms, RoomsConfig};
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::Store;
use users::{Users, UsersConfig};

use crate::{SyncRequest, Syncing};

/// A server without doors.
pub(crate) struct Home {
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) syncing: Syncing,
}

impl Home {
    pub(crate) async fn new() -> Self {
        Self::on(Store::memory()).await
    }

    pub(crate) async fn on(store: Store) -> Self {
        let key = Arc::new(ServerKey::from_parts([9; 32], "k1").unwrap());
        let server_name = ServerName::parse("home.example").unwrap();
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let config = RoomsConfig::new(server_name.clone(), RoomVersionId::V12, key);
        let rooms = Rooms::open(store.clone(), config, Arc::clone(&clock) as _).await.unwrap();
        let config = UsersConfig {
            server_name,
            argon2_memory_kib: 8,
            argon2_iterations: 1,
            remote: Arc::new(users::Nobody),
        };
        let users = Users::open(store.clone(), config, Arc::clone(&clock) as _).await.unwrap();
        let syncing = Syncing::start(store, rooms.clone(), users.clone(), clock);
        Self { rooms, users, syncing }
    }

    pub(crate) async fn room(&self, creator: &UserId) -> OwnedRoomId {
        let preset = Some(RoomPreset::PublicChat);
        self.rooms.create(creator, NewRoom { preset, ..NewRoom::default() }).await.unwrap()
    }

    pub(crate) async fn join(&self, user: &UserId, room: &RoomId) -> rooms::Result<()> {
        self.rooms.join(user, room, &[], Profile::default(), None).await
    }

    pub(crate) async fn say(&self, user: &UserId, room: &RoomId, body: &str) -> OwnedEventId {
        self.rooms.send(user, room, message(body)).await.unwrap()
    }

    pub(crate) async fn set(
        &self,
        user: &UserId,
        room: &RoomId,
        (kind, key): (&str, &str),
        content: JsonValue,
    ) -> rooms::Result<OwnedEventId> {
        let kind = StateEventType::from(kind);
        let event = NewEvent::state(kind, key, to_raw_value(&content).unwrap());
        self.rooms.send(user, room, event).await
    }
}

pub(crate) fn message(body: &str) -> NewEvent {
    let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).unwrap();
    NewEvent::message(TimelineEventType::RoomMessage, content)
}

pub(crate) fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:home.example")).unwrap()
}

/// A request of the first device of a user.
pub(crate) fn request(user: &UserId) -> SyncRequest {
    SyncRequest::new(user.to_owned(), "DEVICE".into())
}

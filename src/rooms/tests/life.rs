//! A home for tests of membership, timelines and what is around them.

use std::sync::Arc;

use clock::ManualClock;
use event::ServerKey;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    api::client::filter::RoomEventFilter,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::Store;

use crate::{
    MessagesPage, MessagesQuery, NewEvent, NewRoom, PageToken, Profile, Result, Room, RoomPreset,
    Rooms, RoomsConfig, ServedEvent,
};

/// The time when a home is opened, in milliseconds since the Unix epoch.
pub(crate) const START_MS: u64 = 1_700_000_000_000;

/// Rooms on a store in memory.
pub(crate) struct Home {
    pub(crate) rooms: Rooms,
    pub(crate) clock: Arc<ManualClock>,
}

impl Home {
    pub(crate) async fn new() -> Self {
        let key = Arc::new(ServerKey::from_parts([9; 32], "k1").unwrap());
        let server_name = ServerName::parse("home.example").unwrap();
        let config = RoomsConfig::new(server_name, RoomVersionId::V11, key);
        let clock = Arc::new(ManualClock::new(START_MS));
        let rooms = Rooms::open(Store::memory(), config, Arc::clone(&clock) as _).await.unwrap();
        Self { rooms, clock }
    }

    /// The user of a name, or of a whole ID.
    pub(crate) fn user(&self, name: &str) -> OwnedUserId {
        let id =
            if name.starts_with('@') { name.to_owned() } else { format!("@{name}:home.example") };
        UserId::parse(id).unwrap()
    }

    pub(crate) async fn create(&self, creator: &str, wish: NewRoom) -> OwnedRoomId {
        self.rooms.create(&self.user(creator), wish).await.unwrap()
    }

    pub(crate) async fn public_room(&self, creator: &str) -> OwnedRoomId {
        let preset = Some(RoomPreset::PublicChat);
        self.create(creator, NewRoom { preset, ..NewRoom::default() }).await
    }

    pub(crate) async fn private_room(&self, creator: &str) -> OwnedRoomId {
        let preset = Some(RoomPreset::PrivateChat);
        self.create(creator, NewRoom { preset, ..NewRoom::default() }).await
    }

    pub(crate) async fn invite(&self, sender: &str, room: &RoomId, target: &str) -> Result<()> {
        let (sender, target) = (self.user(sender), self.user(target));
        self.rooms.invite(&sender, room, &target, Profile::default(), None, false).await
    }

    pub(crate) async fn join(&self, user: &str, room: &RoomId) -> Result<()> {
        self.rooms.join(&self.user(user), room, &[], Profile::default(), None).await
    }

    pub(crate) async fn leave(&self, user: &str, room: &RoomId) -> Result<()> {
        self.rooms.leave(&self.user(user), room, None).await
    }

    pub(crate) async fn kick(&self, sender: &str, room: &RoomId, target: &str) -> Result<()> {
        self.rooms.kick(&self.user(sender), room, &self.user(target), None).await
    }

    pub(crate) async fn ban(&self, sender: &str, room: &RoomId, target: &str) -> Result<()> {
        self.rooms.ban(&self.user(sender), room, &self.user(target), None).await
    }

    pub(crate) async fn unban(&self, sender: &str, room: &RoomId, target: &str) -> Result<()> {
        self.rooms.unban(&self.user(sender), room, &self.user(target), None).await
    }

    /// Sends a text.
    pub(crate) async fn say(&self, sender: &str, room: &RoomId, body: &str) -> OwnedEventId {
        let content = json!({ "msgtype": "m.text", "body": body });
        self.send(sender, room, "m.room.message", content).await
    }

    pub(crate) async fn send(
        &self,
        sender: &str,
        room: &RoomId,
        kind: &str,
        content: JsonValue,
    ) -> OwnedEventId {
        let kind = TimelineEventType::from(kind);
        let event = NewEvent::message(kind, to_raw_value(&content).unwrap());
        self.rooms.send(&self.user(sender), room, event).await.unwrap()
    }

    /// Sets a state event.
    pub(crate) async fn set(
        &self,
        sender: &str,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: JsonValue,
    ) -> OwnedEventId {
        let kind = StateEventType::from(kind);
        let event = NewEvent::state(kind, key, to_raw_value(&content).unwrap());
        self.rooms.send(&self.user(sender), room, event).await.unwrap()
    }

    pub(crate) async fn set_visibility(&self, sender: &str, room: &RoomId, visibility: &str) {
        let content = json!({ "history_visibility": visibility });
        self.set(sender, room, "m.room.history_visibility", "", content).await;
    }

    pub(crate) async fn room(&self, room: &RoomId) -> Arc<Room> {
        self.rooms.load_room(room).await.unwrap()
    }

    /// A page of messages; `from` and `dir` as a client gives them.
    pub(crate) async fn messages(
        &self,
        viewer: &str,
        room: &RoomId,
        (from, dir, limit): (Option<PageToken>, char, usize),
        filter: JsonValue,
    ) -> Result<MessagesPage> {
        let filter: RoomEventFilter = serde_json::from_value(filter).unwrap();
        let direction = match dir {
            'f' => ruma::api::Direction::Forward,
            _ => ruma::api::Direction::Backward,
        };
        let query = MessagesQuery { from, to: None, direction, limit, filter };
        self.rooms.messages(&self.user(viewer), room, query).await
    }

    /// All texts that a viewer finds in a room, read backward with small pages, the oldest first.
    pub(crate) async fn texts(&self, viewer: &str, room: &RoomId) -> Vec<String> {
        let mut texts = Vec::new();
        let mut from = None;
        loop {
            let page = self.messages(viewer, room, (from, 'b', 3), json!({})).await.unwrap();
            texts.extend(page.chunk.iter().filter_map(text));
            let Some(end) = page.end else { break };
            from = Some(end);
        }
        texts.reverse();
        texts
    }
}

/// What a message says.
pub(crate) fn text(event: &ServedEvent) -> Option<String> {
    let content: JsonValue = event.event.pdu.content_as().unwrap();
    content.get("body").and_then(JsonValue::as_str).map(str::to_owned)
}

/// What a user is in a room, by the table that all read.
pub(crate) async fn membership(home: &Home, user: &str, room: &RoomId) -> Option<MembershipState> {
    let memberships = home.rooms.memberships(&home.user(user)).await.unwrap();
    memberships.by_id(room).map(|record| record.membership.clone())
}

//! What one server of a network does and knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use event::{Draft, Pdu, VerifiedPdu};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, UInt, UserId,
    api::client::filter::RoomEventFilter, events::StateEventType,
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::{Batch, Json, Page, Stamped};

use super::Node;
use crate::{
    Head, MessagesPage, MessagesQuery, NewEvent, PageToken, Received, Result, Room, StoredEvent,
    append::{Assembly, accept::Place},
    lane::Lane,
    room::RoomRecord,
    state::StateSelect,
    tables::{ENTERED, HISTORY, ROOM_NUMBERS, ROOMS, TIMELINE},
};

impl Node {
    /// Sends a text.
    pub(crate) async fn say(&self, user: &UserId, room: &RoomId, body: &str) -> OwnedEventId {
        self.try_say(user, room, body).await.unwrap()
    }

    pub(crate) async fn try_say(
        &self,
        user: &UserId,
        room: &RoomId,
        body: &str,
    ) -> Result<OwnedEventId> {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).unwrap();
        let event = NewEvent::message("m.room.message".into(), content);
        self.rooms.send(user, room, event).await
    }

    /// Sends a text that follows some events, whatever else there is.
    pub(crate) async fn say_after(
        &self,
        user: &UserId,
        room: &RoomId,
        after: &BTreeSet<OwnedEventId>,
        body: &str,
    ) -> OwnedEventId {
        let content = json!({ "msgtype": "m.text", "body": body });
        let pdu = self.force(user, room, after, "m.room.message", content).await;
        let room = self.rooms.load_room(room).await.unwrap();
        let keys = self.key.public_keys(&self.name);
        let event = event::verify(&pdu.json, &keys, &room.rules).unwrap();
        let received = self.rooms.receive(&self.name, event).await.unwrap();
        assert_eq!(received, Received::Accepted);
        pdu.event_id
    }

    /// Makes an event that follows some others, without asking whether it is allowed. A state
    /// event if it is a topic.
    pub(crate) async fn force(
        &self,
        user: &UserId,
        room: &RoomId,
        after: &BTreeSet<OwnedEventId>,
        kind: &str,
        content: JsonValue,
    ) -> Pdu {
        let lane = self.rooms.enter(room).await.unwrap();
        let room = Arc::clone(lane.room());
        let mut assembly = Assembly::new(&self.rooms, Arc::clone(&room), Arc::clone(&lane.head));
        let (mut roots, mut depth) = (Vec::new(), 0);
        for id in after {
            let event = assembly.event_by_id(id).await.unwrap().unwrap();
            roots.push(event.state_after);
            depth = depth.max(u64::from(event.pdu.depth) + 1);
        }
        let before = assembly.resolve(&roots).await.unwrap();
        let content = to_raw_value(&content).unwrap();
        let state_key = (kind == "m.room.topic").then(String::new);
        let kind = ruma::events::TimelineEventType::from(kind);
        let key = state_key.as_deref();
        let keys = event::auth_types(&kind, user, key, &content, &room.rules).unwrap();
        let auth = assembly.auth_state(before, keys.clone()).await.unwrap();
        let auth_events: Vec<OwnedEventId> =
            keys.iter().filter_map(|key| Some(auth.get(key)?.event_id.clone())).collect();
        let named = after.iter().chain(&auth_events);
        let reference_hashes = assembly.reference_hashes(named).await.unwrap();
        let now_ms = self.rooms.now_ms();
        let draft = Draft {
            room_id: Some(room.room_id.clone()),
            sender: user.to_owned(),
            kind,
            state_key,
            content,
            redacts: None,
            prev_events: after.iter().cloned().collect(),
            auth_events,
            reference_hashes,
            depth: UInt::new_saturating(depth),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(now_ms)),
        };
        event::build(draft, &self.name, &self.key, &room.rules).unwrap()
    }

    /// A page of messages backward from a place.
    pub(crate) async fn page(
        &self,
        viewer: &UserId,
        room: &RoomId,
        from: Option<PageToken>,
        limit: usize,
    ) -> MessagesPage {
        let query = MessagesQuery {
            from,
            to: None,
            direction: ruma::api::Direction::Backward,
            limit,
            filter: RoomEventFilter::default(),
        };
        self.rooms.messages(viewer, room, query).await.unwrap()
    }

    pub(crate) async fn set(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: JsonValue,
    ) -> Result<OwnedEventId> {
        let content = to_raw_value(&content).unwrap();
        let event = NewEvent::state(StateEventType::from(kind), key, content);
        self.rooms.send(user, room, event).await
    }

    /// Begins to take part in a room, upon a state that another server tells.
    pub(crate) async fn enter(
        &self,
        room: &Room,
        join: Pdu,
        state: Vec<VerifiedPdu>,
        chain: Vec<VerifiedPdu>,
    ) -> Result<()> {
        let rooms = &self.rooms;
        let mut extra = Batch::new();
        let known = rooms.room(&room.room_id).await?;
        let (mut assembly, mut lane) = match known {
            Some(known) => {
                let lane = rooms.enter(&known.room_id).await?;
                (Assembly::new(rooms, known, Arc::clone(&lane.head)), lane)
            }
            None => {
                let number = rooms.free_room_number(&room.room_id).await?;
                let room = Arc::new(Room { number, ..room.clone() });
                let RoomRecord { room_id, version } =
                    RoomRecord { room_id: room.room_id.clone(), version: room.version.clone() };
                extra.put(&ROOM_NUMBERS, &room_id.to_string(), &number);
                extra.put(&ROOMS, &number, &Json(RoomRecord { room_id, version }));
                let held = rooms.inner.lanes.hold(number).await;
                let lane = Lane::new(Arc::clone(&room), Arc::new(Head::new()), held);
                (Assembly::new_room(rooms, room), lane)
            }
        };
        let before = assembly.import(state, chain).await?;
        assembly.head.extremities.clear();
        extra.put(&ENTERED, &assembly.room.number, &Stamped::pending(()));
        assembly.accept(join, Place::at(before)).await?;
        rooms.commit(&mut lane, assembly, extra).await?;
        Ok(())
    }

    pub(crate) async fn load(&self, room: &RoomId, id: &OwnedEventId) -> Option<Arc<StoredEvent>> {
        let room = self.rooms.load_room(room).await.unwrap();
        self.rooms.event_by_id(&room, id).await.unwrap()
    }

    /// The current state: what each key stands for, by event ID.
    pub(crate) async fn state(&self, room: &RoomId) -> BTreeMap<(String, String), OwnedEventId> {
        let room = self.rooms.load_room(room).await.unwrap();
        let root = self.rooms.current_state(&room).await.unwrap();
        let events = self.rooms.state_events(&room, root, &StateSelect::All).await.unwrap();
        let entry = |pdu: &Arc<Pdu>| {
            let (kind, key) = pdu.state_entry().unwrap();
            ((kind.to_string(), key.to_owned()), pdu.event_id.clone())
        };
        events.iter().map(entry).collect()
    }

    /// The events of the timeline with what was fetched into its holes.
    pub(crate) async fn accepted(&self, room: &RoomId) -> BTreeSet<OwnedEventId> {
        let room = self.rooms.load_room(room).await.unwrap();
        let store = self.rooms.store();
        let page = Page::first(100_000);
        let rows = store.scan(&TIMELINE, TIMELINE.prefix(&room.number), page).await.unwrap();
        let history = store.scan(&HISTORY, HISTORY.prefix(&room.number), page).await.unwrap();
        let numbers: Vec<_> = rows
            .into_iter()
            .map(|(_, row)| row.event)
            .chain(history.into_iter().map(|(_, row)| row.event))
            .collect();
        let events = self.rooms.events(&room, &numbers).await.unwrap();
        events.iter().map(|event| event.pdu.event_id.clone()).collect()
    }

    pub(crate) async fn extremities(&self, room: &RoomId) -> BTreeSet<OwnedEventId> {
        let room = self.rooms.load_room(room).await.unwrap();
        let head = self.rooms.head_of(&room).await.unwrap();
        let events = self.rooms.events(&room, head.extremities()).await.unwrap();
        events.iter().map(|event| event.pdu.event_id.clone()).collect()
    }

    pub(crate) async fn is_sound(&self) {
        crate::tests::core::is_sound(&self.rooms).await;
    }
}

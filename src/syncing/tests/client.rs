//! A client that applies what it is told, as a real one does.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedRoomId, OwnedUserId, UserId,
    api::client::sync::sync_events::v3::{Response, State, Timeline},
    serde::Raw,
};
use serde::Deserialize;

use super::{Home, request};
use crate::SyncRequest;

/// What the client knows of a room that it is in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The event of each type and state key.
    pub(crate) state: BTreeMap<(String, String), String>,
    /// The newest events, without a gap.
    pub(crate) timeline: Vec<String>,
    /// Every event that came in a timeline since the user is in the room.
    pub(crate) seen: BTreeSet<String>,
    /// Who sent the events of the newest timeline.
    pub(crate) senders: BTreeSet<String>,
    pub(crate) joined: Option<u64>,
}

/// A client of one user.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) request: SyncRequest,
    pub(crate) rooms: BTreeMap<OwnedRoomId, Known>,
    pub(crate) invites: BTreeSet<OwnedRoomId>,
}

#[derive(Deserialize)]
struct Event {
    event_id: String,
    sender: String,
    #[serde(rename = "type")]
    kind: String,
    state_key: Option<String>,
}

fn read<T>(event: &Raw<T>) -> Event {
    serde_json::from_str(event.json().get()).unwrap()
}

impl Client {
    pub(crate) fn new(user: &UserId, filter: serde_json::Value) -> Self {
        let filter = serde_json::from_value(filter).unwrap();
        Self {
            request: SyncRequest { filter, ..request(user) },
            rooms: BTreeMap::new(),
            invites: BTreeSet::new(),
        }
    }

    pub(crate) fn user(&self) -> &OwnedUserId {
        &self.request.user_id
    }

    /// Syncs, but the answer gets lost.
    pub(crate) async fn lose(&self, home: &Home) {
        home.syncing.sync(self.request.clone()).await.unwrap();
    }

    /// Syncs once and applies the answer.
    pub(crate) async fn sync(&mut self, home: &Home) -> Response {
        let response = home.syncing.sync(self.request.clone()).await.unwrap();
        self.request.since = Some(response.next_batch.parse().unwrap());
        for (room_id, room) in &response.rooms.join {
            self.invites.remove(room_id);
            let known = self.rooms.entry(room_id.clone()).or_default();
            known.apply(&room.timeline, &room.state);
            if let Some(count) = room.summary.joined_member_count {
                known.joined = Some(count.into());
            }
        }
        for room_id in response.rooms.leave.keys() {
            self.invites.remove(room_id);
            self.rooms.remove(room_id);
        }
        self.invites.extend(response.rooms.invite.keys().cloned());
        response
    }
}

impl Known {
    fn apply(&mut self, timeline: &Timeline, state: &State) {
        let (State::Before(events) | State::After(events)) = state else { unreachable!() };
        for event in events.events.iter().map(read) {
            self.put(event);
        }
        if timeline.limited {
            self.timeline.clear();
            assert!(timeline.prev_batch.is_some(), "a gap without a way back");
        }
        self.senders.clear();
        for event in timeline.events.iter().map(read) {
            let is_new = self.seen.insert(event.event_id.clone());
            assert!(is_new, "{} came twice", event.event_id);
            self.senders.insert(event.sender.clone());
            self.timeline.push(event.event_id.clone());
            if matches!(state, State::Before(_)) && event.state_key.is_some() {
                self.put(event);
            }
        }
    }

    fn put(&mut self, event: Event) {
        let key = (event.kind, event.state_key.expect("a state event"));
        self.state.insert(key, event.event_id);
    }
}

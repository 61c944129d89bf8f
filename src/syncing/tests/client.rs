//! A client that applies what it is told, as a real one does.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
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
    /// What it was told, for the story of a failure.
    told: Vec<(OwnedRoomId, String)>,
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
            told: Vec::new(),
        }
    }

    pub(crate) fn user(&self) -> &OwnedUserId {
        &self.request.user_id
    }

    /// All that it was told of a room, a line each.
    pub(crate) fn told(&self, room_id: &RoomId) -> String {
        let lines = self.told.iter().filter(|(room, _)| room == room_id);
        lines.map(|(_, line)| format!("\n{line}")).collect()
    }

    /// Syncs, but the answer gets lost.
    pub(crate) async fn lose(&self, home: &Home) {
        home.syncing.sync(self.request.clone()).await.unwrap();
    }

    /// Syncs once and applies the answer.
    pub(crate) async fn sync(&mut self, home: &Home) -> Response {
        let response = home.syncing.sync(self.request.clone()).await.unwrap();
        self.request.since = Some(response.next_batch.parse().unwrap());
        self.take_down(&response);
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
        for room_id in response.rooms.invite.keys() {
            // One who left and was invited since the last time is told of the invite only.
            self.rooms.remove(room_id);
            self.invites.insert(room_id.clone());
        }
        response
    }
}

impl Client {
    fn take_down(&mut self, response: &Response) {
        let line = |what: &str, event: Event| {
            let Event { event_id, sender, kind, state_key } = event;
            format!("{} {what}: {kind} {state_key:?} {sender} {event_id}", response.next_batch)
        };
        let mut lines = Vec::new();
        for (room_id, room) in &response.rooms.join {
            let (State::Before(state) | State::After(state)) = &room.state else { unreachable!() };
            lines.extend(state.events.iter().map(|e| (room_id, line("state", read(e)))));
            let what = if room.timeline.limited { "after a gap" } else { "timeline" };
            lines.extend(room.timeline.events.iter().map(|e| (room_id, line(what, read(e)))));
        }
        for (room_id, room) in &response.rooms.leave {
            lines.extend(room.timeline.events.iter().map(|e| (room_id, line("left", read(e)))));
        }
        for room_id in response.rooms.invite.keys() {
            lines.push((room_id, format!("{} invited", response.next_batch)));
        }
        self.told.extend(lines.into_iter().map(|(room_id, line)| (room_id.clone(), line)));
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

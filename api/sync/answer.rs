//! The answer to a sync, as clients of all kinds read it.
//!
//! ruma leaves out what is empty. matrix-nio refuses a left room that has no `state.events` and
//! `timeline.events`, so these are always there.

use std::collections::BTreeMap;

use axum::response::{IntoResponse, Response as HttpResponse};
use http::header;
use ruma::{
    OneTimeKeyAlgorithm, OwnedRoomId, RoomId, UInt,
    api::client::sync::sync_events::{
        DeviceLists,
        v3::{
            GlobalAccountData, InvitedRoom, JoinedRoom, KnockedRoom, LeftRoom, Presence, Response,
            RoomAccountData, Rooms, State, Timeline, ToDevice,
        },
    },
};
use serde::Serialize;

use crate::error::ApiError;

/// A sync's response on its way out.
#[derive(Debug)]
pub(crate) struct SyncAnswer(pub(crate) Response);

impl IntoResponse for SyncAnswer {
    fn into_response(self) -> HttpResponse {
        match serde_json::to_vec(&Body::from(&self.0)) {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => ApiError::internal(&error).into_response(),
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    next_batch: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<RoomsBody<'a>>,
    #[serde(skip_serializing_if = "Presence::is_empty")]
    presence: &'a Presence,
    #[serde(skip_serializing_if = "GlobalAccountData::is_empty")]
    account_data: &'a GlobalAccountData,
    #[serde(skip_serializing_if = "ToDevice::is_empty")]
    to_device: &'a ToDevice,
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    device_lists: &'a DeviceLists,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    device_one_time_keys_count: &'a BTreeMap<OneTimeKeyAlgorithm, UInt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_unused_fallback_key_types: Option<&'a [OneTimeKeyAlgorithm]>,
}

impl<'a> From<&'a Response> for Body<'a> {
    fn from(response: &'a Response) -> Self {
        Self {
            next_batch: &response.next_batch,
            rooms: (!response.rooms.is_empty()).then(|| RoomsBody::from(&response.rooms)),
            presence: &response.presence,
            account_data: &response.account_data,
            to_device: &response.to_device,
            device_lists: &response.device_lists,
            device_one_time_keys_count: &response.device_one_time_keys_count,
            device_unused_fallback_key_types: response.device_unused_fallback_key_types.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct RoomsBody<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    join: &'a BTreeMap<OwnedRoomId, JoinedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    invite: &'a BTreeMap<OwnedRoomId, InvitedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    knock: &'a BTreeMap<OwnedRoomId, KnockedRoom>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    leave: BTreeMap<&'a RoomId, LeftBody<'a>>,
}

impl<'a> From<&'a Rooms> for RoomsBody<'a> {
    fn from(rooms: &'a Rooms) -> Self {
        let leave = rooms.leave.iter().map(|(room_id, room)| (&**room_id, LeftBody::from(room)));
        let leave = leave.collect();
        Self { join: &rooms.join, invite: &rooms.invite, knock: &rooms.knock, leave }
    }
}

#[derive(Serialize)]
struct LeftBody<'a> {
    timeline: &'a Timeline,
    #[serde(flatten)]
    state: StateBody<'a>,
    #[serde(skip_serializing_if = "RoomAccountData::is_empty")]
    account_data: &'a RoomAccountData,
}

#[derive(Serialize)]
#[serde(untagged)]
enum StateBody<'a> {
    Some(&'a State),
    None { state: NoEvents },
}

#[derive(Serialize)]
struct NoEvents {
    events: [(); 0],
}

impl<'a> From<&'a LeftRoom> for LeftBody<'a> {
    fn from(room: &'a LeftRoom) -> Self {
        let state = match &room.state {
            State::Before(state) if state.is_empty() => {
                StateBody::None { state: NoEvents { events: [] } }
            }
            state => StateBody::Some(state),
        };
        Self { timeline: &room.timeline, state, account_data: &room.account_data }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{api::client::sync::sync_events::v3::StateEvents, room_id};
    use serde_json::{Value, from_value, json, to_value};

    use super::*;

    fn written(response: &Response) -> Value {
        to_value(Body::from(response)).unwrap()
    }

    #[test]
    fn a_left_room_always_has_a_timeline_and_a_state() {
        let mut response = Response::new("s1".to_owned());
        response.rooms.leave.insert(room_id!("!a").to_owned(), LeftRoom::new());
        let empty = json!({ "timeline": { "events": [] }, "state": { "events": [] } });
        assert_eq!(written(&response)["rooms"]["leave"]["!a"], empty);

        let event = json!({ "type": "m.x", "state_key": "", "content": {}, "sender": "@a:b" });
        let mut state = StateEvents::default();
        state.events.push(from_value(event.clone()).unwrap());
        for (key, state) in
            [("state", State::Before(state.clone())), ("state_after", State::After(state))]
        {
            let mut room = LeftRoom::new();
            room.state = state;
            response.rooms.leave.insert(room_id!("!a").to_owned(), room);
            assert_eq!(written(&response)["rooms"]["leave"]["!a"][key]["events"], json!([event]));
        }
    }

    #[test]
    fn all_else_is_written_as_ruma_does() {
        use ruma::api::OutgoingResponseExt as _;
        let mut response = Response::new("s1".to_owned());
        response.rooms.join.insert(room_id!("!a").to_owned(), JoinedRoom::new());
        response.device_unused_fallback_key_types = Some(Vec::new());
        response.device_one_time_keys_count.insert("signed_curve25519".into(), UInt::from(1_u8));
        let ours = written(&response);
        let theirs = response.try_into_http_response::<Vec<u8>>().unwrap();
        assert_eq!(ours, serde_json::from_slice::<Value>(theirs.body()).unwrap());
    }
}

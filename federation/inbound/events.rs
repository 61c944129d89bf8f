//! Events and states that other servers ask for.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#retrieving-events)

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use rooms::{Gap, NumberedId, Pdu, Room, Rooms, RoomsError};
use ruma::{OwnedEventId, OwnedRoomId, api::Direction};
use serde::Deserialize;
use serde_json::json;

use crate::{
    door::Door,
    inbound::{
        error::{Result, json_text, ok},
        extract::{Args, QueryArgs},
        origin::Signed,
    },
};

/// How many events a part of a long answer has.
const PART_LEN: usize = 200;

/// Fewest bytes of a long answer that are sent together, unless it ends.
const TEXT_BYTES_MIN: usize = 16 * 1024;

/// Events wanted by `get_missing_events` where the request does not say.
const MISSING_LIMIT: u16 = 10;

/// The event at which a state is asked for.
#[derive(Deserialize)]
pub(crate) struct AtEvent {
    event_id: OwnedEventId,
}

/// Which history is asked for.
#[derive(Deserialize)]
pub(crate) struct BackfillQuery {
    #[serde(default)]
    v: Vec<OwnedEventId>,
    limit: u64,
}

/// Which gap is to be filled.
#[derive(Deserialize)]
struct MissingEvents {
    limit: Option<u64>,
    min_depth: Option<u64>,
    earliest_events: Vec<OwnedEventId>,
    latest_events: Vec<OwnedEventId>,
}

/// Which time is asked for.
#[derive(Deserialize)]
pub(crate) struct AtTime {
    ts: u64,
    dir: Direction,
}

/// Gives one event.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid)
pub(crate) async fn get_event(
    State(door): State<Door>,
    Args(event_id): Args<OwnedEventId>,
    request: Signed,
) -> Result<Response> {
    let pdu = door.rooms.event_for(&request.origin, &event_id).await?;
    Ok(json_text(transaction(&door, &[pdu])))
}

/// Gives the state just before an event.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1stateroomid)
pub(crate) async fn get_state(
    State(door): State<Door>,
    Args(room_id): Args<OwnedRoomId>,
    QueryArgs(at): QueryArgs<AtEvent>,
    request: Signed,
) -> Result<Response> {
    let (room, state) = door.rooms.state_for(&request.origin, &room_id, &at.event_id).await?;
    Ok(long_answer(vec![
        Part::Text("{\"auth_chain\":[".into()),
        Part::Events(events_of(&door.rooms, &room, &state.auth_chain)),
        Part::Text("],\"pdus\":[".into()),
        Part::Events(events_of(&door.rooms, &room, &state.state)),
        Part::Text("]}".into()),
    ]))
}

/// Gives the IDs of the state just before an event.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1state_idsroomid)
pub(crate) async fn get_state_ids(
    State(door): State<Door>,
    Args(room_id): Args<OwnedRoomId>,
    QueryArgs(at): QueryArgs<AtEvent>,
    request: Signed,
) -> Result<Response> {
    let (_, state) = door.rooms.state_for(&request.origin, &room_id, &at.event_id).await?;
    let ids = |list: &[NumberedId]| list.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>();
    Ok(ok(&json!({
        "auth_chain_ids": ids(&state.auth_chain),
        "pdu_ids": ids(&state.state),
    })))
}

/// Gives the auth chain of an event.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1event_authroomideventid)
pub(crate) async fn get_event_auth(
    State(door): State<Door>,
    Args((room_id, event_id)): Args<(OwnedRoomId, OwnedEventId)>,
    request: Signed,
) -> Result<Response> {
    let chain = door.rooms.auth_chain_for(&request.origin, &room_id, &event_id).await?;
    Ok(json_text(format!("{{\"auth_chain\":[{}]}}", list(&chain))))
}

/// Gives events of the room's history.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1backfillroomid)
pub(crate) async fn get_backfill(
    State(door): State<Door>,
    Args(room_id): Args<OwnedRoomId>,
    QueryArgs(query): QueryArgs<BackfillQuery>,
    request: Signed,
) -> Result<Response> {
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let events = door.rooms.backfill_for(&request.origin, &room_id, &query.v, limit).await?;
    Ok(json_text(transaction(&door, &events)))
}

/// Gives events that the other server lacks.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1get_missing_eventsroomid)
pub(crate) async fn get_missing_events(
    State(door): State<Door>,
    Args(room_id): Args<OwnedRoomId>,
    request: Signed,
) -> Result<Response> {
    let wanted: MissingEvents = request.json()?;
    let gap = Gap {
        latest: wanted.latest_events,
        earliest: wanted.earliest_events,
        min_depth: wanted.min_depth.unwrap_or(0),
        limit: wanted.limit.map_or(MISSING_LIMIT, |n| u16::try_from(n).unwrap_or(u16::MAX)),
    };
    let events = door.rooms.missing_events_for(&request.origin, &room_id, &gap).await?;
    Ok(json_text(format!("{{\"events\":[{}]}}", list(&events))))
}

/// Gives the event closest to a time.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid)
pub(crate) async fn get_event_by_timestamp(
    State(door): State<Door>,
    Args(room_id): Args<OwnedRoomId>,
    QueryArgs(at): QueryArgs<AtTime>,
    request: Signed,
) -> Result<Response> {
    let (event_id, origin_server_ts) =
        door.rooms.event_near_for(&request.origin, &room_id, at.ts, at.dir).await?;
    Ok(ok(&json!({ "event_id": event_id, "origin_server_ts": origin_server_ts })))
}

/// Events in the shape of a transaction.
fn transaction(door: &Door, events: &[Arc<Pdu>]) -> String {
    let (name, now_ms) = (&door.server_name, door.clock.now_ms());
    // A server name needs no escapes.
    format!("{{\"origin\":\"{name}\",\"origin_server_ts\":{now_ms},\"pdus\":[{}]}}", list(events))
}

/// Events as the entries of a list.
pub(crate) fn list(events: &[Arc<Pdu>]) -> String {
    let mut text = String::with_capacity(events.iter().map(|pdu| pdu.json.len() + 1).sum());
    for (at, pdu) in events.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&pdu.json);
    }
    text
}

/// A piece of an answer that is too long to be held in memory at once.
pub(crate) enum Part {
    /// Text as it is.
    Text(Cow<'static, str>),
    /// Events, as the entries of a list.
    Events(Pages),
}

/// Events of a room, read as they are sent.
pub(crate) struct Pages {
    rooms: Rooms,
    room: Arc<Room>,
    numbers: Vec<rooms::EventNumber>,
    next: usize,
}

/// Some of a room's events, as a part of an answer.
fn events_of(rooms: &Rooms, room: &Arc<Room>, events: &[NumberedId]) -> Pages {
    pages_of(rooms, room, events.iter().map(|(number, _)| *number).collect())
}

/// Events with these numbers, as a part of an answer.
pub(crate) fn pages_of(rooms: &Rooms, room: &Arc<Room>, numbers: Vec<rooms::EventNumber>) -> Pages {
    Pages { rooms: rooms.clone(), room: Arc::clone(room), numbers, next: 0 }
}

impl Pages {
    /// The next entries with the comma before them; `None` at the end.
    async fn next(&mut self) -> Result<Option<String>, RoomsError> {
        let upto = self.next.saturating_add(PART_LEN).min(self.numbers.len());
        let Some(page) = self.numbers.get(self.next..upto).filter(|page| !page.is_empty()) else {
            return Ok(None);
        };
        let comma = if self.next > 0 { "," } else { "" };
        let events = self.rooms.events(&self.room, page).await?;
        let events: Vec<_> = events.iter().map(|event| Arc::clone(&event.pdu)).collect();
        self.next = upto;
        Ok(Some(format!("{comma}{}", list(&events))))
    }
}

/// An answer that is made while it is sent, page by page.
pub(crate) fn long_answer(parts: Vec<Part>) -> Response {
    let texts = stream::try_unfold(VecDeque::from(parts), next_text);
    let json = HeaderValue::from_static("application/json");
    // An error midway breaks the connection, so that nobody takes half an answer for a whole one.
    ([(header::CONTENT_TYPE, json)], Body::from_stream(texts)).into_response()
}

/// The next text of an answer, and what is still to come. Small parts go together, since each text
/// is a frame of HTTP/2, and peers break connections with many small or empty ones.
async fn next_text(
    mut parts: VecDeque<Part>,
) -> Result<Option<(Bytes, VecDeque<Part>)>, RoomsError> {
    let mut text = String::new();
    while text.len() < TEXT_BYTES_MIN
        && let Some(part) = parts.pop_front()
    {
        match part {
            Part::Text(more) => text.push_str(&more),
            Part::Events(mut pages) => {
                if let Some(more) = pages.next().await? {
                    text.push_str(&more);
                    parts.push_front(Part::Events(pages));
                }
            }
        }
    }
    Ok((!text.is_empty()).then(|| (Bytes::from(text), parts)))
}

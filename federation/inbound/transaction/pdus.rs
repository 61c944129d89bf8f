//! The events of a transaction: rooms in parallel, the events of one room in order.

use std::{collections::BTreeMap, sync::Arc};

use event::VerifiedPdu;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use rooms::{Received, Room};
use ruma::{OwnedEventId, RoomId, ServerName};
use serde::Serialize;
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    door::Door,
    inbound::{
        error::{Refusal, Result},
        tables::StagedEvent,
        transaction_body::PduPart,
    },
};

/// Most rooms of one transaction that are worked on at once.
const ROOMS_AT_ONCE_MAX: usize = 8;

/// When a server whose events wait may come again, in milliseconds.
const RETRY_AFTER_MS: u64 = 10_000;

/// What became of the events, by their IDs.
pub(super) type Results = BTreeMap<OwnedEventId, EventResult>;

/// What became of one event.
#[derive(Debug, Default, Serialize)]
pub(super) struct EventResult {
    /// Why it was refused; nothing where it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl EventResult {
    fn refused(why: impl Into<String>) -> Self {
        Self { error: Some(why.into()) }
    }
}

/// Receives the events of a transaction. What is accepted, or waits for other events, is durable
/// then.
///
/// # Errors
/// Where this server is at fault, or too many events of the other one wait already; the transaction
/// should come again.
pub(super) async fn receive(
    door: &Door,
    origin: &ServerName,
    pdus: Vec<PduPart<'_>>,
) -> Result<Results> {
    let mut rooms: BTreeMap<String, Vec<PduPart<'_>>> = BTreeMap::new();
    for pdu in pdus {
        rooms.entry(pdu.room_id.clone().unwrap_or_default()).or_default().push(pdu);
    }
    // Before anything is refused: its sender takes what a transaction refuses for done with.
    for (room_id, pdus) in &rooms {
        let room = known_room(door, room_id).await?;
        if room.is_some_and(|room| door.staging.space(room.number, origin) < pdus.len()) {
            tracing::info!(%origin, room.id = room_id, "too many events of this room wait");
            return Err(Refusal::limit_exceeded(RETRY_AFTER_MS));
        }
    }
    let mut works = Vec::with_capacity(rooms.len());
    for (room_id, pdus) in rooms {
        works.push(receive_in(door, origin, room_id, pdus));
    }
    let works = stream::iter(works).buffer_unordered(ROOMS_AT_ONCE_MAX);
    let results: Vec<Results> = works.try_collect().await?;
    Ok(results.into_iter().flatten().collect())
}

async fn known_room(door: &Door, room_id: &str) -> Result<Option<Arc<Room>>> {
    match RoomId::parse(room_id) {
        Ok(room_id) => Ok(door.rooms.room(&room_id).await?),
        Err(_) => Ok(None),
    }
}

/// Receives the events of one room.
async fn receive_in(
    door: &Door,
    origin: &ServerName,
    room_id: String,
    pdus: Vec<PduPart<'_>>,
) -> Result<Results> {
    let Some(room) = known_room(door, &room_id).await? else {
        tracing::debug!(%origin, room.id = room_id, "events of a room that we do not know");
        return Ok(refuse_by_own_id(&pdus, "this server is not in the room"));
    };
    if !door.rooms.acl_allows(&room, origin).await? {
        tracing::info!(%origin, room.id = %room.room_id, "events of a server that the ACL denies");
        return Ok(refuse_all(&room, &pdus, "the server is denied access by the room's ACL"));
    }
    let (mut results, events) = verify(door, origin, &room, &pdus).await;
    let mut waiting = Vec::new();
    for event in events {
        let event_id = event.pdu().event_id.clone();
        // In order: nothing overtakes an event of the same server that waits.
        let must_wait = !waiting.is_empty() || door.staging.has_queue(room.number, origin);
        let received =
            if must_wait { None } else { receive_now(door, origin, &room, event.clone()).await? };
        let result = match received {
            Some(Received::NotOurs) => receive_outside(door, origin, event).await?,
            Some(received) => result_of(received),
            None => {
                waiting.push(staged(origin, &event)?);
                EventResult::default()
            }
        };
        results.insert(event_id, result);
    }
    door.staging.add(room.number, origin, waiting).await?;
    Ok(results)
}

/// Receives an event for which nothing has to be fetched; `None` for all others.
async fn receive_now(
    door: &Door,
    origin: &ServerName,
    room: &Room,
    event: VerifiedPdu,
) -> Result<Option<Received>> {
    let event_id = event.pdu().event_id.clone();
    match door.rooms.receive_if_ready(origin, event).await {
        Ok(received) => Ok(received),
        Err(error @ rooms::RoomsError::Store(_)) => Err(error.into()),
        Err(error) => {
            // It is tried again from the queue.
            let room_id = &room.room_id;
            tracing::warn!(%error, event.id = %event_id, room.id = %room_id, "an event waits");
            Ok(None)
        }
    }
}

/// Receives an event of a room that we are not in: it may take back an invite or a knock.
async fn receive_outside(
    door: &Door,
    origin: &ServerName,
    event: VerifiedPdu,
) -> Result<EventResult> {
    if door.rooms.receive_outside(origin, event).await? {
        Ok(EventResult::default())
    } else {
        Ok(result_of(Received::NotOurs))
    }
}

/// Verifies the events of a room, and gives the results of those that fail.
async fn verify(
    door: &Door,
    origin: &ServerName,
    room: &Room,
    pdus: &[PduPart<'_>],
) -> (Results, Vec<VerifiedPdu>) {
    let jsons: Vec<Box<RawJsonValue>> = pdus.iter().map(|pdu| pdu.json.to_owned()).collect();
    let verified = door.client.keyring().verify_all(jsons, &room.rules).await;
    let mut results = Results::new();
    let mut events = Vec::with_capacity(pdus.len());
    for (pdu, verified) in pdus.iter().zip(verified) {
        match verified {
            Ok(event) => events.push(event),
            Err(error) => {
                let room_id = &room.room_id;
                tracing::info!(%error, %origin, room.id = %room_id, "an event does not verify");
                if let Some(event_id) = id_of(room, pdu) {
                    results.insert(event_id, EventResult::refused(error.to_string()));
                }
            }
        }
    }
    (results, events)
}

fn staged(origin: &ServerName, event: &VerifiedPdu) -> Result<StagedEvent> {
    let pdu = event.pdu();
    let json = RawJsonValue::from_string(pdu.json.to_string())
        .map_err(|error| Refusal::internal(&error))?;
    Ok(StagedEvent { origin: origin.to_owned(), event_id: pdu.event_id.clone(), json, attempts: 0 })
}

fn result_of(received: Received) -> EventResult {
    match received {
        // Others may accept what is soft-failed here: it is no fault of the event.
        Received::Known | Received::Accepted | Received::SoftFailed { .. } => {
            EventResult::default()
        }
        Received::Rejected { why } => EventResult::refused(why),
        Received::NotOurs => EventResult::refused("this server is not in the room"),
    }
}

/// The ID of an event that could not be verified, if it has one at all.
fn id_of(room: &Room, pdu: &PduPart<'_>) -> Option<OwnedEventId> {
    let json = pdu.json.get().into();
    event::Pdu::from_json(json, &room.rules).ok().map(|pdu| pdu.event_id)
}

fn refuse_all(room: &Room, pdus: &[PduPart<'_>], why: &str) -> Results {
    let ids = pdus.iter().filter_map(|pdu| id_of(room, pdu));
    ids.map(|id| (id, EventResult::refused(why))).collect()
}

/// Refuses events of a room whose version we do not know: only those that say their ID themselves
/// can be named.
fn refuse_by_own_id(pdus: &[PduPart<'_>], why: &str) -> Results {
    let ids = pdus.iter().filter_map(|pdu| pdu.event_id.as_deref()?.parse().ok());
    ids.map(|id| (id, EventResult::refused(why))).collect()
}

//! Who types in a room, and how far its members have read.

use std::collections::BTreeMap;

use rooms::{Position, Receipt, Room};
use ruma::{
    OwnedEventId, OwnedUserId,
    events::{AnySyncEphemeralRoomEvent, receipt::ReceiptThread},
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::{RawValue as RawJsonValue, to_raw_value};

use super::{Making, plan::Joined};
use crate::{error::Result, filter::Candidate};

/// Receipts by event, type and user.
type Receipts<'a> =
    BTreeMap<&'a OwnedEventId, BTreeMap<String, BTreeMap<&'a OwnedUserId, Details<'a>>>>;

#[derive(Serialize)]
struct Event<'a, C> {
    content: C,
    #[serde(rename = "type")]
    kind: &'a str,
}

#[derive(Serialize)]
struct Typing<'a> {
    user_ids: Vec<&'a OwnedUserId>,
}

#[derive(Serialize)]
struct Details<'a> {
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_id: Option<&'a str>,
}

/// The ephemeral events of a room that are new.
pub(super) async fn make(
    making: &Making<'_>,
    room: &Room,
    joined: Joined,
) -> Result<Vec<Raw<AnySyncEphemeralRoomEvent>>> {
    let filter = &making.wish.room_filters.ephemeral;
    let mut events = Vec::new();
    if !filter.takes_some_of(&room.room_id) {
        return Ok(events);
    }
    let wants = |kind| filter.takes(Candidate { kind, sender: None, content: RawJsonValue::NULL });
    if joined.typing && wants("m.typing") {
        events.extend(typing(making, room, joined)?);
    }
    if joined.receipts && wants("m.receipt") {
        events.extend(receipts(making, room, joined).await?);
    }
    events.truncate(filter.limit());
    Ok(events)
}

fn typing(
    making: &Making<'_>,
    room: &Room,
    joined: Joined,
) -> Result<Option<Raw<AnySyncEphemeralRoomEvent>>> {
    let (_, user_ids) = making.syncing.inner.rooms.typing(&room.room_id);
    if user_ids.is_empty() && joined.since.is_none() {
        return Ok(None);
    }
    let user_ids = user_ids.iter().filter(|user_id| !making.ignored.contains(user_id)).collect();
    let event = Event { content: Typing { user_ids }, kind: "m.typing" };
    Ok(Some(Raw::from_json(to_raw_value(&event)?)))
}

/// The receipts that are new; private ones are the user's own only.
async fn receipts(
    making: &Making<'_>,
    room: &Room,
    joined: Joined,
) -> Result<Vec<Raw<AnySyncEphemeralRoomEvent>>> {
    let viewer = &making.wish.request.user_id;
    let after = joined.since.unwrap_or(Position::ZERO);
    let upto = making.stretch.upto.position;
    let mut receipts = making.syncing.inner.rooms.receipts_after(room, after, upto).await?;
    receipts.retain(|receipt| {
        (!receipt.private || receipt.user_id == *viewer)
            && !making.ignored.contains(&receipt.user_id)
    });
    batches(&receipts)
        .into_iter()
        .map(|content| {
            let event = Event { content, kind: "m.receipt" };
            Ok(Raw::from_json(to_raw_value(&event)?))
        })
        .collect()
}

/// The receipts as contents of events. A user may have several for the same event, in different
/// threads: then it takes more than one.
fn batches(receipts: &[Receipt]) -> Vec<Receipts<'_>> {
    let mut batches: Vec<Receipts<'_>> = Vec::new();
    for receipt in receipts {
        let kind = receipt.kind.to_string();
        let is_free = |batch: &&mut Receipts<'_>| {
            let users = batch.get(&receipt.event_id).and_then(|kinds| kinds.get(&kind));
            users.is_none_or(|users| !users.contains_key(&receipt.user_id))
        };
        let details = Details { ts: receipt.timestamp_ms, thread_id: thread_id(&receipt.thread) };
        let batch = match batches.iter_mut().find(is_free) {
            Some(batch) => batch,
            None => {
                batches.push(Receipts::new());
                let Some(batch) = batches.last_mut() else { continue };
                batch
            }
        };
        let users = batch.entry(&receipt.event_id).or_default().entry(kind).or_default();
        users.insert(&receipt.user_id, details);
    }
    batches
}

fn thread_id(thread: &ReceiptThread) -> Option<&str> {
    thread.as_str()
}

#[cfg(test)]
mod tests {
    use ruma::{events::receipt::ReceiptType, owned_event_id, owned_user_id};
    use serde_json::json;

    use super::*;

    fn receipt(thread: ReceiptThread, timestamp_ms: u64) -> Receipt {
        Receipt {
            user_id: owned_user_id!("@a:x"),
            kind: ReceiptType::Read,
            thread,
            event_id: owned_event_id!("$e"),
            timestamp_ms,
            position: Position::new(1),
            private: false,
        }
    }

    #[test]
    fn receipts_of_several_threads_for_one_event_are_all_told() {
        let receipts = [receipt(ReceiptThread::Unthreaded, 1), receipt(ReceiptThread::Main, 2)];
        let contents = serde_json::to_value(batches(&receipts)).unwrap();
        let expected = json!([
            {"$e": {"m.read": {"@a:x": {"ts": 1}}}},
            {"$e": {"m.read": {"@a:x": {"ts": 2, "thread_id": "main"}}}},
        ]);
        assert_eq!(contents, expected);
    }
}

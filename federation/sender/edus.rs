//! What is fleeting: typing, receipts and presence on their way to one server. Of each there is
//! only the newest.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde::Serialize;
use serde_json::value::{RawValue as RawJsonValue, to_raw_value};

/// Most users whose presence waits for one server. Beyond it nothing more is told.
const PRESENCES_MAX: usize = 5_000;

/// Most users whose typing waits for one server.
const TYPING_MAX: usize = 200;

/// Most receipts that wait for one server.
const RECEIPTS_MAX: usize = 2_000;

/// Most presences, typing users and receipts that are sent in one transaction.
const PRESENCES_AT_ONCE: usize = 100;
const TYPING_AT_ONCE: usize = 20;
const RECEIPTS_AT_ONCE: usize = 100;

/// Most EDUs of receipts in one transaction.
const RECEIPT_EDUS_MAX: usize = 10;

/// Room, user and thread of a receipt; the thread is empty for a receipt that is for none.
type ReceiptKey = (OwnedRoomId, OwnedUserId, String);

/// How far somebody has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReadUpTo {
    pub(super) event_id: OwnedEventId,
    pub(super) timestamp_ms: u64,
}

/// What waits for one server.
#[derive(Debug, Default)]
pub(super) struct Fleeting {
    presences: BTreeSet<OwnedUserId>,
    typing: BTreeMap<(OwnedRoomId, OwnedUserId), bool>,
    receipts: BTreeMap<ReceiptKey, ReadUpTo>,
}

/// What is taken into one transaction.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Whose presence is to be told, as it is by then.
    pub(super) presences: Vec<OwnedUserId>,
    /// The EDUs of the rest.
    pub(super) edus: Vec<Box<RawJsonValue>>,
}

#[derive(Serialize)]
struct Edu<'a, C> {
    edu_type: &'a str,
    content: C,
}

#[derive(Serialize)]
struct Typing<'a> {
    room_id: &'a RoomId,
    user_id: &'a OwnedUserId,
    typing: bool,
}

/// Receipts by room, type and user.
type Receipts<'a> = BTreeMap<&'a OwnedRoomId, OfRoom<'a>>;

#[derive(Default, Serialize)]
struct OfRoom<'a> {
    #[serde(rename = "m.read")]
    read: BTreeMap<&'a OwnedUserId, OfUser<'a>>,
}

#[derive(Serialize)]
struct OfUser<'a> {
    data: Details<'a>,
    event_ids: [&'a OwnedEventId; 1],
}

#[derive(Serialize)]
struct Details<'a> {
    ts: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    thread_id: &'a str,
}

/// An EDU with its type.
pub(super) fn edu(edu_type: &str, content: impl Serialize) -> Option<Box<RawJsonValue>> {
    to_raw_value(&Edu { edu_type, content })
        .inspect_err(|error| tracing::error!(%error, edu_type, "an EDU has no JSON form"))
        .ok()
}

impl Fleeting {
    pub(super) fn is_empty(&self) -> bool {
        self.presences.is_empty() && self.typing.is_empty() && self.receipts.is_empty()
    }

    /// Forgets everything: the server is away.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets who types: it is not true any more when the server is back.
    pub(super) fn clear_typing(&mut self) {
        self.typing.clear();
    }

    pub(super) fn add_presence(&mut self, user: OwnedUserId) {
        if self.presences.len() < PRESENCES_MAX {
            self.presences.insert(user);
        }
    }

    pub(super) fn add_typing(&mut self, room: OwnedRoomId, user: OwnedUserId, is_typing: bool) {
        if self.typing.len() < TYPING_MAX {
            self.typing.insert((room, user), is_typing);
        }
    }

    pub(super) fn add_receipt(&mut self, key: ReceiptKey, read: ReadUpTo) {
        if self.receipts.len() < RECEIPTS_MAX || self.receipts.contains_key(&key) {
            self.receipts.insert(key, read);
        }
    }

    /// Takes some of what waits, the rest is for later.
    pub(super) fn take(&mut self) -> Taken {
        let mut taken = Taken::default();
        while taken.presences.len() < PRESENCES_AT_ONCE
            && let Some(user) = self.presences.pop_first()
        {
            taken.presences.push(user);
        }
        while taken.edus.len() < TYPING_AT_ONCE
            && let Some(((room_id, user_id), typing)) = self.typing.pop_first()
        {
            let content = Typing { room_id: &room_id, user_id: &user_id, typing };
            taken.edus.extend(edu("m.typing", content));
        }
        let mut receipts = Vec::new();
        while receipts.len() < RECEIPTS_AT_ONCE
            && let Some(receipt) = self.receipts.pop_first()
        {
            receipts.push(receipt);
        }
        self.receipts.extend(add_receipts(&mut taken.edus, receipts));
        taken
    }
}

/// Makes EDUs of receipts. A user has one in each EDU for a room, so that it takes several for
/// several threads. Gives those back that are too many.
fn add_receipts(
    edus: &mut Vec<Box<RawJsonValue>>,
    mut receipts: Vec<(ReceiptKey, ReadUpTo)>,
) -> Vec<(ReceiptKey, ReadUpTo)> {
    for _ in 0..RECEIPT_EDUS_MAX {
        if receipts.is_empty() {
            break;
        }
        let mut seen = BTreeSet::new();
        let all = mem::take(&mut receipts);
        let (first, rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|((room, user, _), _)| seen.insert((room.clone(), user.clone())));
        receipts = rest;
        let mut content = Receipts::new();
        for ((room, user, thread), read) in &first {
            let data = Details { ts: read.timestamp_ms, thread_id: thread };
            let receipt = OfUser { data, event_ids: [&read.event_id] };
            content.entry(room).or_default().read.insert(user, receipt);
        }
        edus.extend(edu("m.receipt", content));
    }
    receipts
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_room_id, owned_user_id};
    use serde_json::{Value as JsonValue, json};

    use super::*;

    fn json(edus: &[Box<RawJsonValue>]) -> JsonValue {
        serde_json::to_value(edus).unwrap()
    }

    #[test]
    fn only_the_newest_of_each_is_sent() {
        let mut fleeting = Fleeting::default();
        let (room, user) = (owned_room_id!("!r:x"), owned_user_id!("@a:x"));
        fleeting.add_typing(room.clone(), user.clone(), true);
        fleeting.add_typing(room.clone(), user.clone(), false);
        fleeting.add_presence(user.clone());
        fleeting.add_presence(user.clone());
        let key = (room, user.clone(), String::new());
        for number in 1..=3 {
            let event_id = OwnedEventId::try_from(format!("$e{number}")).unwrap();
            fleeting.add_receipt(key.clone(), ReadUpTo { event_id, timestamp_ms: number });
        }
        let taken = fleeting.take();
        assert_eq!(taken.presences, [user]);
        let expected = json!([
            {
                "edu_type": "m.typing",
                "content": { "room_id": "!r:x", "user_id": "@a:x", "typing": false },
            },
            {
                "edu_type": "m.receipt",
                "content": { "!r:x": { "m.read": {
                    "@a:x": { "data": { "ts": 3 }, "event_ids": ["$e3"] },
                } } },
            },
        ]);
        assert_eq!(json(&taken.edus), expected);
        assert!(fleeting.is_empty());
    }

    #[test]
    fn receipts_of_several_threads_take_several_edus() {
        let mut fleeting = Fleeting::default();
        let (room, user) = (owned_room_id!("!r:x"), owned_user_id!("@a:x"));
        for thread in ["", "main", "$root"] {
            let read = ReadUpTo { event_id: owned_event_id!("$e"), timestamp_ms: 1 };
            fleeting.add_receipt((room.clone(), user.clone(), thread.to_owned()), read);
        }
        let edus = json(&fleeting.take().edus);
        let threads: Vec<_> = (0..3)
            .map(|n| edus[n]["content"]["!r:x"]["m.read"]["@a:x"]["data"]["thread_id"].clone())
            .collect();
        assert_eq!(threads, [json!(null), json!("$root"), json!("main")]);
    }

    #[test]
    fn what_waits_and_what_is_sent_at_once_is_bounded() {
        let mut fleeting = Fleeting::default();
        for number in 0..10_000 {
            let user = OwnedUserId::try_from(format!("@u{number}:x")).unwrap();
            let room = owned_room_id!("!r:x");
            let read = ReadUpTo { event_id: owned_event_id!("$e"), timestamp_ms: 1 };
            fleeting.add_presence(user.clone());
            fleeting.add_typing(room.clone(), user.clone(), true);
            fleeting.add_receipt((room.clone(), user, String::new()), read.clone());
            let one = owned_user_id!("@one:x");
            fleeting.add_receipt((room, one, format!("${number}")), read);
        }
        assert_eq!(fleeting.presences.len(), PRESENCES_MAX);
        assert_eq!(fleeting.typing.len(), TYPING_MAX);
        assert_eq!(fleeting.receipts.len(), RECEIPTS_MAX);
        let mut rounds = 0;
        while !fleeting.is_empty() {
            let taken = fleeting.take();
            assert!(taken.edus.len() <= TYPING_AT_ONCE + RECEIPT_EDUS_MAX);
            rounds += 1;
        }
        assert!(rounds < 200, "{rounds}");
    }
}

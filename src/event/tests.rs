//! Tests of the rules of events.

mod format;
mod hostile;
mod old_versions;
mod properties;
mod resolution;
mod state;
mod vectors;
mod versions;

use std::{collections::BTreeMap, sync::Arc};

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, RoomVersionId, ServerName, UInt, UserId,
    events::TimelineEventType, owned_room_id, room_version_rules::RoomVersionRules, server_name,
    user_id,
};
use serde_json::{Value as JsonValue, value::to_raw_value};

use crate::{Draft, Pdu, ServerKey, auth_types, build, rules};

/// The seed of the specification's test vectors.
const SEED: [u8; 32] = [
    0x60, 0x90, 0xc1, 0x03, 0xd5, 0xe7, 0xaf, 0x6b, 0x15, 0xa9, 0x70, 0xfd, 0x56, 0x3e, 0xd7, 0x55,
    0x49, 0xe6, 0x15, 0x97, 0x19, 0xae, 0x5c, 0x3c, 0x31, 0xde, 0xe4, 0x31, 0x6f, 0xb7, 0x5c, 0x0d,
];

fn key() -> ServerKey {
    ServerKey::from_parts(SEED, "1").unwrap()
}

fn domain() -> &'static ServerName {
    server_name!("domain")
}

fn alice() -> &'static UserId {
    user_id!("@alice:domain")
}

fn bob() -> &'static UserId {
    user_id!("@bob:domain")
}

/// Every room version with its rules.
fn versions() -> Vec<(RoomVersionId, RoomVersionRules)> {
    (1..=12)
        .map(|number: u32| {
            let version = RoomVersionId::try_from(number.to_string()).unwrap();
            let rules = rules(&version).unwrap();
            (version, rules)
        })
        .collect()
}

fn draft(sender: &UserId, kind: &str, state_key: Option<&str>, content: JsonValue) -> Draft {
    Draft {
        room_id: Some(owned_room_id!("!room:domain")),
        sender: sender.to_owned(),
        kind: TimelineEventType::from(kind),
        state_key: state_key.map(str::to_owned),
        content: to_raw_value(&content).unwrap(),
        redacts: None,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        reference_hashes: BTreeMap::new(),
        depth: UInt::from(1_u32),
        origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000_u32)),
    }
}

/// A room in memory: its events in order, and the state behind the last of them.
struct Room {
    rules: RoomVersionRules,
    room_id: Option<OwnedRoomId>,
    events: Vec<Arc<Pdu>>,
    state: Vec<Arc<Pdu>>,
}

impl Room {
    fn new(version: &RoomVersionId) -> Self {
        let mut room = Self {
            rules: rules(version).unwrap(),
            room_id: None,
            events: Vec::new(),
            state: Vec::new(),
        };
        let mut content = serde_json::json!({ "room_version": version });
        if !room.rules.authorization.use_room_create_sender {
            content["creator"] = alice().as_str().into();
        }
        let create = room.make(alice(), "m.room.create", Some(""), content);
        room.room_id = Some(create.room_id.clone());
        room.append(create);
        room.must(alice(), "m.room.member", Some(alice().as_str()), joined());
        room
    }

    fn state(&self, kind: &str, key: &str) -> Option<Arc<Pdu>> {
        self.state
            .iter()
            .find(|pdu| pdu.kind == kind.into() && pdu.state_key.as_deref() == Some(key))
            .cloned()
    }

    fn event(&self, id: &ruma::EventId) -> Option<Arc<Pdu>> {
        self.events.iter().find(|pdu| pdu.event_id == id).cloned()
    }

    fn make(&self, sender: &UserId, kind: &str, key: Option<&str>, content: JsonValue) -> Pdu {
        let mut draft = draft(sender, kind, key, content);
        if let Some(room_id) = &self.room_id {
            draft.room_id = Some(room_id.clone());
        }
        let types = auth_types(&draft.kind, sender, key, &draft.content, &self.rules).unwrap();
        draft.auth_events = types
            .iter()
            .filter_map(|(kind, key)| self.state(&kind.to_string(), key))
            .map(|pdu| pdu.event_id.clone())
            .collect();
        draft.prev_events =
            self.events.last().map(|pdu| pdu.event_id.clone()).into_iter().collect();
        draft.reference_hashes = self.hashes(draft.prev_events.iter().chain(&draft.auth_events));
        draft.depth = UInt::from(u32::try_from(self.events.len()).unwrap() + 1);
        build(draft, domain(), &super::tests::key(), &self.rules).unwrap()
    }

    /// The reference hashes of events of the room, for the room versions that want them.
    fn hashes<'a>(
        &self,
        ids: impl Iterator<Item = &'a OwnedEventId>,
    ) -> BTreeMap<OwnedEventId, String> {
        if !self.rules.event_format.require_event_id {
            return BTreeMap::new();
        }
        ids.map(|id| (id.clone(), self.event(id).unwrap().reference_hash(&self.rules).unwrap()))
            .collect()
    }

    fn allow(&self, pdu: &Pdu) -> Result<(), crate::EventError> {
        crate::authorise(
            pdu,
            &self.rules,
            |id| self.event(id),
            |kind, key| self.state(&kind.to_string(), key),
        )
    }

    fn append(&mut self, pdu: Pdu) -> Arc<Pdu> {
        let pdu = Arc::new(pdu);
        self.events.push(pdu.clone());
        if let Some(key) = &pdu.state_key {
            self.state.retain(|old| {
                old.kind != pdu.kind || old.state_key.as_deref() != Some(key.as_str())
            });
            self.state.push(pdu.clone());
        }
        pdu
    }

    /// Makes, allows and appends an event.
    fn must(
        &mut self,
        sender: &UserId,
        kind: &str,
        key: Option<&str>,
        content: JsonValue,
    ) -> Arc<Pdu> {
        let pdu = self.make(sender, kind, key, content);
        self.allow(&pdu).unwrap();
        self.append(pdu)
    }

    /// Makes an event that is not allowed, and returns why.
    fn refused(
        &self,
        sender: &UserId,
        kind: &str,
        key: Option<&str>,
        content: JsonValue,
    ) -> String {
        self.allow(&self.make(sender, kind, key, content)).unwrap_err().to_string()
    }
}

fn joined() -> JsonValue {
    serde_json::json!({ "membership": "join" })
}

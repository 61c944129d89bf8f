//! What was stored of rooms, against ruma's own hashes and signatures, and against the store's
//! check.

use std::{collections::HashMap, sync::Arc};

use clock::SystemClock;
use event::ServerKey;
use rooms::{Rooms, RoomsConfig};
use ruma::{
    CanonicalJsonObject, EventId, RoomId, RoomVersionId, ServerName,
    serde::Base64,
    server_name,
    signatures::{PublicKeyMap, Verified, content_hash, reference_hash, verify_event},
};
use serde::Deserialize;
use serde_json::Value;
use store::{Family, Json, RocksOptions, Store, Table};

use super::Suite;
use crate::kit::{User, encode};

fn name() -> &'static ServerName {
    server_name!("localhost")
}

/// Where the root crate keeps the server's key.
const IDENTITY: Table<u8, Json<Identity>> = Table::new(0x0501, "identity", Family::Main);

#[derive(serde::Serialize, Deserialize)]
struct Identity {
    key_version: String,
    key_seed: [u8; 32],
}

/// Stops the server and checks every event of the rooms, and the whole store.
pub(crate) async fn check(suite: &mut Suite, rooms: &[String]) {
    let keys = published_keys(&suite.alice).await;
    let mut seen = Vec::new();
    for room in rooms {
        seen.push((room.clone(), shown_events(&suite.alice, room).await));
    }
    suite.server.stop().await;

    let path = suite.server.config.server.data_dir.join("store");
    let options = RocksOptions { cache_mib: 8, sync_writes: false };
    let store = Store::open_rocks(&path, options).await.unwrap();
    let identity = store.get(&IDENTITY, &0).await.unwrap().unwrap().0;
    let key = ServerKey::from_parts(identity.key_seed, &identity.key_version).unwrap();
    let report = rooms::check(&store, name(), key.public_keys(name())).await.unwrap();
    assert!(report.is_sound(), "{report}");
    assert!(report.rooms >= rooms.len() as u64, "{report}");

    let config = RoomsConfig::new(name().to_owned(), RoomVersionId::V12, Arc::new(key));
    let ground = Rooms::open(store.clone(), config, Arc::new(SystemClock)).await.unwrap();
    for (room, events) in seen {
        let room_id = <&RoomId>::try_from(room.as_str()).unwrap();
        let room = ground.room(room_id).await.unwrap().unwrap();
        assert_eq!(room.version.as_str(), suite.version.to_string());
        let mut hashes = HashMap::new();
        for event in events {
            let id = <&EventId>::try_from(event["event_id"].as_str().unwrap()).unwrap();
            let stored = ground.event_by_id(&room, id).await.unwrap().unwrap();
            let redacted = stored.redacted_by.is_some();
            agrees(&stored.pdu.json, &event, redacted, &keys, suite);
            let object = serde_json::from_str(&stored.pdu.json).unwrap();
            hashes.insert(id.to_string(), reference_hash(&object, &suite.rules).unwrap());
            refers_to(&object, &hashes, suite);
        }
    }
    ground.stop().await;
    store.close().await.unwrap();
}

/// A stored event has the hash, the signature and the ID that ruma computes, and says what clients
/// saw.
fn agrees(json: &str, shown: &Value, redacted: bool, keys: &PublicKeyMap, suite: &Suite) {
    let object: CanonicalJsonObject = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&object).unwrap(), json, "canonical");
    assert!(!object.contains_key("unsigned"), "{json}");
    if suite.version < 3 {
        assert_eq!(object["event_id"].as_str(), shown["event_id"].as_str());
    } else {
        assert!(!object.contains_key("event_id"), "{json}");
        let hash = reference_hash(&object, &suite.rules).unwrap();
        assert_eq!(shown["event_id"], format!("${hash}"));
    }
    let verified = verify_event(keys, &object, &suite.rules).unwrap();
    let expected = if redacted { Verified::Signatures } else { Verified::All };
    assert_eq!(verified, expected, "{json}");
    let pdu: Value = serde_json::from_str(json).unwrap();
    if !redacted {
        assert_eq!(pdu["hashes"]["sha256"], content_hash(&object).unwrap().encode());
    }
    for field in ["type", "sender", "state_key", "origin_server_ts"] {
        assert_eq!(pdu.get(field), shown.get(field), "{json}");
    }
    let names_room = suite.version >= 12 && pdu["type"] == "m.room.create";
    assert_eq!(pdu.get("room_id").is_none(), names_room, "{json}");
    let auth_events = pdu["auth_events"].as_array().unwrap();
    let create = format!("${}", shown["room_id"].as_str().unwrap().trim_start_matches('!'));
    assert!(!auth_events.contains(&Value::from(create)), "{json}");
    assert_eq!(auth_events.is_empty(), pdu["type"] == "m.room.create" || is_first(&pdu, suite));
}

/// An event refers to earlier ones in the form of its version.
fn refers_to(object: &CanonicalJsonObject, hashes: &HashMap<String, String>, suite: &Suite) {
    for field in ["prev_events", "auth_events"] {
        for reference in object[field].as_array().unwrap() {
            let Some(pair) = reference.as_array() else {
                assert!(suite.version >= 3 && hashes.contains_key(reference.as_str().unwrap()));
                continue;
            };
            assert!(suite.version < 3);
            let hash = &pair[1].as_object().unwrap()["sha256"];
            assert_eq!(hash.as_str(), Some(&*hashes[pair[0].as_str().unwrap()]));
        }
    }
}

/// From version 12 on the creator's join is allowed by the create event alone, which is not listed.
fn is_first(pdu: &Value, suite: &Suite) -> bool {
    suite.version >= 12 && pdu["type"] == "m.room.member" && pdu["depth"] == 2
}

/// The keys that the server publishes.
async fn published_keys(user: &User) -> PublicKeyMap {
    let document = user.do_get("/_matrix/key/v2/server").await;
    let keys = document["verify_keys"].as_object().unwrap();
    let keys = keys
        .iter()
        .map(|(id, key)| (id.clone(), Base64::parse(key["key"].as_str().unwrap()).unwrap()));
    [(name().to_string(), keys.collect())].into()
}

/// Every event of a room, oldest first, as a member sees it.
async fn shown_events(user: &User, room: &str) -> Vec<Value> {
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=f&limit=100", encode(room));
    let page = user.do_get(&path).await;
    let events = page["chunk"].as_array().unwrap().clone();
    assert!(events.len() > 6 && events[0]["type"] == "m.room.create", "{page}");
    events
}

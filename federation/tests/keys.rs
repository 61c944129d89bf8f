mod events;
mod fetching;
mod notaries;
mod requests;

use std::sync::{Arc, Mutex};

use event::{Draft, OldKey, Pdu, ServerKey, key_document};
use ruma::{
    MilliSecondsSinceUnixEpoch, RoomVersionId, ServerName, UInt,
    room_version_rules::RoomVersionRules,
};
use serde_json::{json, value::RawValue as RawJsonValue};

use super::fake::{Asked, Body, Fake, NOW_MS, json, text};

/// An hour.
const HOUR_MS: u64 = 3_600_000;

/// What the servers of the small internet publish.
#[derive(Default)]
struct Published(Mutex<Vec<(String, String)>>);

impl Published {
    /// Lets a server publish keys from now on.
    fn put(&self, server: &str, document: String) {
        let mut all = self.0.lock().unwrap();
        all.retain(|(name, _)| name != server);
        all.push((server.to_owned(), document));
    }

    fn answer(&self, asked: &Asked) -> http::Response<Body> {
        let all = self.0.lock().unwrap();
        match all.iter().find(|(name, _)| *name == asked.host) {
            Some((_, document)) if asked.path == "/_matrix/key/v2/server" => {
                assert!(!asked.headers.contains_key("authorization"));
                text(200, document)
            }
            _ => text(404, "{}"),
        }
    }
}

/// Servers that publish what they are told to.
async fn start() -> (Fake, Arc<Published>) {
    let published = Arc::new(Published::default());
    let answers = Arc::clone(&published);
    let fake = Fake::answering(move |asked| answers.answer(asked)).await;
    (fake, published)
}

fn key(version: &str) -> ServerKey {
    ServerKey::generate(version).unwrap()
}

fn when(ms: u64) -> MilliSecondsSinceUnixEpoch {
    MilliSecondsSinceUnixEpoch(UInt::try_from(ms).unwrap())
}

/// A document with a key that is valid for a day.
fn document(server: &str, key: &ServerKey) -> String {
    document_with(server, key, &[], NOW_MS + 24 * HOUR_MS)
}

fn document_with(server: &str, key: &ServerKey, old: &[OldKey], valid_until_ms: u64) -> String {
    let server: &ServerName = server.try_into().unwrap();
    key_document(server, key, old, when(valid_until_ms)).unwrap()
}

fn old_key(key: &ServerKey, expired_ms: u64) -> OldKey {
    OldKey {
        key_id: key.key_id().to_owned(),
        public_key_base64: key.public_key_base64(),
        expired_ts: when(expired_ms),
    }
}

fn rules(version: &RoomVersionId) -> RoomVersionRules {
    event::rules(version).unwrap()
}

/// An event of a user of `server`, sent at a time.
fn event(server: &str, key: &ServerKey, version: &RoomVersionId, sent_ms: u64) -> Pdu {
    let server: &ServerName = server.try_into().unwrap();
    let draft = Draft {
        room_id: Some("!room:a.example".try_into().unwrap()),
        sender: format!("@user:{server}").try_into().unwrap(),
        kind: "m.room.message".into(),
        state_key: None,
        content: RawJsonValue::from_string(json!({ "body": "hi" }).to_string()).unwrap(),
        redacts: None,
        prev_events: Vec::new(),
        auth_events: Vec::new(),
        reference_hashes: Default::default(),
        depth: 1_u8.into(),
        origin_server_ts: when(sent_ms),
    };
    event::build(draft, server, key, &rules(version)).unwrap()
}

fn raw(event: &Pdu) -> Box<RawJsonValue> {
    RawJsonValue::from_string(event.json.to_string()).unwrap()
}

//! A room as a [`Peer`] takes part in it: it knows the state and the newest events, and makes
//! events that are right, to be spoilt by tests.

use std::collections::BTreeMap;

use clock::{Clock as _, SystemClock};
use http::Method;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, RoomVersionId, room_version_rules::RoomVersionRules,
    signatures::hash_and_sign_event,
};
use serde_json::{Value, json};

use super::{
    client::{Reply, encode, reply},
    peer::Peer,
    server::TestServer,
};

/// An event that the peer made: its ID and its JSON.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) event_id: String,
    pub(crate) json: Value,
}

/// A room that a user of the peer has joined.
#[derive(Clone, Debug)]
pub(crate) struct PeerRoom {
    pub(crate) room_id: String,
    pub(crate) rules: RoomVersionRules,
    /// The user of the peer.
    pub(crate) user: String,
    /// The current state: IDs and events.
    pub(crate) state: BTreeMap<(String, String), Made>,
    /// The newest events, and the depth of the next.
    pub(crate) latest: Vec<String>,
    pub(crate) depth: u64,
}

/// The ID of an event.
pub(crate) fn event_id(json: &Value, rules: &RoomVersionRules) -> String {
    let object: CanonicalJsonObject = serde_json::from_value(json.clone()).unwrap();
    event::reference_event_id(&object, rules).unwrap().to_string()
}

impl Peer {
    /// Joins a room of a server as a user of the peer's first name.
    pub(crate) async fn join(&self, server: &TestServer, room_id: &str, local: &str) -> PeerRoom {
        let user = format!("@{local}:{}", self.name());
        let versions = (1..=12).map(|version| format!("ver={version}")).collect::<Vec<_>>();
        let (room, who) = (encode(room_id), encode(&user));
        let uri = format!("/_matrix/federation/v1/make_join/{room}/{who}?{}", versions.join("&"));
        let (status, answer) = self.send(server, Method::GET, &uri, None).await;
        assert_eq!(status, 200, "make_join answered {answer}");
        let version: RoomVersionId =
            serde_json::from_value(answer["room_version"].clone()).unwrap_or(RoomVersionId::V1);
        let rules = version.rules().unwrap();
        let mut event = answer["event"].clone();
        event["origin_server_ts"] = now_ms().into();
        let depth = event["depth"].as_u64().unwrap() + 1;
        let made = self.seal(event, &rules);
        let uri = format!("/_matrix/federation/v2/send_join/{room}/{}", encode(&made.event_id));
        let (status, answer) = self.send(server, Method::PUT, &uri, Some(made.json.clone())).await;
        assert_eq!(status, 200, "send_join answered {answer}");
        let mut joined = PeerRoom::new(room_id.to_owned(), rules, user);
        joined.latest = vec![made.event_id.clone()];
        joined.depth = depth;
        for event in answer["state"].as_array().unwrap() {
            let event_id = event_id(event, &joined.rules);
            joined.set(Made { event_id, json: event.clone() });
        }
        joined.set(made);
        joined
    }

    /// Hashes and signs an event as the server of its sender.
    pub(crate) fn seal(&self, event: Value, rules: &RoomVersionRules) -> Made {
        let mut object: CanonicalJsonObject = serde_json::from_value(event).unwrap();
        let sender = object.get("sender").and_then(CanonicalJsonValue::as_str).unwrap();
        let server = sender.split_once(':').unwrap().1.to_owned();
        object.remove("unsigned");
        hash_and_sign_event(&server, self.key(), &mut object, &rules.redaction).unwrap();
        let event_id = event::reference_event_id(&object, rules).unwrap().to_string();
        Made { event_id, json: serde_json::to_value(&object).unwrap() }
    }

    /// Sends events in a transaction. Gives the `pdus` of the answer.
    pub(crate) async fn transact(&self, server: &TestServer, txn: &str, events: &[Value]) -> Value {
        let (status, answer) = self.try_transact(server, txn, events, &[]).await;
        assert_eq!(status, 200, "the transaction was answered {answer}");
        answer["pdus"].clone()
    }

    /// Sends events whose numbers canonical JSON can't hold: the signature is that of a transaction
    /// without them, since no other can be made.
    pub(crate) async fn try_transact_raw(
        &self,
        server: &TestServer,
        txn: &str,
        events: &[Value],
    ) -> Reply {
        let uri = format!("/_matrix/federation/v1/send/{txn}");
        let body =
            json!({ "origin": self.name(), "origin_server_ts": 1, "pdus": events, "edus": [] });
        let signed =
            json!({ "origin": self.name(), "origin_server_ts": 1, "pdus": [], "edus": [] });
        let destination = server.server().name().to_owned();
        let header =
            self.authorization(self.name(), &destination, &Method::PUT, &uri, Some(&signed));
        let request = self.request(server, Method::PUT, &uri, Some(body));
        reply(request.header("authorization", header)).await
    }

    /// Sends a transaction with events and EDUs.
    pub(crate) async fn try_transact(
        &self,
        server: &TestServer,
        txn: &str,
        events: &[Value],
        edus: &[Value],
    ) -> Reply {
        let body = json!({
            "origin": self.name(), "origin_server_ts": now_ms(), "pdus": events, "edus": edus,
        });
        let uri = format!("/_matrix/federation/v1/send/{txn}");
        self.send(server, Method::PUT, &uri, Some(body)).await
    }
}

impl PeerRoom {
    /// A room without events.
    pub(crate) fn new(room_id: String, rules: RoomVersionRules, user: String) -> Self {
        Self { room_id, rules, user, state: BTreeMap::new(), latest: Vec::new(), depth: 1 }
    }

    /// Takes a state event into the current state.
    pub(crate) fn set(&mut self, made: Made) {
        let text = |field: &str| made.json[field].as_str().map(str::to_owned);
        if let (Some(kind), Some(key)) = (text("type"), text("state_key")) {
            self.state.insert((kind, key), made);
        }
    }

    /// The IDs of the state events that allow an event of the peer's user.
    pub(crate) fn auth_events(&self, kind: &str, key: Option<&str>) -> Vec<String> {
        let mut wanted = vec![("m.room.power_levels", ""), ("m.room.member", self.user.as_str())];
        if !self.rules.authorization.room_create_event_id_as_room_id {
            wanted.push(("m.room.create", ""));
        }
        if kind == "m.room.member" {
            wanted.push(("m.room.join_rules", ""));
            wanted.extend(key.filter(|key| *key != self.user).map(|key| ("m.room.member", key)));
        }
        let wanted = wanted.iter().map(|(kind, key)| ((*kind).to_owned(), (*key).to_owned()));
        wanted.filter_map(|key| Some(self.state.get(&key)?.event_id.clone())).collect()
    }

    /// An event of the peer's user that follows the newest, not yet hashed and signed.
    pub(crate) fn draft(&self, kind: &str, key: Option<&str>, content: Value) -> Value {
        let mut event = json!({
            "room_id": self.room_id, "sender": self.user, "type": kind, "content": content,
            "prev_events": self.latest, "auth_events": self.auth_events(kind, key),
            "depth": self.depth, "origin_server_ts": now_ms(),
        });
        if let Some(key) = key {
            event["state_key"] = key.into();
        }
        event
    }

    /// A message that follows the newest events.
    pub(crate) fn message(&self, peer: &Peer, body: &str) -> Made {
        let content = json!({ "msgtype": "m.text", "body": body });
        peer.seal(self.draft("m.room.message", None, content), &self.rules)
    }

    /// Lets an event be the newest.
    pub(crate) fn follow(&mut self, made: &Made) {
        self.latest = vec![made.event_id.clone()];
        self.depth = made.json["depth"].as_u64().unwrap_or(self.depth) + 1;
        self.set(made.clone());
    }
}

fn now_ms() -> u64 {
    SystemClock.now_ms()
}

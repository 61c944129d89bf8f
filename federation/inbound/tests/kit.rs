//! A server with its door, and another one that is a key and what it remembers of a room.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{Router, body::Body};
use clock::{Clock, ManualClock};
use event::{Completion, Draft, Pdu, ServerKey};
use http::{Method, Request, StatusCode, header};
use media::{Media, MediaConfig};
use rooms::{NewRoom, RoomPreset, Rooms, RoomsConfig, StateSelect};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName,
    OwnedUserId, RoomVersionId, ServerName, UInt, UserId, events::room::member::MembershipState,
    room_version_rules::RoomVersionRules, serde::Base64,
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::{Batch, Json, Store};
use tempfile::TempDir;
use tower::ServiceExt as _;
use users::{NewAccount, Users, UsersConfig};

use crate::{
    Client, ClientConfig, Deliver, DeliverError, Door, DoorParts, OwnKeys, Sender, SenderConfig,
    SenderParts, ServerLists, Transaction,
    keyring::ServerKeys,
    router,
    tables::{SERVER_KEYS, server_key},
    x_matrix,
};

const NOW_MS: u64 = 1_700_000_000_000;

/// This server, `here.test`.
pub(super) struct Here {
    pub(super) store: Store,
    pub(super) rooms: Rooms,
    pub(super) users: Users,
    pub(super) door: Door,
    pub(super) router: Router,
    pub(super) key: Arc<ServerKey>,
    _files: TempDir,
}

/// Another server: a name and a key.
#[derive(Clone)]
pub(super) struct Far {
    pub(super) name: OwnedServerName,
    pub(super) key: Arc<ServerKey>,
}

/// Brings nothing anywhere.
#[derive(Debug)]
struct Nowhere;

#[async_trait]
impl Deliver for Nowhere {
    fn is_allowed(&self, _: &ServerName) -> bool {
        true
    }

    async fn deliver(&self, _: &ServerName, _: &Transaction) -> Result<(), DeliverError> {
        Err(DeliverError::Failed { why: "nobody is there".to_owned(), retry_after_ms: None })
    }
}

/// A server of the name `{name}.test` whose keys are known.
pub(super) fn far(name: &str) -> Far {
    let seed = name.bytes().fold(40_u8, u8::wrapping_add);
    let key = Arc::new(ServerKey::from_parts([seed; 32], "far").unwrap());
    Far { name: ServerName::parse(format!("{name}.test")).unwrap(), key }
}

impl Here {
    pub(super) async fn new() -> Self {
        Self::on(Store::memory()).await
    }

    pub(super) async fn on(store: Store) -> Self {
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let name = ServerName::parse("here.test").unwrap();
        let key = Arc::new(ServerKey::from_parts([9; 32], "here").unwrap());
        let keys = OwnKeys::new(Arc::clone(&key), Vec::new());
        for far in [far("far"), far("denied"), far("third")] {
            know(&store, &far).await;
        }
        let nowhere = "127.0.0.1:9".parse().unwrap();
        let client_config = ClientConfig {
            lists: ServerLists::new(&[], &["denied.*".to_owned()]),
            overrides: ["far", "third", "unknown"].map(|name| (far(name).name, nowhere)).into(),
            connect_timeout: Duration::from_secs(1),
            ..ClientConfig::new(name.clone())
        };
        let dyn_clock: Arc<dyn Clock> = clock;
        let client =
            Client::new(client_config, keys.clone(), store.clone(), Arc::clone(&dyn_clock))
                .unwrap();
        let config = RoomsConfig {
            remote: Arc::new(client.clone()),
            ..RoomsConfig::new(name.clone(), RoomVersionId::V11, Arc::clone(&key))
        };
        let rooms = Rooms::open(store.clone(), config, Arc::clone(&dyn_clock)).await.unwrap();
        let config = UsersConfig {
            server_name: name.clone(),
            argon2_memory_kib: 8,
            argon2_iterations: 1,
            remote: Arc::new(users::Nobody),
        };
        let users = Users::open(store.clone(), config, Arc::clone(&dyn_clock)).await.unwrap();
        let files = tempfile::tempdir().unwrap();
        let config = MediaConfig {
            server_name: name.clone(),
            directory: files.path().to_owned(),
            upload_bytes_max: 1_000_000,
            remote_bytes_max: 1_000_000,
            remote: Arc::new(media::Nobody),
        };
        let media = Media::open(store.clone(), config, Arc::clone(&dyn_clock)).await.unwrap();
        let sender = Sender::start(SenderParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            deliver: Arc::new(Nowhere),
            clock: Arc::clone(&dyn_clock),
            config: SenderConfig::default(),
        });
        let door = Door::start(DoorParts {
            server_name: name,
            keys,
            clock: dyn_clock,
            version: "1",
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            media,
            client,
            sender,
        });
        let router = router(door.clone());
        Self { store, rooms, users, door, router, key, _files: files }
    }

    pub(super) async fn sign_up(&self, name: &str) -> OwnedUserId {
        let localpart = Some(name.to_owned());
        self.users.create_account(NewAccount { localpart, ..NewAccount::default() }).await.unwrap()
    }

    /// A public room made by `@alice:here.test`.
    pub(super) async fn room(&self, version: RoomVersionId) -> OwnedRoomId {
        let preset = Some(RoomPreset::PublicChat);
        let new = NewRoom { version: Some(version), preset, ..NewRoom::default() };
        self.rooms.create(&user("alice"), new).await.unwrap()
    }

    /// Sends a request as it is.
    pub(super) async fn send(&self, request: Request<Body>) -> (StatusCode, JsonValue) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE).cloned();
        let body = axum::body::to_bytes(response.into_body(), 64 * 1024 * 1024).await.unwrap();
        assert_eq!(kind.unwrap(), "application/json");
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Sends a request without any signature.
    pub(super) async fn ask(&self, method: Method, path: &str) -> (StatusCode, JsonValue) {
        self.send(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
    }

    pub(super) async fn get(&self, far: &Far, path: &str) -> (StatusCode, JsonValue) {
        self.send(far.signed(Method::GET, path, None)).await
    }

    pub(super) async fn put(
        &self,
        far: &Far,
        path: &str,
        body: &JsonValue,
    ) -> (StatusCode, JsonValue) {
        self.send(far.signed(Method::PUT, path, Some(&body.to_string()))).await
    }

    pub(super) async fn post(
        &self,
        far: &Far,
        path: &str,
        body: &JsonValue,
    ) -> (StatusCode, JsonValue) {
        self.send(far.signed(Method::POST, path, Some(&body.to_string()))).await
    }

    /// Sends a transaction with events, as JSON texts.
    pub(super) async fn transaction(&self, far: &Far, id: &str, pdus: &[&str]) -> JsonValue {
        let body = format!("{{\"origin\":\"x\",\"pdus\":[{}]}}", pdus.join(","));
        let path = format!("/_matrix/federation/v1/send/{id}");
        let (status, answer) = self.send(far.signed(Method::PUT, &path, Some(&body))).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["pdus"].clone()
    }

    /// Sends EDUs.
    pub(super) async fn edus(&self, far: &Far, id: &str, edus: JsonValue) {
        let body = json!({ "origin": far.name, "pdus": [], "edus": edus });
        let path = format!("/_matrix/federation/v1/send/{id}");
        let (status, answer) = self.put(far, &path, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// Whether an event is in a room's timeline.
    pub(super) async fn has(&self, room: &OwnedRoomId, id: &OwnedEventId) -> bool {
        let room = self.rooms.room(room).await.unwrap().unwrap();
        let event = self.rooms.event_by_id(&room, id).await.unwrap();
        event.is_some_and(|event| !event.rejected && !event.soft_failed)
    }

    /// Lets a user of the other server join, and gives what that server knows of the room then.
    pub(super) async fn join(&self, far: &Far, name: &str, room: &OwnedRoomId) -> Guest {
        let user = far.user(name);
        let path = format!("/_matrix/federation/v1/make_join/{room}/{user}?ver=11&ver=12&ver=10");
        let (status, template) = self.get(far, &path).await;
        assert_eq!(status, StatusCode::OK, "{template}");
        let version = RoomVersionId::try_from(template["room_version"].as_str().unwrap()).unwrap();
        let rules = event::rules(&version).unwrap();
        let event = far.complete(&template["event"], room, &user, MembershipState::Join, &rules);
        let path = format!("/_matrix/federation/v2/send_join/{room}/{}", event.event_id);
        let body = serde_json::from_str(&event.json).unwrap();
        let (status, answer) = self.put(far, &path, &body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let mut state = BTreeMap::new();
        for json in answer["state"].as_array().unwrap() {
            let pdu = Pdu::from_json(json.to_string().into(), &rules).unwrap();
            let key = (pdu.kind.to_string(), pdu.state_key.clone().unwrap());
            state.insert(key, pdu.event_id);
        }
        state.insert(("m.room.member".to_owned(), user.to_string()), event.event_id.clone());
        Guest {
            far: far.clone(),
            user,
            room: room.clone(),
            rules,
            state,
            last: event.event_id,
            depth: u64::from(event.depth),
        }
    }

    /// The IDs of the current state.
    pub(super) async fn state(&self, room: &OwnedRoomId) -> Vec<OwnedEventId> {
        let room = self.rooms.room(room).await.unwrap().unwrap();
        let root = self.rooms.current_state(&room).await.unwrap();
        let state = self.rooms.state_events(&room, root, &StateSelect::All).await.unwrap();
        state.iter().map(|pdu| pdu.event_id.clone()).collect()
    }
}

/// Lets the store know a server's keys.
async fn know(store: &Store, far: &Far) {
    let valid_until_ms = NOW_MS + 24 * 60 * 60 * 1_000;
    let until = MilliSecondsSinceUnixEpoch(UInt::new_saturating(valid_until_ms));
    let document = event::key_document(&far.name, &far.key, &[], until).unwrap();
    let key = Base64::<ruma::serde::base64::Standard>::parse(far.key.public_key_base64()).unwrap();
    let keys: ServerKeys = serde_json::from_value(json!({
        "keys": { far.key.key_id().as_str(): {
            "key": key, "valid_until_ms": valid_until_ms, "is_old": false,
        } },
        "document": document,
        "document_valid_until_ms": valid_until_ms,
    }))
    .unwrap();
    let mut batch = Batch::new();
    batch.put(&SERVER_KEYS, &server_key(&far.name), &Json(keys));
    store.commit(batch).await.unwrap();
}

/// A user of `here.test`.
pub(super) fn user(name: &str) -> OwnedUserId {
    UserId::parse(format!("@{name}:here.test")).unwrap()
}

impl Far {
    pub(super) fn user(&self, name: &str) -> OwnedUserId {
        UserId::parse(format!("@{name}:{}", self.name)).unwrap()
    }

    /// A request to `here.test`.
    pub(super) fn signed(&self, method: Method, path: &str, body: Option<&str>) -> Request<Body> {
        let here = ServerName::parse("here.test").unwrap();
        self.signed_for(&here, method, path, body)
    }

    pub(super) fn signed_for(
        &self,
        destination: &ServerName,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Request<Body> {
        let path = path.replace('$', "%24").replace('#', "%23");
        let request = Request::builder().method(method).uri(path);
        let mut request = request.body(body.unwrap_or_default().to_owned()).unwrap();
        let value = x_matrix::sign(&request, &self.name, destination, &self.key).unwrap();
        request.headers_mut().insert(header::AUTHORIZATION, value);
        request.map(Body::from)
    }

    /// Completes a member event.
    pub(super) fn complete(
        &self,
        template: &JsonValue,
        room: &OwnedRoomId,
        user: &UserId,
        membership: MembershipState,
        rules: &RoomVersionRules,
    ) -> Pdu {
        let completion = Completion {
            room_id: room,
            user,
            membership,
            content: CanonicalJsonObject::new(),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(NOW_MS)),
        };
        event::complete(&template.to_string(), completion, &self.name, &self.key, rules).unwrap()
    }
}

/// What another server knows of a room in which it has one user.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) far: Far,
    pub(super) user: OwnedUserId,
    pub(super) room: OwnedRoomId,
    pub(super) rules: RoomVersionRules,
    pub(super) state: BTreeMap<(String, String), OwnedEventId>,
    /// The event that the next one follows.
    pub(super) last: OwnedEventId,
    pub(super) depth: u64,
}

impl Guest {
    /// Makes an event upon the last one.
    pub(super) fn make(&mut self, kind: &str, key: Option<&str>, content: &JsonValue) -> Pdu {
        let content = to_raw_value(content).unwrap();
        let kind = ruma::events::TimelineEventType::from(kind);
        let wanted = event::auth_types(&kind, &self.user, key, &content, &self.rules).unwrap();
        let auth = wanted
            .iter()
            .filter_map(|(kind, key)| self.state.get(&(kind.to_string(), key.clone())).cloned());
        self.depth += 1;
        let draft = Draft {
            room_id: Some(self.room.clone()),
            sender: self.user.clone(),
            kind,
            state_key: key.map(str::to_owned),
            content,
            redacts: None,
            prev_events: vec![self.last.clone()],
            auth_events: auth.collect(),
            reference_hashes: BTreeMap::new(),
            depth: UInt::new_saturating(self.depth),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(NOW_MS)),
        };
        let pdu = event::build(draft, &self.far.name, &self.far.key, &self.rules).unwrap();
        self.last = pdu.event_id.clone();
        pdu
    }

    pub(super) fn say(&mut self, body: &str) -> Pdu {
        self.make("m.room.message", None, &json!({ "msgtype": "m.text", "body": body }))
    }
}

//! A server without doors, and its peers.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use clock::{Clock as _, ManualClock};
use event::{Completion, ServerKey};
use rooms::{NewEvent, NewRoom, Pdu, Profile, RoomPreset, Rooms, RoomsConfig, Step};
use ruma::{
    CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName,
    OwnedUserId, RoomId, RoomVersionId, ServerName, UInt, UserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::{Follower, Position, Store};
use tokio::sync::{Notify, mpsc};
use users::{Users, UsersConfig};

use crate::sender::{
    Deliver, DeliverError, Sender, SenderConfig, SenderParts, Transaction, follow::NAME,
};

/// What a peer does with transactions.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    Takes,
    Fails,
    Denied,
    /// Takes it once it is told.
    Hangs(Arc<Notify>),
}

/// An attempt to deliver.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) server: String,
    pub(super) transaction: Transaction,
    pub(super) came_through: bool,
}

impl Attempt {
    /// What the events say, in order.
    pub(super) fn texts(&self) -> Vec<String> {
        self.transaction.pdus.iter().map(|pdu| text(pdu)).collect()
    }

    /// The contents of the EDUs of a type.
    pub(super) fn edus(&self, kind: &str) -> Vec<JsonValue> {
        let edus = self.transaction.edus.iter();
        let edus = edus.map(|edu| serde_json::from_str::<JsonValue>(edu.get()).unwrap());
        edus.filter(|edu| edu["edu_type"] == kind).map(|edu| edu["content"].clone()).collect()
    }
}

/// What a message says, or the type of another event, with what a member event makes of whom.
fn text(pdu: &Pdu) -> String {
    let content: JsonValue = pdu.content_as().unwrap();
    match (&content["body"], &content["membership"]) {
        (JsonValue::String(body), _) => body.clone(),
        (_, JsonValue::String(membership)) => {
            format!("{} {membership}", pdu.state_key.as_deref().unwrap())
        }
        _ => pdu.kind.to_string(),
    }
}

/// All peers.
#[derive(Debug)]
pub(super) struct Peers {
    modes: Mutex<HashMap<OwnedServerName, Mode>>,
    attempts: mpsc::UnboundedSender<Attempt>,
}

#[async_trait]
impl Deliver for Peers {
    fn is_allowed(&self, server: &ServerName) -> bool {
        server.as_str() != "denied.example"
    }

    async fn deliver(
        &self,
        server: &ServerName,
        transaction: &Transaction,
    ) -> Result<(), DeliverError> {
        assert!(transaction.pdus.len() <= 50 && transaction.edus.len() <= 100);
        let mode = self.modes.lock().unwrap().get(server).cloned();
        let result = match mode.unwrap_or(Mode::Takes) {
            Mode::Takes => Ok(()),
            Mode::Fails => Err(DeliverError::Failed { why: "away".into(), retry_after_ms: None }),
            Mode::Denied => Err(DeliverError::Denied("denied".into())),
            Mode::Hangs(until) => {
                until.notified().await;
                Ok(())
            }
        };
        let came_through = result.is_ok();
        let (server, transaction) = (server.to_string(), transaction.clone());
        self.attempts.send(Attempt { server, transaction, came_through }).unwrap();
        result
    }
}

/// A server without doors.
pub(super) struct Home {
    pub(super) store: Store,
    pub(super) rooms: Rooms,
    pub(super) users: Users,
    pub(super) clock: Arc<ManualClock>,
    pub(super) config: SenderConfig,
    peers: Arc<Peers>,
    attempts: mpsc::UnboundedReceiver<Attempt>,
    sender: Option<Sender>,
    /// Where the log was when the sender was started for the first time.
    started: Position,
}

pub(super) fn user(id: &str) -> OwnedUserId {
    UserId::parse(if id.contains(':') { id.to_owned() } else { format!("@{id}:home.example") })
        .unwrap()
}

fn server(name: &str) -> OwnedServerName {
    ServerName::parse(name).unwrap()
}

impl Home {
    pub(super) async fn new() -> Self {
        let store = Store::memory();
        let key = Arc::new(ServerKey::from_parts([9; 32], "k1").unwrap());
        let server_name = server("home.example");
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let config = RoomsConfig::new(server_name.clone(), RoomVersionId::V11, key);
        let rooms = Rooms::open(store.clone(), config, Arc::clone(&clock) as _).await.unwrap();
        let config = UsersConfig {
            server_name,
            argon2_memory_kib: 8,
            argon2_iterations: 1,
            remote: Arc::new(users::Nobody),
        };
        let users = Users::open(store.clone(), config, Arc::clone(&clock) as _).await.unwrap();
        let (sent, attempts) = mpsc::unbounded_channel();
        let peers = Arc::new(Peers { modes: Mutex::default(), attempts: sent });
        let config = SenderConfig { sends_presence: false, ..SenderConfig::default() };
        Self {
            store,
            rooms,
            users,
            clock,
            config,
            peers,
            attempts,
            sender: None,
            started: Position::ZERO,
        }
    }

    /// Starts the sender, for the first time or again.
    pub(super) fn start(&mut self) {
        let parts = SenderParts {
            store: self.store.clone(),
            rooms: self.rooms.clone(),
            users: self.users.clone(),
            deliver: Arc::clone(&self.peers) as _,
            clock: Arc::clone(&self.clock) as _,
            config: self.config,
        };
        if self.started == Position::ZERO {
            self.started = self.store.position();
        }
        assert!(self.sender.replace(Sender::start(parts)).is_none());
    }

    pub(super) async fn stop(&mut self) {
        self.sender.take().unwrap().stop().await;
    }

    pub(super) fn sender(&self) -> &Sender {
        self.sender.as_ref().unwrap()
    }

    pub(super) fn set(&self, name: &str, mode: Mode) {
        self.peers.modes.lock().unwrap().insert(server(name), mode);
    }

    /// Lets the server hang, until what is returned is notified, each time.
    pub(super) fn hang(&self, name: &str) -> Arc<Notify> {
        let until = Arc::new(Notify::new());
        self.set(name, Mode::Hangs(Arc::clone(&until)));
        until
    }

    /// Moves the clock, and lets the sender look at it.
    pub(super) fn advance(&self, step_ms: u64) {
        self.clock.advance(step_ms);
        self.sender().shared.sooner.notify_one();
    }

    /// The next attempt, whoever it is to.
    pub(super) async fn attempt(&mut self) -> Attempt {
        let attempt = tokio::time::timeout(Duration::from_secs(30), self.attempts.recv()).await;
        attempt.expect("nothing was sent").unwrap()
    }

    /// The next attempts, by server.
    pub(super) async fn attempts(&mut self, number: usize) -> BTreeMap<String, Attempt> {
        let mut attempts = BTreeMap::new();
        for _ in 0..number {
            let attempt = self.attempt().await;
            assert!(attempts.insert(attempt.server.clone(), attempt).is_none(), "twice to one");
        }
        attempts
    }

    /// Fails if there was an attempt that nobody asked for.
    pub(super) fn nothing_was_sent(&mut self) {
        let attempt = self.attempts.try_recv();
        assert!(attempt.is_err(), "{attempt:?}");
    }

    /// Waits until nothing is under way, and every server with nothing to be told is forgotten.
    pub(super) async fn rest(&self, known: usize) {
        let shared = Arc::clone(&self.sender().shared);
        let settled = async {
            while shared.destinations.len() != known {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), settled).await.expect("it does not rest");
    }

    /// Waits until all that has happened is in the queues, and nothing is being sent.
    pub(super) async fn quiet(&self) {
        let quiet = async {
            let log = self.store.read_log(Position::ZERO, 100_000).await.unwrap();
            let last = log.last().unwrap().position;
            let last = if last > self.started { last } else { Position::ZERO };
            loop {
                let follower = Follower::new(self.store.clone(), NAME).await.unwrap();
                if follower.position() >= last && self.sender().shared.destinations.running() == 0 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), quiet).await.expect("it is not quiet");
    }

    pub(super) async fn room(&self) -> OwnedRoomId {
        let preset = Some(RoomPreset::PublicChat);
        self.rooms.create(&user("alice"), NewRoom { preset, ..NewRoom::default() }).await.unwrap()
    }

    pub(super) async fn say(&self, room: &RoomId, body: &str) -> OwnedEventId {
        let content = to_raw_value(&json!({ "msgtype": "m.text", "body": body })).unwrap();
        let event = NewEvent::message(TimelineEventType::RoomMessage, content);
        self.rooms.send(&user("alice"), room, event).await.unwrap()
    }

    /// Lets a user of another server join over us.
    pub(super) async fn join(&self, room_id: &RoomId, id: &str) {
        let user = user(id);
        let origin = user.server_name();
        let versions = [RoomVersionId::V11];
        let rooms = &self.rooms;
        let template =
            rooms.prepare_for(origin, room_id, &user, Step::Join, &versions).await.unwrap();
        let key = ServerKey::from_parts([7; 32], "k1").unwrap();
        let completion = Completion {
            room_id,
            user: &user,
            membership: MembershipState::Join,
            content: CanonicalJsonObject::new(),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.clock.now_ms())),
        };
        let rules = event::rules(&RoomVersionId::V11).unwrap();
        let pdu = event::complete(template.event.get(), completion, origin, &key, &rules).unwrap();
        let verified = event::verify(&pdu.json, &key.public_keys(origin), &rules).unwrap();
        rooms.accept_join(origin, verified, false).await.unwrap();
    }

    pub(super) async fn join_local(&self, room_id: &RoomId, id: &str) {
        self.rooms.join(&user(id), room_id, &[], Profile::default(), None).await.unwrap();
    }
}

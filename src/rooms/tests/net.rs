//! Several servers in one process that ask each other without a network.

mod node;
mod remote;
mod steps;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use clock::ManualClock;
use event::{Draft, Pdu, ServerKey, VerifiedPdu};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    RoomVersionId, ServerName, UInt, UserId, events::StateEventType, signatures::PublicKeyMap,
};
use serde_json::{json, value::to_raw_value};
use store::Store;

use self::remote::Link;
pub(crate) use self::remote::policy_key;
use crate::{
    Head, NewRoom, Received, Result, Room, RoomPreset, Rooms, RoomsConfig, state::StateSelect,
};

/// The time when a network begins, in milliseconds since the Unix epoch.
const START_MS: u64 = 1_700_000_000_000;

/// What servers say instead of the truth.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lies {
    pub(crate) template: Option<fn(&mut serde_json::Value)>,
    pub(crate) join: Option<fn(&mut crate::JoinAnswer)>,
}

/// What all servers share.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    pub(crate) rooms: Mutex<HashMap<OwnedServerName, Rooms>>,
    /// Links that are cut, from one server to another.
    pub(crate) cut: Mutex<BTreeSet<(OwnedServerName, OwnedServerName)>>,
    /// The keys of all servers.
    pub(crate) keys: Mutex<PublicKeyMap>,
    /// What was asked, in words.
    pub(crate) asked: Mutex<Vec<String>>,
    /// Events that nobody gives, as if they had been lost.
    pub(crate) lost: Mutex<BTreeSet<OwnedEventId>>,
    /// Events that are given in this form, whatever has become of them.
    pub(crate) whole: Mutex<HashMap<OwnedEventId, Arc<Pdu>>>,
    /// How servers lie.
    pub(crate) lie: Mutex<Option<Lie>>,
    /// Events whose signatures do not hold when a join is answered.
    pub(crate) spoilt: Mutex<BTreeSet<OwnedEventId>>,
    /// What everybody does to the templates that they make, and to their answers to joins.
    pub(crate) lies: Mutex<Lies>,
    /// Whether nobody gives whole states.
    pub(crate) no_state: std::sync::atomic::AtomicBool,
}

/// A way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// States have no create event.
    NoCreate,
    /// States have an event twice, under two IDs.
    Twice,
    /// Answers hold events that were not asked for.
    Unasked,
    /// Nothing but missing events is answered, with ever more of them.
    Endless,
}

/// A network.
pub(crate) struct Net {
    pub(crate) nodes: Vec<Node>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) clock: Arc<ManualClock>,
}

/// A server of it.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: OwnedServerName,
    pub(crate) rooms: Rooms,
    pub(crate) key: Arc<ServerKey>,
}

impl Net {
    /// Servers `s0.test`, `s1.test` and so on.
    pub(crate) async fn new(count: u8) -> Self {
        let wires = Arc::new(Wires::default());
        let clock = Arc::new(ManualClock::new(START_MS));
        let mut nodes = Vec::new();
        for number in 0..count {
            let name = ServerName::parse(format!("s{number}.test")).unwrap();
            let key = Arc::new(ServerKey::from_parts([number + 1; 32], "k").unwrap());
            wires.keys.lock().unwrap().extend(key.public_keys(&name));
            let config = RoomsConfig {
                remote: Arc::new(Link { me: name.clone(), wires: Arc::clone(&wires) }),
                ..RoomsConfig::new(name.clone(), RoomVersionId::V12, Arc::clone(&key))
            };
            let clock = Arc::clone(&clock) as _;
            let rooms = Rooms::open(Store::memory(), config, clock).await.unwrap();
            wires.rooms.lock().unwrap().insert(name.clone(), rooms.clone());
            nodes.push(Node { name, rooms, key });
        }
        Self { nodes, wires, clock }
    }

    /// Starts a server anew upon its store.
    pub(crate) async fn restart(&mut self, node: usize) {
        let Node { name, rooms, .. } = &self.nodes[node];
        rooms.stop().await;
        let store = rooms.store().clone();
        let config = rooms.inner.config.clone();
        let rooms = Rooms::open(store, config, Arc::clone(&self.clock) as _).await.unwrap();
        self.wires.rooms.lock().unwrap().insert(name.clone(), rooms.clone());
        self.nodes[node].rooms = rooms;
    }

    pub(crate) fn cut(&self, one: usize, other: usize) {
        let (one, other) = (self.nodes[one].name.clone(), self.nodes[other].name.clone());
        let mut cut = self.wires.cut.lock().unwrap();
        cut.insert((one.clone(), other.clone()));
        cut.insert((other, one));
    }

    pub(crate) fn heal(&self) {
        self.wires.cut.lock().unwrap().clear();
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        let link = (self.nodes[from].name.clone(), self.nodes[to].name.clone());
        self.wires.cut.lock().unwrap().contains(&link)
    }

    /// The user of a name on a server.
    pub(crate) fn user(&self, name: &str, node: usize) -> OwnedUserId {
        UserId::parse(format!("@{name}:{}", self.nodes[node].name)).unwrap()
    }

    /// A public room made by `alice` of the first server.
    pub(crate) async fn room(&self, version: RoomVersionId) -> OwnedRoomId {
        let preset = Some(RoomPreset::PublicChat);
        let new = NewRoom { version: Some(version), preset, ..NewRoom::default() };
        self.nodes[0].rooms.create(&self.user("alice", 0), new).await.unwrap()
    }

    /// Lets a user of one server join over another, and gives the join to that one.
    pub(crate) async fn join(&self, user: &UserId, node: usize, room: &RoomId, over: usize) {
        let host = &self.nodes[over].rooms;
        let room = host.load_room(room).await.unwrap();
        let head = host.head_of(&room).await.unwrap();
        let state = host.state_events(&room, head.state, &StateSelect::All).await.unwrap();
        let chain: Vec<_> = state.iter().flat_map(|pdu| pdu.auth_events.clone()).collect();
        let chain = host.auth_chain_of(&room, chain).await.unwrap();
        let chain: Vec<_> = chain.into_iter().map(|(number, _)| number).collect();
        let chain = host.events(&room, &chain).await.unwrap();
        let pdu = self.join_event(user, node, &room, &state, &head, host).await;
        let state = state.iter().map(|pdu| self.verified(pdu, &room)).collect();
        let chain = chain.iter().map(|event| self.verified(&event.pdu, &room)).collect();
        let joined = pdu.clone();
        self.nodes[node].enter(&room, joined, state, chain).await.unwrap();
        let received = self.give(&pdu, node, over).await.unwrap();
        assert!(matches!(received, Received::Accepted | Received::SoftFailed { .. }));
    }

    async fn join_event(
        &self,
        user: &UserId,
        node: usize,
        room: &Room,
        state: &[Arc<Pdu>],
        head: &Head,
        host: &Rooms,
    ) -> Pdu {
        let content = to_raw_value(&json!({ "membership": "join" })).unwrap();
        let kind = ruma::events::TimelineEventType::RoomMember;
        let key = Some(user.as_str());
        let keys = event::auth_types(&kind, user, key, &content, &room.rules).unwrap();
        let find = |(kind, key): &(StateEventType, String)| {
            state.iter().find(|pdu| pdu.state_entry() == Some((kind.clone(), key)))
        };
        let extremities = host.events(room, &head.extremities).await.unwrap();
        let needed = state.iter().chain(extremities.iter().map(|event| &event.pdu));
        let hash = |pdu: &Arc<Pdu>| pdu.reference_hash(&room.rules).unwrap();
        let reference_hashes = if room.rules.event_format.require_event_id {
            needed.map(|pdu| (pdu.event_id.clone(), hash(pdu))).collect()
        } else {
            BTreeMap::new()
        };
        let draft = Draft {
            reference_hashes,
            room_id: Some(room.room_id.clone()),
            sender: user.to_owned(),
            kind,
            state_key: Some(user.to_string()),
            content,
            redacts: None,
            prev_events: extremities.iter().map(|event| event.pdu.event_id.clone()).collect(),
            auth_events: keys.iter().filter_map(find).map(|pdu| pdu.event_id.clone()).collect(),
            depth: UInt::new_saturating(head.depth + 1),
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(self.tick())),
        };
        let Node { name, key, .. } = &self.nodes[node];
        event::build(draft, name, key, &room.rules).unwrap()
    }

    /// Moves the clock a little, and gives the time in milliseconds since the Unix epoch.
    pub(crate) fn tick(&self) -> u64 {
        use clock::Clock;
        self.clock.advance(10);
        self.clock.now_ms()
    }

    /// What a server makes of an event that another one hands to it.
    pub(crate) fn verified(&self, pdu: &Pdu, room: &Room) -> VerifiedPdu {
        let keys = self.wires.keys.lock().unwrap().clone();
        event::verify(&pdu.json, &keys, &room.rules).unwrap()
    }

    /// Hands an event from one server to another.
    pub(crate) async fn give(&self, pdu: &Pdu, from: usize, to: usize) -> Result<Received> {
        let node = &self.nodes[to];
        let Some(room) = node.rooms.room(&pdu.room_id).await.unwrap() else {
            return Ok(Received::NotOurs);
        };
        let event = self.verified(pdu, &room);
        node.rooms.receive(&self.nodes[from].name, event).await
    }

    /// An event as a server has it.
    pub(crate) async fn event(&self, node: usize, room: &RoomId, id: &OwnedEventId) -> Arc<Pdu> {
        Arc::clone(&self.nodes[node].load(room, id).await.unwrap().pdu)
    }
}

//! Servers that quarrel while their links are cut, and agree when these are healed.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use event::Pdu;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId};
use serde_json::json;
use store::Position;

use super::together;
use crate::{
    Received, Result, RoomsError,
    tests::net::{Net, Node},
};

/// Servers in a room, and what is on its way between them.
struct World {
    net: Net,
    room: OwnedRoomId,
    users: Vec<OwnedUserId>,
    /// One on each server who quarrels with nobody.
    witnesses: Vec<OwnedUserId>,
    rng: StdRng,
    /// What there was before the quarrel.
    before: BTreeSet<OwnedEventId>,
    /// From, to, event.
    flying: VecDeque<(usize, usize, Arc<Pdu>)>,
}

impl World {
    async fn new(seed: u64, version: RoomVersionId) -> Self {
        let (net, room, users) = together(3, version).await;
        let mut witnesses = Vec::new();
        for node in 0..users.len() {
            let user = net.user("witness", node);
            let join = json!({ "membership": "join" });
            let kind = "m.room.member";
            let id = net.nodes[node].set(&user, &room, kind, user.as_str(), join).await.unwrap();
            let pdu = net.event(node, &room, &id).await;
            for other in (0..users.len()).filter(|other| *other != node) {
                assert_eq!(net.give(&pdu, node, other).await.unwrap(), Received::Accepted);
            }
            witnesses.push(user);
        }
        let mut levels = json!({ "users": {}, "state_default": 20, "ban": 40, "kick": 40 });
        for (node, user) in users.iter().enumerate() {
            levels["users"][user.as_str()] = json!(100 - 20 * node);
        }
        if matches!(net.nodes[0].rooms.load_room(&room).await.unwrap().version, RoomVersionId::V12)
        {
            levels["users"].as_object_mut().unwrap().remove(users[0].as_str());
        }
        let rng = StdRng::seed_from_u64(seed);
        let mut world = Self {
            net,
            room,
            users,
            witnesses,
            rng,
            before: BTreeSet::new(),
            flying: VecDeque::new(),
        };
        let nodes = &world.net.nodes;
        let id = nodes[0].set(&world.users[0], &world.room, "m.room.power_levels", "", levels);
        let id = id.await.unwrap();
        world.spread(0, &id).await;
        world.deliver_all().await;
        world.before = world.net.nodes[0].accepted(&world.room).await;
        world
    }

    /// Puts an event of a server on its way to all others.
    async fn spread(&mut self, from: usize, id: &OwnedEventId) {
        let pdu = self.net.event(from, &self.room, id).await;
        for to in (0..self.net.nodes.len()).filter(|to| *to != from) {
            self.flying.push_back((from, to, Arc::clone(&pdu)));
        }
    }

    /// Lets someone do something, if they may.
    async fn act(&mut self) {
        let node = self.rng.random_range(0..self.users.len());
        let user = self.users[node].clone();
        let target = self.users.iter().choose(&mut self.rng).unwrap().clone();
        let number: u32 = self.rng.random_range(0..1000);
        let (kind, key, content) = match self.rng.random_range(0..12) {
            0 => ("m.room.topic", String::new(), json!({ "topic": number.to_string() })),
            1 => ("m.room.name", String::new(), json!({ "name": number.to_string() })),
            2 => ("m.room.member", target.to_string(), json!({ "membership": "ban" })),
            3 => ("m.room.member", target.to_string(), json!({ "membership": "leave" })),
            4 => ("m.room.member", user.to_string(), json!({ "membership": "join" })),
            5 => ("m.room.member", user.to_string(), json!({ "membership": "leave" })),
            6 => ("m.room.join_rules", String::new(), {
                let rule = if number.is_multiple_of(2) { "public" } else { "invite" };
                json!({ "join_rule": rule })
            }),
            7 => {
                let mut levels = self.levels(node).await;
                levels["users"][target.as_str()] = json!(number % 101);
                ("m.room.power_levels", String::new(), levels)
            }
            8 => ("org.example.note", (number % 3).to_string(), json!({ "note": number })),
            _ => ("", String::new(), json!({})),
        };
        let node_ref = &self.net.nodes[node];
        self.net.tick();
        let done = if kind.is_empty() {
            node_ref.try_say(&user, &self.room, &number.to_string()).await
        } else {
            node_ref.set(&user, &self.room, kind, &key, content).await
        };
        match done {
            Ok(id) => self.spread(node, &id).await,
            Err(RoomsError::Forbidden { .. } | RoomsError::Invalid { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn levels(&self, node: usize) -> serde_json::Value {
        let rooms = &self.net.nodes[node].rooms;
        let kind = "m.room.power_levels";
        crate::tests::core::current(rooms, &self.room, kind, "").await.unwrap()
    }

    /// Delivers one of the events that fly, or loses it, or delivers it twice.
    async fn deliver_one(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        let at = self.rng.random_range(0..self.flying.len());
        let (from, to, pdu) = self.flying.remove(at).unwrap();
        if self.net.is_cut(from, to) || self.rng.random_bool(0.1) {
            return;
        }
        if self.rng.random_bool(0.1) {
            self.flying.push_back((from, to, Arc::clone(&pdu)));
        }
        self.give(from, to, &pdu).await.ok();
    }

    async fn give(&self, from: usize, to: usize, pdu: &Pdu) -> Result<Received> {
        let received = self.net.give(pdu, from, to).await;
        match &received {
            Err(RoomsError::Incomplete { .. }) | Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
        received
    }

    async fn deliver_all(&mut self) {
        while let Some((from, to, pdu)) = self.flying.pop_front() {
            self.give(from, to, &pdu).await.unwrap();
        }
    }

    async fn quarrel(&mut self) {
        for _ in 0..4 {
            let (one, other) = (self.rng.random_range(0..3), self.rng.random_range(0..3));
            if one != other && self.rng.random_bool(0.7) {
                self.net.cut(one, other);
            }
            for _ in 0..8 {
                self.act().await;
                for _ in 0..self.rng.random_range(0..3) {
                    self.deliver_one().await;
                }
            }
            if self.rng.random_bool(0.3) {
                self.net.heal();
            }
        }
    }

    /// Heals everything: each server tells all others of its newest events.
    async fn make_up(&mut self) {
        self.net.heal();
        self.flying.clear();
        for _ in 0..2 {
            for from in 0..self.net.nodes.len() {
                for id in self.net.nodes[from].extremities(&self.room).await {
                    self.spread(from, &id).await;
                }
            }
            self.deliver_all().await;
        }
        // What some servers do not show, others do: only one who shows it can tie it up.
        for node in [0, 1, 2, 0, 1, 2] {
            self.net.tick();
            let witness = self.witnesses[node].clone();
            let said = self.net.nodes[node].try_say(&witness, &self.room, "peace").await;
            let id = match said {
                Ok(id) => id,
                Err(error) => {
                    panic!("{error}: {:#?}", self.net.nodes[node].state(&self.room).await)
                }
            };
            self.spread(node, &id).await;
            self.deliver_all().await;
        }
    }
}

async fn heals(seed: u64, version: RoomVersionId) {
    println!("seed {seed}, version {version}");
    let mut world = World::new(seed, version.clone()).await;
    world.quarrel().await;
    world.make_up().await;
    let World { net, room, .. } = &world;
    let first = &net.nodes[0];
    let what = format!("seed {seed}, version {version}");
    for node in &net.nodes[1..] {
        assert_eq!(node.extremities(room).await, first.extremities(room).await, "{what}");
        assert_eq!(node.state(room).await, first.state(room).await, "{what}");
    }
    let mut accepted = Vec::new();
    for node in &net.nodes {
        accepted.push(allowed(node, room).await);
    }
    // What was said before the others came is history to them.
    let all: BTreeSet<&OwnedEventId> =
        accepted.iter().flatten().filter(|id| !world.before.contains(*id)).collect();
    let unequal = all.into_iter().find(|id| accepted.iter().any(|set| !set.contains(*id)));
    if let Some(id) = unequal {
        let mut told = Vec::new();
        for node in &net.nodes {
            let event = node.load(room, id).await;
            told.push(
                event.map(|event| (event.rejected, event.soft_failed, event.pdu.json.clone())),
            );
        }
        panic!("{what}: not everybody has {id}: {told:#?}");
    }
    for node in &net.nodes {
        node.is_sound().await;
    }
}

/// The events that have their place and were not rejected.
async fn allowed(node: &Node, room: &RoomId) -> BTreeSet<OwnedEventId> {
    let events = crate::tests::core::all_events(&node.rooms, room).await;
    events
        .iter()
        .filter(|event| event.position != Position::ZERO && !event.rejected)
        .map(|event| event.pdu.event_id.clone())
        .collect()
}

#[tokio::test]
async fn servers_that_quarrelled_agree_when_their_links_are_healed() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(4);
    let first = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + seeds {
        for version in event::SUPPORTED {
            heals(seed, version).await;
        }
    }
}

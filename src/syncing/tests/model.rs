//! Random histories: a client that applies what it is told has what the rooms say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use rooms::{Position, Profile};
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde_json::json;

use super::{Home, client::Client, user};

/// Histories that are tried.
const SEEDS: u64 = 40;

/// Steps of each history.
const STEPS: usize = 120;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len() as u64) as usize]
    }
}

/// Does something to a room. What the rules refuse does not happen.
async fn act(home: &Home, dice: &mut Dice, people: &[OwnedUserId], rooms: &[OwnedRoomId]) {
    let (who, whom) = (dice.pick(people).clone(), dice.pick(people).clone());
    let room = dice.pick(rooms).clone();
    let number = dice.roll(1_000_000);
    let done = match dice.roll(19) {
        0..=6 => home.rooms.send(&who, &room, super::message("hi")).await.map(drop),
        7 => {
            home.set(&who, &room, ("m.room.topic", ""), json!({ "topic": number })).await.map(drop)
        }
        8 => {
            let name = json!({ "name": number.to_string() });
            home.set(&who, &room, ("m.room.name", ""), name).await.map(drop)
        }
        9 => {
            let content = json!({ "membership": "join", "displayname": number.to_string() });
            let key = ("m.room.member", who.as_str());
            home.set(&who, &room, key, content).await.map(drop)
        }
        10 | 11 => home.join(&who, &room).await,
        12 => home.rooms.leave(&who, &room, None).await,
        13 => {
            let profile = Profile::default();
            home.rooms.invite(&who, &room, &whom, profile, None, false).await
        }
        14 => home.rooms.kick(&who, &room, &whom, None).await,
        15 => home.rooms.ban(&who, &room, &whom, None).await,
        16 => home.rooms.unban(&who, &room, &whom, None).await,
        17 => {
            let visibility = dice.pick(&["shared", "invited", "joined", "world_readable"]);
            let content = json!({ "history_visibility": visibility });
            home.set(&who, &room, ("m.room.history_visibility", ""), content).await.map(drop)
        }
        _ => {
            let key = ("org.example.note", &*dice.roll(4).to_string());
            home.set(&who, &room, key, json!({ "n": number })).await.map(drop)
        }
    };
    drop(done);
}

/// Where something went wrong, with all that came before.
struct Story<'a> {
    begin: String,
    client: &'a Client,
    room_id: &'a RoomId,
}

impl fmt::Display for Story<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}{}", self.begin, self.client.told(self.room_id))
    }
}

/// Compares what a client has with what the rooms say.
async fn check(home: &Home, client: &Client, story: &str) {
    let user = client.user();
    let joined: BTreeSet<_> = home.rooms.joined_rooms(user).await.unwrap().into_iter().collect();
    let known: BTreeSet<_> = client.rooms.keys().cloned().collect();
    assert_eq!(known, joined, "{story}: the rooms of {user}");
    let is_lazy = !client.request.filter.room.state.lazy_load_options.is_disabled();
    for (room_id, known) in &client.rooms {
        let story = Story { begin: format!("{story}: {user} in {room_id}"), client, room_id };
        let room = home.rooms.room(room_id).await.unwrap().unwrap();
        let truth: BTreeMap<(String, String), String> = (home.rooms.state(user, room_id).await)
            .unwrap()
            .into_iter()
            .map(|event| {
                let pdu = &event.event.pdu;
                let key = (pdu.kind.to_string(), pdu.state_key.clone().unwrap());
                (key, pdu.event_id.to_string())
            })
            .collect();
        if is_lazy {
            let others = |state: &BTreeMap<(String, String), String>| -> BTreeMap<_, _> {
                let mut state = state.clone();
                state.retain(|(kind, _), _| kind != "m.room.member");
                state
            };
            assert_eq!(others(&known.state), others(&truth), "{story}: the state");
            for (key, event) in &known.state {
                assert_eq!(truth.get(key), Some(event), "{story}: {key:?}");
            }
            for sender in known.senders.iter().chain([&user.to_string()]) {
                let key = ("m.room.member".to_owned(), sender.clone());
                assert_eq!(known.state.get(&key), truth.get(&key), "{story}: {sender}");
            }
        } else {
            assert_eq!(known.state, truth, "{story}: the state");
        }
        let end = Position::new(u64::MAX - 1);
        let mut events = home.rooms.timeline(&room, Position::ZERO, end, usize::MAX).await.unwrap();
        events.reverse();
        let events = home.rooms.serve(user, &room, events).await.unwrap();
        let events: Vec<_> =
            events.iter().map(|event| event.event.pdu.event_id.to_string()).collect();
        assert!(events.ends_with(&known.timeline), "{story}: the timeline");
        let head = home.rooms.head_of(&room).await.unwrap();
        assert_eq!(known.joined, Some(head.joined_count()), "{story}: the count");
    }
}

async fn play(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let home = Home::new().await;
    let people: Vec<_> = ["alice", "bob", "carol", "dave"].map(user).into();
    let mut rooms = Vec::new();
    for creator in &people[..3] {
        rooms.push(home.room(creator).await);
    }
    let mut clients = Vec::new();
    for (person, limit) in people.iter().zip([1, 3, 50, 3]) {
        let timeline = json!({ "limit": limit });
        let whole = json!({ "room": { "timeline": timeline } });
        clients.push(Client::new(person, whole.clone()));
        let mut after = Client::new(person, whole);
        after.request.use_state_after = true;
        after.request.device_id = "AFTER".into();
        clients.push(after);
        let state = json!({ "lazy_load_members": true });
        let lazy = json!({ "room": { "timeline": timeline, "state": state } });
        let mut lazy = Client::new(person, lazy);
        lazy.request.device_id = "LAZY".into();
        clients.push(lazy);
    }
    for step in 0..STEPS {
        act(&home, &mut dice, &people, &rooms).await;
        for client in &mut clients {
            match dice.roll(8) {
                0 => {
                    client.sync(&home).await;
                    let device = &client.request.device_id;
                    check(&home, client, &format!("seed {seed}, step {step}, {device}")).await;
                }
                1 => client.lose(&home).await,
                _ => {}
            }
        }
    }
    home.syncing.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_end_up_with_what_the_rooms_say() {
    for seed in 1..=SEEDS {
        play(seed).await;
    }
}

//! People of three servers who do not agree about their room.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use crate::kit::{Network, Reply, User};

/// An admin, a moderator and a user without power of each server.
pub(crate) struct Actors {
    /// They keep their power and stay: so each server stays in the room.
    pub(crate) admins: Vec<User>,
    pub(crate) moderators: Vec<User>,
    pub(crate) users: Vec<User>,
}

impl Actors {
    pub(crate) async fn register(network: &Network) -> Self {
        let mut actors = Self { admins: Vec::new(), moderators: Vec::new(), users: Vec::new() };
        for server in network.servers() {
            actors.admins.push(server.register("admin").await);
            actors.moderators.push(server.register("moderator").await);
            actors.users.push(server.register("user").await);
        }
        actors
    }

    /// Those who may be banned and lose their power.
    fn targets(&self) -> impl Iterator<Item = &User> {
        self.moderators.iter().chain(&self.users)
    }
}

/// A room, and what becomes of it.
pub(crate) struct Quarrel {
    pub(crate) room_id: String,
    /// How often each kind of action succeeded.
    pub(crate) done: BTreeMap<&'static str, u64>,
    seed: u64,
    version: &'static str,
    random: StdRng,
    story: Vec<String>,
}

impl Quarrel {
    /// Makes a room that everybody joins.
    pub(crate) async fn begin(actors: &Actors, seed: u64, version: &'static str) -> Self {
        let is_creator_above_all = version == "12";
        let powers = |users: &[User], level: u64| {
            let users = users.iter().skip(usize::from(is_creator_above_all && level == 100));
            users.map(|user| (user.user_id.clone(), json!(level))).collect::<Vec<_>>()
        };
        let users: serde_json::Map<String, Value> =
            [powers(&actors.admins, 100), powers(&actors.moderators, 50)]
                .concat()
                .into_iter()
                .collect();
        let room_id = actors.admins[0]
            .create_room(json!({
                "preset": "public_chat", "room_version": version,
                "power_level_content_override": { "users": users },
            }))
            .await;
        let path = format!("/_matrix/client/v3/join/{}?via=one.test", crate::kit::encode(&room_id));
        for users in [&actors.admins, &actors.moderators, &actors.users] {
            for user in users.iter().filter(|user| user.user_id != actors.admins[0].user_id) {
                user.do_post(&path, json!({})).await;
            }
        }
        let random = StdRng::seed_from_u64(seed * 100 + version.parse::<u64>().unwrap());
        Self { room_id, done: BTreeMap::new(), seed, version, random, story: Vec::new() }
    }

    /// What happened, for whoever looks for the reason of a difference.
    pub(crate) fn story(&self) -> String {
        let Self { room_id, seed, version, story, .. } = self;
        format!("seed {seed}, version {version}, {room_id}:\n  {}", story.join("\n  "))
    }

    /// Somebody of a server does something, if the room lets them.
    pub(crate) async fn step(&mut self, actors: &Actors, server: usize) {
        let people = [&actors.admins, &actors.moderators, &actors.users];
        let actor = &people[[0, 0, 1, 1, 2][self.random.random_range(0..5)]][server];
        let others: Vec<&User> =
            actors.targets().filter(|target| target.user_id != actor.user_id).collect();
        let target = *others.choose(&mut self.random).unwrap();
        let is_admin = actors.admins.iter().any(|admin| admin.user_id == actor.user_id);
        let (action, detail, reply) = match self.random.random_range(0..14) {
            0..3 => ("ban", target.user_id.clone(), self.act(actor, "ban", target).await),
            3 => ("unban", target.user_id.clone(), self.act(actor, "unban", target).await),
            4 => ("kick", target.user_id.clone(), self.act(actor, "kick", target).await),
            5 => ("invite", target.user_id.clone(), self.act(actor, "invite", target).await),
            6..9 => self.change_power(actor, target).await,
            9 => {
                let rule = if self.random.random_bool(0.5) { "invite" } else { "public" };
                let content = json!({ "join_rule": rule });
                let reply = actor.put_state(&self.room_id, "m.room.join_rules", "", content).await;
                ("join_rules", rule.to_owned(), reply)
            }
            10 => {
                let topic = format!("topic {}", self.random.random_range(0..1000));
                let content = json!({ "topic": topic });
                let reply = actor.put_state(&self.room_id, "m.room.topic", "", content).await;
                ("topic", topic, reply)
            }
            11 if !is_admin => {
                let reply = actor.room_post(&self.room_id, "leave", json!({})).await;
                ("leave", String::new(), reply)
            }
            12 if !is_admin => {
                let reply = actor.room_post(&self.room_id, "join", json!({})).await;
                ("join", String::new(), reply)
            }
            _ => {
                let txn = format!("{}-{}", self.version, self.story.len());
                let content = json!({ "msgtype": "m.text", "body": txn });
                let reply = actor.send(&self.room_id, "m.room.message", &txn, content).await;
                ("say", String::new(), reply)
            }
        };
        let (status, answer) = reply;
        // Invites, and joins after a leave, need other servers, which may be cut off.
        let cut_off = matches!(status, 502 | 504) && ["invite", "join"].contains(&action);
        let answered = status < 500 || cut_off;
        assert!(answered, "{} {action} {detail} in {}: {answer}", actor.user_id, self.room_id);
        let event_id = answer["event_id"].as_str().unwrap_or("");
        let line = format!("{status} {} {action} {detail} {event_id}", actor.user_id);
        self.story.push(line);
        if status == 200 {
            *self.done.entry(action).or_default() += 1;
        }
    }

    async fn act(&self, actor: &User, action: &str, target: &User) -> Reply {
        actor.room_post(&self.room_id, action, json!({ "user_id": target.user_id })).await
    }

    async fn change_power(&mut self, actor: &User, target: &User) -> (&'static str, String, Reply) {
        let kind = "m.room.power_levels";
        let (status, mut levels) = actor.get_state(&self.room_id, kind, "").await;
        if status != 200 {
            return ("power", String::new(), (status, levels));
        }
        let level = [0, 25, 50, 50, 75][self.random.random_range(0..5)];
        levels["users"][&target.user_id] = level.into();
        if self.random.random_bool(0.2) {
            levels["events"]["m.room.topic"] = [0, 50, 75][self.random.random_range(0..3)].into();
        }
        let reply = actor.put_state(&self.room_id, kind, "", levels).await;
        ("power", format!("{} {level}", target.user_id), reply)
    }
}

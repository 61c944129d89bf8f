//! Many people doing many things at once, at random; and whether all views of the rooms agree
//! afterwards.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    kit::encode,
    rooms_people::{Person, Town, event_ids},
};

/// How many things each person does.
const STEPS: u64 = 90;

/// Chance, the same in every run.
struct Dice(u64);

impl Dice {
    /// A number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.roll(from.len() as u64);
        &from[usize::try_from(index).unwrap()]
    }
}

/// What one client knows of its rooms, by `/sync` alone.
#[derive(Default)]
struct Mirror {
    since: Option<String>,
    /// Event ID by type and state key, for each room that is joined.
    states: BTreeMap<String, BTreeMap<(String, String), String>>,
    /// The timeline of each room, with its gaps filled from `/messages`.
    timelines: BTreeMap<String, Vec<String>>,
}

impl Mirror {
    async fn sync(&mut self, who: &Person) {
        let filter = encode(r#"{"room":{"timeline":{"limit":3}}}"#);
        let query = format!("timeout=0&filter={filter}");
        let answer = who.user.sync(self.since.as_deref(), &query).await;
        self.since = Some(answer["next_batch"].as_str().unwrap().to_owned());
        let rooms =
            |section: &str| answer["rooms"][section].as_object().cloned().unwrap_or_default();
        for (room, view) in rooms("join") {
            let state = self.states.entry(room.clone()).or_default();
            let empty = Vec::new();
            let events = |list: &Value| list.as_array().unwrap_or(&empty).clone();
            let (before, timeline) =
                (events(&view["state"]["events"]), events(&view["timeline"]["events"]));
            for event in before.iter().chain(&timeline) {
                if let Some(key) = event["state_key"].as_str() {
                    let kind = event["type"].as_str().unwrap().to_owned();
                    let id = event["event_id"].as_str().unwrap().to_owned();
                    state.insert((kind, key.to_owned()), id);
                }
            }
            let mut new = event_ids(&json!(timeline));
            let known = self.timelines.entry(room.clone()).or_default();
            if view["timeline"]["limited"] == true {
                let from = view["timeline"]["prev_batch"].as_str().unwrap();
                let gap = fill_gap(who, &room, from, known).await;
                new = gap.into_iter().chain(new).collect();
            }
            known.extend(new);
        }
        // One who left and was invited, or knocked, since the last time is told of the latter only.
        for (room, _) in ["leave", "invite", "knock"].into_iter().flat_map(rooms) {
            self.states.remove(&room);
            self.timelines.remove(&room);
        }
    }
}

/// What lies between the events that are known and a gap, oldest first.
async fn fill_gap(who: &Person, room: &str, from: &str, known: &[String]) -> Vec<String> {
    let mut from = from.to_owned();
    let mut gap = Vec::new();
    loop {
        let answer = who.messages(room, &format!("dir=b&limit=7&from={}", encode(&from))).await;
        if answer.status != 200 {
            // Thrown out meanwhile: a later sync says so.
            return Vec::new();
        }
        let page = answer.ok();
        for id in event_ids(&page["chunk"]) {
            if known.contains(&id) {
                gap.reverse();
                return gap;
            }
            gap.push(id);
        }
        match page["end"].as_str() {
            Some(end) => from = end.to_owned(),
            None => {
                gap.reverse();
                return gap;
            }
        }
    }
}

/// Does one thing. It may be refused, but nothing may break.
async fn step(who: &Person, room: &str, people: &[String], n: u64, dice: &mut Dice) {
    let other = dice.pick(people).clone();
    let post =
        async |action: &str, body: Value| who.post(&format!("/rooms/{room}/{action}"), body).await;
    let target = json!({ "user_id": other });
    let answer = match dice.roll(20) {
        0 => who.set_state(room, "m.room.name", "", json!({ "name": n.to_string() })).await,
        1 => who.set_state(room, "m.room.topic", "", json!({ "topic": n.to_string() })).await,
        2 => {
            let key = dice.roll(40).to_string();
            who.set_state(room, "org.example.x", &key, json!({ "n": dice.roll(3) })).await
        }
        3..=5 => post("join", json!({})).await,
        // The first person stays, so that there is someone to ask.
        6 if who.id != people[0] => post("leave", json!({})).await,
        7 | 8 => post("invite", target).await,
        9 => post("kick", target).await,
        10 => post("ban", target).await,
        11 | 12 => post("unban", target).await,
        13 => {
            let path = format!("/profile/{}/displayname", who.id);
            who.put(&path, json!({ "displayname": format!("name {n}") })).await
        }
        14 => {
            let visibility = dice.pick(&["shared", "invited", "joined", "world_readable"]);
            let content = json!({ "history_visibility": visibility });
            who.set_state(room, "m.room.history_visibility", "", content).await
        }
        15 => {
            let rule = dice.pick(&["public", "invite", "knock"]);
            who.set_state(room, "m.room.join_rules", "", json!({ "join_rule": rule })).await
        }
        16 => who.post(&format!("/knock/{room}"), json!({})).await,
        17 => {
            let page = who.messages(room, "dir=b&limit=5").await;
            let event = page.body["chunk"][0]["event_id"].as_str().unwrap_or("$none").to_owned();
            who.put(&format!("/rooms/{room}/redact/{}/r{n}", encode(&event)), json!({})).await
        }
        18 if who.id != people[0] => post("forget", json!({})).await,
        _ => {
            let path = format!("/rooms/{room}/send/m.room.message/m{n}");
            who.put(&path, json!({ "msgtype": "m.text", "body": n.to_string() })).await
        }
    };
    assert!(matches!(answer.status, 200 | 400 | 403 | 404), "{answer:?}");
}

/// Wanders about, syncing now and then.
async fn walk(who: Person, rooms: Vec<String>, people: Vec<String>, seed: u64) -> (Person, Mirror) {
    let (mut dice, mut mirror) = (Dice(seed), Mirror::default());
    for n in 0..STEPS {
        let room = dice.pick(&rooms).clone();
        step(&who, &room, &people, n, &mut dice).await;
        if dice.roll(4) == 0 {
            mirror.sync(&who).await;
        }
    }
    (who, mirror)
}

/// Compares what sync said with what the rooms say.
async fn compare(who: &Person, mirror: &mut Mirror, rooms: &[String]) {
    mirror.sync(who).await;
    let joined = who.joined_rooms().await;
    let seen: BTreeSet<&String> = mirror.states.keys().collect();
    assert_eq!(seen, joined.iter().collect(), "{}", who.id);
    for room in rooms.iter().filter(|room| joined.contains(room)) {
        let state = who.get(&format!("/rooms/{room}/state")).await.ok();
        let state: BTreeMap<(String, String), String> = state
            .as_array()
            .unwrap()
            .iter()
            .map(|event| {
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                ((text("type"), text("state_key")), text("event_id"))
            })
            .collect();
        assert_eq!(mirror.states[room], state, "{} in {room}", who.id);
        let in_state = |membership: &str| {
            let path = format!("?membership={membership}");
            async move { who.members(room, &path).await }
        };
        let listed = who.get(&format!("/rooms/{room}/joined_members")).await.ok();
        let listed: Vec<String> = listed["joined"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(listed, in_state("join").await);
        let timeline = &mirror.timelines[room];
        let unique: BTreeSet<&String> = timeline.iter().collect();
        assert_eq!(unique.len(), timeline.len(), "{} was told something twice", who.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_views_agree_after_many_random_changes() {
    let mut town = Town::start().await;
    let people = town.people(["alice", "bob", "carol", "dave", "erin", "frank"]).await;
    let ids: Vec<String> = people.iter().map(|person| person.id.clone()).collect();
    let mut rooms = Vec::new();
    for version in ["6", "11", "12"] {
        let levels = json!({
            "users_default": 25, "invite": 0, "state_default": 25, "kick": 50, "ban": 50,
            "redact": 25, "events": { "m.room.history_visibility": 25, "m.room.join_rules": 25 },
            "users": if version == "12" { json!({ &ids[1]: 75 }) }
                else { json!({ &ids[0]: 100, &ids[1]: 75 }) },
        });
        let body = json!({
            "preset": "public_chat", "room_version": version, "visibility": "public",
            "power_level_content_override": levels,
        });
        rooms.push(people[0].create(body).await);
    }
    let mut walkers = tokio::task::JoinSet::new();
    for (seed, person) in (77_u64..).zip(people) {
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        walkers.spawn(walk(person, rooms.clone(), ids.clone(), seed));
    }
    let mut ends = walkers.join_all().await;
    for (who, mirror) in &mut ends {
        compare(who, mirror, &rooms).await;
    }
    let list = ends[0].0.get("/publicRooms").await.ok();
    for (who, mirror) in ends.iter().filter(|(who, _)| who.id == ids[0]) {
        for room in mirror.timelines.keys() {
            let joined = who.members(room, "?membership=join").await;
            let entry = list["chunk"].as_array().unwrap().iter().find(|r| r["room_id"] == *room);
            assert_eq!(entry.unwrap()["num_joined_members"], joined.len());
            let everything = who.messages(room, "dir=f&limit=1000").await.ok();
            assert_eq!(mirror.timelines[room], event_ids(&everything["chunk"]), "{room}");
        }
    }
    let report = town.stop_and_check().await;
    assert!(report.contains("all agree"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_asked_for_at_the_same_time_happens_once() {
    let town = Town::start().await;
    let alice = town.person("alice").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let path = format!("/rooms/{room}/send/m.room.message/same");
    let sends =
        (0..12).map(|n| alice.put(&path, json!({ "msgtype": "m.text", "body": n.to_string() })));
    let ids: BTreeSet<String> =
        futures_util::future::join_all(sends).await.into_iter().map(|a| a.event_id()).collect();
    assert_eq!(ids.len(), 1);
    let wish = json!({ "room_alias_name": "wanted" });
    let rooms = (0..6).map(|_| alice.post("/createRoom", wish.clone()));
    let answers = futures_util::future::join_all(rooms).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|a| a.status == 200);
    assert_eq!((made.len(), refused.len()), (1, 5));
    for answer in refused {
        answer.refused(400, "M_ROOM_IN_USE");
    }
    assert_eq!(alice.joined_rooms().await.len(), 2);
    let mut people = Vec::new();
    for n in 0..10 {
        people.push(town.person(&format!("p{n}")).await);
    }
    let joins = people.iter().map(|person| person.join(&room));
    for answer in futures_util::future::join_all(joins).await {
        answer.ok();
    }
    assert_eq!(alice.members(&room, "?membership=join").await.len(), 11);
}

//! State resolution of random graphs: as Synapse resolves them, and whatever the order of the
//! states.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use proptest::prelude::*;
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomVersionId, UInt, UserId, user_id,
};
use serde::Deserialize;
use serde_json::{Value as JsonValue, json};

use super::{Room, alice, bob, domain, draft, joined, versions};
use crate::{EventError, Pdu, StateMap, build, resolve, rules};

type State = StateMap<OwnedEventId>;

/// Forks that Synapse 1.x made and resolved. Events are referred to by their indexes;
/// `null` is an event that is not there.
const SYNAPSE: &str = include_str!("resolution/synapse.json");

#[derive(Deserialize)]
struct Fork {
    version: RoomVersionId,
    ids: Vec<OwnedEventId>,
    events: Vec<JsonValue>,
    states: Vec<Vec<usize>>,
    resolved: Vec<usize>,
}

impl Fork {
    fn pdus(&self) -> Vec<Arc<Pdu>> {
        let rules = rules(&self.version).unwrap();
        let mut pdus: Vec<Arc<Pdu>> = Vec::new();
        for (id, event) in self.ids.iter().zip(&self.events) {
            let mut event = event.clone();
            for field in ["auth_events", "prev_events"] {
                let ids = event[field].as_array().unwrap().iter().map(|index| {
                    index.as_u64().map_or("$elsewhere", |index| self.ids[index as usize].as_str())
                });
                event[field] = ids.collect();
            }
            let json = event.to_string().into();
            pdus.push(Arc::new(Pdu::from_stored(id.clone(), json, &rules).unwrap()));
        }
        pdus
    }
}

fn state_of<'a>(events: impl IntoIterator<Item = &'a Arc<Pdu>>) -> State {
    events
        .into_iter()
        .map(|pdu| {
            let (kind, key) = pdu.state_entry().unwrap();
            ((kind, key.to_owned()), pdu.event_id.clone())
        })
        .collect()
}

#[test]
fn states_are_resolved_as_by_synapse() {
    let forks: Vec<Fork> = serde_json::from_str(SYNAPSE).unwrap();
    assert!(forks.len() >= 20);
    for (number, fork) in forks.iter().enumerate() {
        let pdus = fork.pdus();
        let state = |indexes: &Vec<usize>| state_of(indexes.iter().map(|index| &pdus[*index]));
        let states: Vec<State> = fork.states.iter().map(state).collect();
        let fetch = |id: &EventId| pdus.iter().find(|pdu| pdu.event_id == id).cloned();
        let resolved = resolve(&rules(&fork.version).unwrap(), &states, fetch).unwrap();
        assert_eq!(resolved, state(&fork.resolved), "fork {number}, version {}", fork.version);
    }
}

/// A step of a random history: which events it follows, who does what to whom.
#[derive(Clone, Debug)]
struct Step {
    follows: Vec<usize>,
    sender: usize,
    target: usize,
    deed: usize,
    pause: u32,
}

fn step() -> impl Strategy<Value = Step> {
    let follows = prop::collection::vec(0..8_usize, 1..4);
    (follows, 0..4_usize, 0..4_usize, 0..11_usize, 0..2_u32).prop_map(
        |(follows, sender, target, deed, pause)| Step { follows, sender, target, deed, pause },
    )
}

fn users() -> [&'static UserId; 4] {
    [alice(), bob(), user_id!("@carol:domain"), user_id!("@dave:domain")]
}

/// A room whose graph has forks. Events that are not allowed are not in it.
struct Graph {
    room: Room,
    pdus: HashMap<OwnedEventId, Arc<Pdu>>,
    /// Each event with the state after it, oldest first.
    after: Vec<(OwnedEventId, State)>,
    now: u32,
}

impl Graph {
    fn new(version: &RoomVersionId) -> Self {
        let mut room = Room::new(version);
        let mut levels = json!({ "users": { bob(): 50, users()[2]: 50 } });
        if !room.rules.authorization.explicitly_privilege_room_creators {
            levels["users"][alice().as_str()] = 100.into();
        }
        room.must(alice(), "m.room.power_levels", Some(""), levels);
        room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
        for user in users().into_iter().skip(1) {
            room.must(user, "m.room.member", Some(user.as_str()), joined());
        }
        let pdus = room.events.iter().map(|pdu| (pdu.event_id.clone(), Arc::clone(pdu))).collect();
        let last = room.events.last().unwrap().event_id.clone();
        let after = vec![(last, state_of(&room.state))];
        Self { room, pdus, after, now: 1_700_000_100 }
    }

    fn resolve(&self, states: &[State]) -> State {
        resolve(&self.room.rules, states, |id| self.pdus.get(id).cloned()).unwrap()
    }

    fn step(&mut self, step: &Step) {
        let recent = &self.after[self.after.len().saturating_sub(8)..];
        let follows: HashSet<usize> =
            step.follows.iter().map(|index| index % recent.len()).collect();
        let mut follows: Vec<usize> = follows.into_iter().collect();
        follows.sort_unstable();
        let ids: Vec<_> = follows.iter().map(|index| recent[*index].0.clone()).collect();
        let states: Vec<_> = follows.iter().map(|index| recent[*index].1.clone()).collect();
        let before = self.resolve(&states);
        let (sender, target) = (users()[step.sender], users()[step.target].as_str());
        let (kind, key, content) = match step.deed {
            0 => ("m.room.member", sender.as_str(), joined()),
            1 => ("m.room.member", sender.as_str(), json!({ "membership": "leave" })),
            2 | 3 => ("m.room.member", target, json!({ "membership": "ban" })),
            4 => ("m.room.member", target, json!({ "membership": "leave" })),
            5 => ("m.room.member", target, json!({ "membership": "invite" })),
            6 => ("m.room.join_rules", "", json!({ "join_rule": "public" })),
            7 => ("m.room.join_rules", "", json!({ "join_rule": "invite" })),
            8 | 9 => {
                let mut levels = json!({ "users": { target: 25 * step.deed - 200 }, "kick": 25 });
                if !self.room.rules.authorization.explicitly_privilege_room_creators {
                    levels["users"][alice().as_str()] = 100.into();
                } else {
                    levels["users"].as_object_mut().unwrap().remove(alice().as_str());
                }
                ("m.room.power_levels", "", levels)
            }
            _ => ("m.room.topic", "", json!({ "topic": self.now })),
        };
        self.room.state = before.values().map(|id| Arc::clone(&self.pdus[id])).collect();
        self.now += step.pause;
        let made = self.room.make(sender, kind, Some(key), content);
        let mut draft =
            draft(sender, kind, Some(key), serde_json::from_str(made.content.get()).unwrap());
        draft.room_id = self.room.room_id.clone();
        draft.depth = UInt::from(1_u32) + ids.iter().map(|id| self.pdus[id].depth).max().unwrap();
        draft.prev_events = ids;
        draft.auth_events = made.auth_events.clone();
        draft.reference_hashes =
            self.room.hashes(draft.prev_events.iter().chain(&draft.auth_events));
        draft.origin_server_ts = MilliSecondsSinceUnixEpoch(UInt::from(self.now));
        let pdu = build(draft, domain(), &super::key(), &self.room.rules).unwrap();
        if self.pdus.contains_key(&pdu.event_id) || self.room.allow(&pdu).is_err() {
            return;
        }
        let pdu = self.room.append(pdu);
        let mut state = before;
        state.insert((pdu.kind.to_string().into(), key.to_owned()), pdu.event_id.clone());
        self.pdus.insert(pdu.event_id.clone(), Arc::clone(&pdu));
        self.after.push((pdu.event_id.clone(), state));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the order in which states are given, and however often, the result is the same; it
    /// allows nothing that is not in a state or an auth chain, and is stable.
    #[test]
    fn the_order_of_states_makes_no_difference(
        steps in prop::collection::vec(step(), 4..24),
        order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        for version in ["1", "2", "6", "11", "12"] {
            let mut graph = Graph::new(&version.try_into().unwrap());
            for step in &steps {
                graph.step(step);
            }
            let newest: Vec<State> =
                graph.after.iter().rev().take(8).map(|(_, state)| state.clone()).collect();
            let resolved = graph.resolve(&newest);
            let mut shuffled: Vec<State> =
                order.iter().filter_map(|index| newest.get(*index).cloned()).collect();
            prop_assert_eq!(&graph.resolve(&shuffled), &resolved, "version {}", version);
            shuffled.extend(newest.iter().cloned());
            prop_assert_eq!(&graph.resolve(&shuffled), &resolved, "version {}", version);
            for (key, id) in &resolved {
                let pdu = &graph.pdus[id];
                prop_assert_eq!(pdu.state_entry().unwrap(), (key.0.clone(), &*key.1));
            }
            for (key, id) in &newest[0] {
                if newest.iter().all(|state| state.get(key) == Some(id)) {
                    prop_assert_eq!(resolved.get(key), Some(id), "what all agree on stays");
                }
            }
            let again = graph.resolve(&[resolved.clone(), resolved.clone()]);
            prop_assert_eq!(&again, &resolved);
        }
    }
}

#[test]
fn hundreds_of_states_are_resolved() {
    for (version, _) in versions() {
        let mut graph = Graph::new(&version);
        let root = graph.after[0].clone();
        let follows = vec![0];
        let mut heads = Vec::new();
        for number in 0..150 {
            graph.after = vec![root.clone()];
            graph.now += 1;
            let deed = if number % 10 == 0 { 7 } else { 10 };
            let step = Step { follows: follows.clone(), sender: 0, target: 1, deed, pause: 1 };
            graph.step(&step);
            heads.push(graph.after.last().unwrap().1.clone());
        }
        let resolved = graph.resolve(&heads);
        heads.reverse();
        assert_eq!(graph.resolve(&heads), resolved, "version {version}");
        assert_eq!(resolved.len(), root.1.len() + 1);
        let mut more = heads.clone();
        more.extend(heads);
        assert_eq!(graph.resolve(&more), resolved);
    }
}

/// Events that name each other as auth events, which the hashes of versions 3 and later forbid.
#[test]
fn a_cycle_of_auth_events_ends_the_resolution() {
    for version in ["1", "2"] {
        let mut graph = Graph::new(&version.try_into().unwrap());
        let follows = vec![0];
        let base = graph.after[0].clone();
        let step = |deed| Step { follows: follows.clone(), sender: 0, target: 1, deed, pause: 1 };
        graph.step(&step(8));
        let one = graph.after.last().unwrap().clone();
        graph.after = vec![base];
        graph.step(&step(9));
        let two = graph.after.last().unwrap().clone();
        let mut first = Pdu::clone(&graph.pdus[&one.0]);
        first.auth_events.push(two.0.clone());
        let mut second = Pdu::clone(&graph.pdus[&two.0]);
        second.auth_events.push(one.0.clone());
        graph.pdus.insert(one.0.clone(), Arc::new(first));
        graph.pdus.insert(two.0.clone(), Arc::new(second));
        let fetch = |id: &EventId| graph.pdus.get(id).cloned();
        let resolved = resolve(&graph.room.rules, &[one.1, two.1], fetch);
        // The first algorithm follows no auth chains.
        assert_eq!(resolved.is_ok(), version == "1");
        assert!(version == "1" || matches!(resolved, Err(EventError::Unresolved(_))));
    }
}

/// A finding of the fuzz target `resolution`: the server of a room made two create events.
#[test]
fn a_second_create_event_leaves_nothing_to_chance() {
    for version in ["1", "2", "6", "10", "11"] {
        let rules = rules(&version.try_into().unwrap()).unwrap();
        let worlds = [alice(), bob(), users()[2]].map(|founder| {
            let (room_id, events, state) = (None, Vec::new(), Vec::new());
            let mut room = Room { rules: rules.clone(), room_id, events, state };
            let content = json!({ "creator": founder, "room_version": version });
            room.must(founder, "m.room.create", Some(""), content);
            room.must(founder, "m.room.member", Some(founder.as_str()), joined());
            for user in users().into_iter().filter(|user| *user != founder) {
                let levels = json!({ "users": { founder: 100, user: 50 } });
                room.must(founder, "m.room.power_levels", Some(""), levels);
            }
            room
        });
        let pdus: Vec<_> = worlds.iter().flat_map(|room| &room.events).collect();
        let fetch =
            |id: &EventId| pdus.iter().find(|pdu| pdu.event_id == id).map(|p| Arc::clone(p));
        let mut states: Vec<State> = worlds.iter().map(|room| state_of(&room.state)).collect();
        let resolved = resolve(&rules, &states, fetch).unwrap();
        for _ in 0..40 {
            states.rotate_left(1);
            assert_eq!(resolve(&rules, &states, fetch).unwrap(), resolved, "version {version}");
        }
    }
}

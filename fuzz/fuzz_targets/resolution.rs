//! State resolution of events that refer to each other in any way, cycles included: it ends, and
//! gives the same whatever the order of the states.

#![no_main]

use std::{collections::HashMap, fmt::Write, sync::Arc};

use event::{Pdu, StateMap};
use libfuzzer_sys::fuzz_target;
use ruma::{EventId, OwnedEventId, RoomVersionId};

const EVENTS_MAX: usize = 24;
const STATES_MAX: usize = 5;

/// What is left of the input, a byte at a time.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.next() % from.len()]
    }
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    let version = bytes.choose(&["1", "2", "3", "6", "8", "10", "11", "12"]);
    let rules = event::rules(&RoomVersionId::try_from(version).unwrap()).unwrap();
    let count = 1 + bytes.next() % EVENTS_MAX;
    let mut pdus: HashMap<OwnedEventId, Arc<Pdu>> = HashMap::new();
    for number in 0..count {
        let json = json(&mut bytes, number, count);
        let event_id = id(number);
        let pdu = Pdu::from_stored(event_id.clone(), json.into(), &rules).unwrap();
        pdus.insert(event_id, Arc::new(pdu));
    }
    let mut states: Vec<StateMap<OwnedEventId>> = Vec::new();
    for _ in 0..1 + bytes.next() % STATES_MAX {
        let mut state = StateMap::new();
        for _ in 0..bytes.next() % count + 1 {
            let pdu = &pdus[&id(bytes.next() % count)];
            let (kind, key) = pdu.state_entry().unwrap();
            state.insert((kind, key.to_owned()), pdu.event_id.clone());
        }
        states.push(state);
    }
    let fetch = |id: &EventId| pdus.get(id).cloned();
    let resolved = event::resolve(&rules, &states, fetch);
    states.reverse();
    states.extend_from_within(..);
    let again = event::resolve(&rules, &states, fetch);
    match (resolved, again) {
        (Ok(resolved), Ok(again)) => assert_eq!(resolved, again),
        (resolved, again) => assert_eq!(resolved.is_ok(), again.is_ok()),
    }
});

fn id(number: usize) -> OwnedEventId {
    EventId::parse(format!("${number}:a")).unwrap()
}

fn json(bytes: &mut Bytes<'_>, number: usize, count: usize) -> String {
    const USERS: [&str; 3] = ["@a:a", "@b:a", "@c:b"];
    let (sender, target) = (bytes.choose(&USERS), bytes.choose(&USERS));
    let (kind, key, content) = match bytes.next() % 12 {
        0 if number == 0 => ("m.room.create", "", r#"{"creator":"@a:a"}"#),
        0 => ("m.room.create", "", r#"{"creator":"@b:a","additional_creators":["@c:b"]}"#),
        1 | 2 => ("m.room.member", sender, r#"{"membership":"join"}"#),
        3 => ("m.room.member", target, r#"{"membership":"ban"}"#),
        4 => ("m.room.member", target, r#"{"membership":"leave"}"#),
        5 => ("m.room.member", target, r#"{"membership":"invite"}"#),
        6 => ("m.room.power_levels", "", r#"{"users":{"@a:a":100,"@b:a":50}}"#),
        7 => ("m.room.power_levels", "", r#"{"users":{"@b:a":"100","@c:b":7},"ban":0}"#),
        8 => ("m.room.join_rules", "", r#"{"join_rule":"public"}"#),
        9 => ("m.room.join_rules", "", r#"{"join_rule":"restricted","allow":[]}"#),
        10 => ("m.room.third_party_invite", "t", r#"{"public_key":"x"}"#),
        _ => ("m.room.topic", "", r#"{"topic":"x"}"#),
    };
    let mut auth = String::new();
    for _ in 0..bytes.next() % 6 {
        let comma = if auth.is_empty() { "" } else { "," };
        let _ = write!(auth, r#"{comma}"${}:a""#, bytes.next() % (count + 1));
    }
    let (depth, time) = (bytes.next() % 16, bytes.next() % 4);
    let prev = bytes.next() % (count + 1);
    format!(
        r#"{{"auth_events":[{auth}],"content":{content},"depth":{depth},"origin_server_ts":{time},
        "prev_events":["${prev}:a"],"room_id":"!r:a","sender":"{sender}","state_key":"{key}",
        "type":"{kind}"}}"#
    )
}

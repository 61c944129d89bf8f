//! State resolution and the key document.

use std::{collections::HashMap, sync::Arc};

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, ServerSigningKeyId, UInt, UserId,
    events::StateEventType, signatures, user_id,
};
use serde_json::json;

use super::{Room, alice, bob, domain, joined, key, versions};
use crate::{OldKey, Pdu, StateMap, key_document, parse_canonical, resolve};

fn carol() -> &'static UserId {
    user_id!("@carol:domain")
}

fn map(state: &[Arc<Pdu>]) -> StateMap<OwnedEventId> {
    state
        .iter()
        .map(|pdu| {
            let (kind, key) = pdu.state_entry().unwrap();
            ((kind, key.to_owned()), pdu.event_id.clone())
        })
        .collect()
}

/// A public room with Bob and Carol in it, both of whom may ban.
fn room(version: &ruma::RoomVersionId) -> Room {
    let mut room = Room::new(version);
    let mut users = json!({ bob().as_str(): 50, carol().as_str(): 50 });
    if !room.rules.authorization.explicitly_privilege_room_creators {
        users[alice().as_str()] = 100.into();
    }
    room.must(alice(), "m.room.power_levels", Some(""), json!({ "users": users }));
    room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
    room.must(bob(), "m.room.member", Some(bob().as_str()), joined());
    room.must(carol(), "m.room.member", Some(carol().as_str()), joined());
    room
}

fn branch(room: &Room) -> Room {
    Room {
        rules: room.rules.clone(),
        room_id: room.room_id.clone(),
        events: room.events.clone(),
        state: room.state.clone(),
    }
}

#[test]
fn branches_that_agree_resolve_to_themselves() {
    for (_, rules) in versions() {
        let room = room(&ruma::RoomVersionId::V10);
        let state = map(&room.state);
        let resolved =
            resolve(&rules, &[state.clone(), state.clone()], |id| room.event(id)).unwrap();
        assert_eq!(resolved, state);
    }
}

#[test]
fn a_ban_wins_over_what_the_banned_did_meanwhile() {
    for (version, rules) in versions() {
        let trunk = room(&version);
        let mut left = branch(&trunk);
        let ban = left.must(
            alice(),
            "m.room.member",
            Some(bob().as_str()),
            json!({ "membership": "ban" }),
        );
        let mut right = branch(&trunk);
        let topic = right.must(bob(), "m.room.topic", Some(""), json!({ "topic": "mine" }));
        let name = right.must(carol(), "m.room.name", Some(""), json!({ "name": "ours" }));

        let all: HashMap<_, _> = left
            .events
            .iter()
            .chain(&right.events)
            .map(|pdu| (pdu.event_id.clone(), pdu.clone()))
            .collect();
        let states = [map(&left.state), map(&right.state)];
        let resolved = resolve(&rules, &states, |id| all.get(id).cloned()).unwrap();
        let get = |kind: StateEventType, key: &str| resolved.get(&(kind, key.to_owned()));
        let member = get(StateEventType::RoomMember, bob().as_str());
        assert_eq!(member, Some(&ban.event_id), "version {version}");
        // The first algorithm sees no conflict where only one branch has set something.
        let topic_stays = rules.state_res.v2_rules().is_none();
        assert_eq!(get(StateEventType::RoomTopic, "") == Some(&topic.event_id), topic_stays);
        assert_eq!(get(StateEventType::RoomName, ""), Some(&name.event_id));
        let swapped = [map(&right.state), map(&left.state)];
        assert_eq!(resolve(&rules, &swapped, |id| all.get(id).cloned()).unwrap(), resolved);
    }
}

#[test]
fn an_event_that_is_missing_fails_the_resolution() {
    for (version, rules) in versions() {
        let mut room = room(&version);
        let before = map(&room.state);
        room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": "invite" }));
        assert!(resolve(&rules, &[before, map(&room.state)], |_| None).is_err());
    }
}

#[test]
fn the_key_document_is_signed_by_the_key_that_it_lists() {
    let old = OldKey {
        key_id: ServerSigningKeyId::parse("ed25519:old").unwrap(),
        public_key_base64: "abc".to_owned(),
        expired_ts: MilliSecondsSinceUnixEpoch(UInt::from(5_u32)),
    };
    let until = MilliSecondsSinceUnixEpoch(UInt::from(1_000_u32));
    let json = key_document(domain(), &key(), &[old], until).unwrap();
    let document = parse_canonical(&json).unwrap();
    signatures::verify_json(&key().public_keys(domain()), &document).unwrap();
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["server_name"], "domain");
    assert_eq!(read["valid_until_ts"], 1_000);
    assert_eq!(read["verify_keys"]["ed25519:1"]["key"], key().public_key_base64());
    assert_eq!(read["old_verify_keys"]["ed25519:old"], json!({ "expired_ts": 5, "key": "abc" }));
}

#[test]
fn keys_have_plain_names_and_differ() {
    for version in ["", "a b", "a:b", "ä", "a-b"] {
        assert!(crate::ServerKey::from_parts([1; 32], version).is_err());
    }
    let first = crate::ServerKey::generate("a_1").unwrap();
    let second = crate::ServerKey::generate("a_1").unwrap();
    assert_ne!(first.seed(), second.seed());
    let restored = crate::ServerKey::from_parts(first.seed(), first.version()).unwrap();
    assert_eq!(restored.public_key_base64(), first.public_key_base64());
    assert!(!format!("{first:?}").contains(&first.public_key_base64()));
}

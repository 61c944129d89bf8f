//! What differs from room version to room version: IDs, redaction, signatures, client format.

use ruma::{EventId, RoomVersionId, room_version_rules::RoomVersionRules, signatures};
use serde_json::{Value as JsonValue, json};

use super::{Room, alice, bob, domain, draft, joined, key, versions};
use crate::{EventError, build, countersign, identify, redact, verify};

fn number(version: &RoomVersionId) -> u32 {
    version.as_str().parse().unwrap()
}

#[test]
fn event_ids_are_reference_hashes_in_the_alphabet_of_the_version() {
    for (version, rules) in versions().into_iter().filter(|(version, _)| number(version) >= 3) {
        let mut seen_special = false;
        for body in 0..40 {
            let draft = draft(alice(), "m.room.message", None, json!({ "body": body }));
            let pdu = build(draft, domain(), &key(), &rules).unwrap();
            let object = serde_json::from_str(&pdu.json).unwrap();
            let hash = signatures::reference_hash(&object, &rules).unwrap();
            assert_eq!(pdu.event_id.as_str(), format!("${hash}"));
            assert_eq!(hash.len(), 43);
            let special: &[char] = if number(&version) == 3 { &['+', '/'] } else { &['-', '_'] };
            let other: &[char] = if number(&version) == 3 { &['-', '_'] } else { &['+', '/'] };
            seen_special |= hash.contains(special);
            assert!(!hash.contains(other), "version {version}: {hash}");
        }
        assert!(seen_special);
    }
}

#[test]
fn from_version_12_on_the_create_event_names_the_room() {
    for (version, rules) in versions() {
        let content = json!({ "room_version": version });
        let create =
            build(draft(alice(), "m.room.create", Some(""), content), domain(), &key(), &rules)
                .unwrap();
        let json: JsonValue = serde_json::from_str(&create.json).unwrap();
        let shown: JsonValue = serde_json::from_str(&create.client_json()).unwrap();
        assert_eq!(shown["room_id"], create.room_id.as_str());
        if number(&version) >= 12 {
            assert!(json.get("room_id").is_none());
            assert_eq!(create.room_id.as_str()[1..], create.event_id.as_str()[1..]);
            assert!(ruma::state_res::Event::room_id(&create).is_none());
        } else {
            assert_eq!(json["room_id"], "!room:domain");
            assert_eq!(create.room_id, "!room:domain");
        }
    }
}

#[test]
fn from_version_12_on_the_create_event_is_no_auth_event() {
    for (version, _) in versions() {
        let room = Room::new(&version);
        let create = &room.events[0].event_id;
        let mut message = room.make(alice(), "m.room.message", None, json!({ "body": "hi" }));
        assert_eq!(message.auth_events.contains(create), number(&version) < 12);
        if number(&version) >= 12 {
            message.auth_events.push(create.clone());
            assert!(room.allow(&message).is_err());
            let mut draft = draft(alice(), "m.room.message", None, json!({}));
            draft.room_id = room.room_id.clone();
            draft.auth_events = vec![create.clone()];
            let built = build(draft, domain(), &key(), &room.rules);
            assert!(matches!(built, Err(EventError::BadJson(_))));
        }
    }
}

/// What is left of a content in a version, given as (type, content, first version, left).
fn left(kind: &str, content: JsonValue, rules: &RoomVersionRules) -> JsonValue {
    let pdu = build(draft(alice(), kind, Some(""), content), domain(), &key(), rules).unwrap();
    let redacted = redact(&pdu, rules).unwrap();
    assert_eq!(redacted.event_id, pdu.event_id);
    // The same ID by hash, and the signature still holds.
    let identity = identify(&redacted.json, rules).unwrap();
    assert_eq!(identity.event_id, pdu.event_id);
    assert_eq!(redacted.reference_hash(rules).unwrap(), pdu.reference_hash(rules).unwrap());
    let verified = verify(&redacted.json, &key().public_keys(domain()), rules).unwrap();
    assert_eq!(verified.pdu().content.get(), redacted.content.get());
    redacted.content_as().unwrap()
}

#[test]
fn redaction_keeps_what_the_version_protects() {
    for (version, rules) in versions() {
        let since = |first: u32, value: JsonValue| {
            if number(&version) >= first { value } else { json!({}) }
        };
        let until = |last: u32, value: JsonValue| {
            if number(&version) <= last { value } else { json!({}) }
        };
        let merge = |parts: &[JsonValue]| {
            let mut all = serde_json::Map::new();
            for part in parts {
                all.extend(part.as_object().unwrap().clone());
            }
            JsonValue::Object(all)
        };
        let cases = [
            ("m.room.message", json!({ "body": "x", "msgtype": "m.text" }), json!({})),
            ("m.room.topic", json!({ "topic": "x" }), json!({})),
            ("m.room.aliases", json!({ "aliases": [] }), until(5, json!({ "aliases": [] }))),
            (
                "m.room.create",
                json!({ "creator": "@a:b", "room_version": "x", "m.federate": false }),
                merge(&[
                    json!({ "creator": "@a:b" }),
                    since(11, json!({ "room_version": "x", "m.federate": false })),
                ]),
            ),
            (
                "m.room.join_rules",
                json!({ "join_rule": "restricted", "allow": [], "x": 1 }),
                merge(&[json!({ "join_rule": "restricted" }), since(8, json!({ "allow": [] }))]),
            ),
            (
                "m.room.member",
                json!({ "membership": "join", "displayname": "x",
                    "join_authorised_via_users_server": "@a:domain",
                    "third_party_invite": { "signed": { "token": "t" }, "display_name": "d" } }),
                merge(&[
                    json!({ "membership": "join" }),
                    since(9, json!({ "join_authorised_via_users_server": "@a:domain" })),
                    since(11, json!({ "third_party_invite": { "signed": { "token": "t" } } })),
                ]),
            ),
            (
                "m.room.power_levels",
                json!({ "users": {}, "invite": 1, "ban": 2, "kick": 2, "redact": 3, "events": {},
                    "events_default": 0, "state_default": 50, "users_default": 0,
                    "notifications": {} }),
                merge(&[
                    json!({ "users": {}, "ban": 2, "kick": 2, "redact": 3, "events": {},
                        "events_default": 0, "state_default": 50, "users_default": 0 }),
                    since(11, json!({ "invite": 1 })),
                ]),
            ),
            (
                "m.room.history_visibility",
                json!({ "history_visibility": "shared", "x": 1 }),
                json!({ "history_visibility": "shared" }),
            ),
            (
                "m.room.redaction",
                json!({ "redacts": "$a", "reason": "r" }),
                since(11, json!({ "redacts": "$a" })),
            ),
        ];
        for (kind, content, expected) in cases {
            assert_eq!(left(kind, content, &rules), expected, "{kind} in version {version}");
        }
    }
}

#[test]
fn a_redaction_says_what_it_redacts_where_the_version_wants_it_and_to_clients_in_both_places() {
    for (version, rules) in versions() {
        let mut draft = draft(alice(), "m.room.redaction", None, json!({ "reason": "r" }));
        draft.redacts = Some(EventId::parse("$gone").unwrap());
        let pdu = build(draft, domain(), &key(), &rules).unwrap();
        assert_eq!(pdu.redacts.as_deref().unwrap(), "$gone");
        let json: JsonValue = serde_json::from_str(&pdu.json).unwrap();
        let in_content = number(&version) >= 11;
        assert_eq!(json.get("redacts").is_some(), !in_content);
        assert_eq!(json["content"].get("redacts").is_some(), in_content);
        let shown: JsonValue = serde_json::from_str(&pdu.client_json()).unwrap();
        assert_eq!(shown["redacts"], "$gone");
        assert_eq!(shown["content"], json!({ "reason": "r", "redacts": "$gone" }));
    }
}

#[test]
fn a_redaction_with_a_null_target_in_its_content_is_shown_with_that_key_once() {
    for (version, rules) in versions().into_iter().filter(|(version, _)| number(version) < 11) {
        let mut draft = draft(alice(), "m.room.redaction", None, json!({ "redacts": null }));
        draft.redacts = Some(EventId::parse("$gone").unwrap());
        let pdu = build(draft, domain(), &key(), &rules).unwrap();
        let shown = pdu.client_json();
        assert!(shown.starts_with(r#"{"content":{"redacts":null},"#), "{version}: {shown}");
        let shown: JsonValue = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["redacts"], "$gone");
    }
}

#[test]
fn clients_see_the_event_without_what_servers_need() {
    for (_, rules) in versions() {
        let content = json!({ "a\"b": "c\\d", "nested": { "x": [1, null, true] } });
        let pdu = build(
            draft(alice(), "t\"\u{1}ype", Some("ключ\n"), content.clone()),
            domain(),
            &key(),
            &rules,
        )
        .unwrap();
        let mut expected = json!({
            "content": content, "event_id": pdu.event_id, "origin_server_ts": 1_700_000_000_u64,
            "room_id": "!room:domain", "sender": alice(), "state_key": "ключ\n",
            "type": "t\"\u{1}ype",
        });
        let shown: JsonValue = serde_json::from_str(&pdu.client_json()).unwrap();
        assert_eq!(shown, expected);
        expected.as_object_mut().unwrap().remove("room_id");
        let shown: JsonValue = serde_json::from_str(&pdu.sync_json()).unwrap();
        assert_eq!(shown, expected);
        assert!(std::sync::Arc::ptr_eq(&pdu.client_json(), &pdu.client_json()));
    }
}

#[test]
fn another_servers_event_can_be_countersigned() {
    for (_, rules) in versions() {
        let other = crate::ServerKey::from_parts([7; 32], "z").unwrap();
        let there = ruma::server_name!("there");
        let pdu = build(draft(alice(), "X", None, json!({})), domain(), &key(), &rules).unwrap();
        let signed = countersign(&pdu, there, &other, &rules).unwrap();
        assert_eq!(signed.event_id, pdu.event_id);
        verify(&signed.json, &key().public_keys(domain()), &rules).unwrap();
        let json: JsonValue = serde_json::from_str(&signed.json).unwrap();
        assert!(json["signatures"]["there"]["ed25519:z"].is_string());
    }
}

#[test]
fn only_our_users_events_are_made() {
    for (_, rules) in versions() {
        let stranger = ruma::user_id!("@eve:elsewhere");
        let made = build(draft(stranger, "X", None, json!({})), domain(), &key(), &rules);
        assert!(matches!(made, Err(EventError::WrongServer(_))));
    }
}

#[test]
fn a_wrong_signature_is_refused_and_a_changed_content_comes_back_redacted() {
    for (version, rules) in versions() {
        let keys = key().public_keys(domain());
        let draft = draft(alice(), "m.room.message", None, json!({ "body": "true" }));
        let pdu = build(draft, domain(), &key(), &rules).unwrap();
        let content_changed = pdu.json.replace("\"true\"", "\"false\"");
        let verified = verify(&content_changed, &keys, &rules).unwrap();
        assert_eq!(verified.pdu().content.get(), "{}");
        assert_eq!(verified.pdu().event_id, pdu.event_id);
        let sender_changed = pdu.json.replace("@alice:domain", "@mallory:domain");
        assert!(matches!(verify(&sender_changed, &keys, &rules), Err(EventError::Unverified(_))));
        let stranger = crate::ServerKey::from_parts([9; 32], "1").unwrap();
        let refused = verify(&pdu.json, &stranger.public_keys(domain()), &rules);
        assert!(matches!(refused, Err(EventError::Unverified(_))), "version {version}");
        assert!(verify(&pdu.json, &Default::default(), &rules).is_err());
    }
}

#[test]
fn creators_of_version_12_stand_above_the_power_levels() {
    for (version, _) in versions() {
        let mut room = Room::new(&version);
        let levels = json!({ "users": { bob().as_str(): 100 } });
        let with_creator = json!({ "users": { alice().as_str(): 100, bob().as_str(): 100 } });
        if number(&version) >= 12 {
            room.refused(alice(), "m.room.power_levels", Some(""), with_creator);
            room.must(alice(), "m.room.power_levels", Some(""), levels);
            room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
            room.must(bob(), "m.room.member", Some(bob().as_str()), joined());
            let kick = json!({ "membership": "leave" });
            room.refused(bob(), "m.room.member", Some(alice().as_str()), kick.clone());
            room.must(alice(), "m.room.member", Some(bob().as_str()), kick);
        } else {
            room.must(alice(), "m.room.power_levels", Some(""), with_creator);
        }
    }
}

#[test]
fn membership_rules_follow_the_version() {
    for (version, rules) in versions() {
        let mut room = Room::new(&version);
        let me = Some(bob().as_str());
        room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": "invite" }));
        room.refused(bob(), "m.room.member", me, joined());
        let knock = json!({ "membership": "knock" });
        room.refused(bob(), "m.room.member", me, knock.clone());
        room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": "knock" }));
        let knocked = room.make(bob(), "m.room.member", me, knock);
        assert_eq!(room.allow(&knocked).is_ok(), rules.authorization.knocking, "{version}");
        for (rule, supported) in [
            ("restricted", rules.authorization.restricted_join_rule),
            ("knock_restricted", rules.authorization.knock_restricted_join_rule),
        ] {
            room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": rule }));
            let mut content = joined();
            content["join_authorised_via_users_server"] = alice().as_str().into();
            let join = room.make(bob(), "m.room.member", me, content);
            assert_eq!(room.allow(&join).is_ok(), supported, "{rule} in version {version}");
            room.refused(bob(), "m.room.member", me, joined());
        }
    }
}

#[test]
fn power_levels_are_integers_from_version_10_on() {
    for (version, _) in versions() {
        let room = Room::new(&version);
        let levels = json!({ "users": { bob().as_str(): "50" } });
        let pdu = room.make(alice(), "m.room.power_levels", Some(""), levels);
        assert_eq!(room.allow(&pdu).is_ok(), number(&version) < 10, "version {version}");
    }
}

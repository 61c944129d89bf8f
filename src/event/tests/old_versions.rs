//! Room versions 1 to 5: event IDs that the event states, hashes beside them, numbers of any kind.

use ruma::{room_version_rules::RoomVersionRules, server_name, signatures::PublicKeyMap, user_id};
use serde_json::{Value as JsonValue, json};

use super::{Room, alice, domain, draft, key};
use crate::{
    EventError, Pdu, ServerKey, authorise_by_state, build, countersign, identify, redact,
    required_keys, rules, verify, write_lax,
};

/// A power levels event with numbers of all kinds, as Synapse signed it in a room of version 1.
const SIGNED_V1: &str = r#"{"auth_events":[["$0:domain",{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"}]],"content":{"ban":1e+16,"big":12345678901234567890123,"invite":1e-05,"notifications":{"room":1.5},"users":{"@a:domain":100.0,"@b:domain":"50","@c:domain":50.7}},"depth":9223372036854775000,"event_id":"$1:domain","hashes":{"sha256":"LvwkkXLXdExIY4Ccfufy3vUayHIXsb37RjnxH0H/zVQ"},"origin_server_ts":1000000,"prev_events":[["$0:domain",{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"}]],"room_id":"!x:domain","sender":"@a:domain","signatures":{"domain":{"ed25519:1":"6718JnVt/bftEf5Q7cuXsukPD2nOhkENDSoyiwgzZdmsol4vfOOY9Pj69mjdgCyNWMdY6zwBuVC3JGkgBXFtBQ"}},"state_key":"","type":"m.room.power_levels"}"#;

/// The same in versions 3 to 5.
const SIGNED_V5: &str = r#"{"auth_events":["$Zm9v"],"content":{"ban":1e+16,"big":12345678901234567890123,"invite":1e-05,"notifications":{"room":1.5},"users":{"@a:domain":100.0,"@b:domain":"50","@c:domain":50.7}},"depth":9223372036854775000,"hashes":{"sha256":"7uIgr4cBwd3xOPCQ7O+I1MbCNqf05Z0XxOdnfPBYiEU"},"origin_server_ts":1000000,"prev_events":["$Zm9v"],"room_id":"!x:domain","sender":"@a:domain","signatures":{"domain":{"ed25519:1":"2nJnJisncwxCx+i2uF4VpdDhKtPKSUgnULffEsg+O5dq9O1AIwx4Dgcp5MGeT3IIjoI0wMCUvNulOU45eAbkAw"}},"state_key":"","type":"m.room.power_levels"}"#;

/// The events above with the versions they are for, their IDs and their reference hashes.
fn signed_by_synapse() -> [(&'static str, &'static str, &'static str, &'static str); 5] {
    let v1_hash = "RmeNEbUDMK6wR5TnUufYSGOrkJAIl7k5EOIH1yjH1CU";
    let v3_id = "$DdVnfX23c7tlKISb6BL2/RX+hnGySG6UV7QaOeqZtR0";
    let v4_id = "$DdVnfX23c7tlKISb6BL2_RX-hnGySG6UV7QaOeqZtR0";
    [
        ("1", SIGNED_V1, "$1:domain", v1_hash),
        ("2", SIGNED_V1, "$1:domain", v1_hash),
        ("3", SIGNED_V5, v3_id, &v3_id[1..]),
        ("4", SIGNED_V5, v4_id, &v4_id[1..]),
        ("5", SIGNED_V5, v4_id, &v4_id[1..]),
    ]
}

fn old_rules(version: &str) -> RoomVersionRules {
    rules(&version.try_into().unwrap()).unwrap()
}

#[test]
fn events_with_floats_and_huge_integers_are_read_as_synapse_wrote_them() {
    let keys = key().public_keys(domain());
    for (version, json, event_id, hash) in signed_by_synapse() {
        let rules = old_rules(version);
        let pdu = verify(json, &keys, &rules).unwrap().into_pdu();
        assert_eq!(&*pdu.json, json, "not even redacted, in version {version}");
        assert_eq!(pdu.event_id, event_id);
        assert_eq!(pdu.reference_hash(&rules).unwrap(), hash);
        assert_eq!(pdu.depth, ruma::UInt::MAX);
        let identity = identify(json, &rules).unwrap();
        assert!(identity.is_canonical && identity.has_its_hash);
        assert_eq!(required_keys(json, &rules).unwrap()[0].0, domain());

        // Written otherwise, it is the same event.
        let spaced = json.replace("1e+16", " 1E16 ").replace("50.7", "5.07e1");
        assert_eq!(verify(&spaced, &keys, &rules).unwrap().pdu().json, pdu.json);
        // With another number, it is redacted; `users` and `ban` are signed.
        let changed = json.replace("1.5", "2.5");
        let changed = verify(&changed, &keys, &rules).unwrap().into_pdu();
        assert_eq!(changed.event_id, event_id);
        assert!(!changed.json.contains("notifications") && changed.json.contains("50.7"));
        assert_eq!(changed.json, redact(&pdu, &rules).unwrap().json);
        assert_eq!(changed.reference_hash(&rules).unwrap(), hash);
        let forged = json.replace("50.7", "70.7");
        assert!(matches!(verify(&forged, &keys, &rules), Err(EventError::Unverified(_))));

        let there = server_name!("there");
        let other = ServerKey::from_parts([7; 32], "z").unwrap();
        let signed = countersign(&pdu, there, &other, &rules).unwrap();
        assert_eq!(signed.event_id, event_id);
        let both: PublicKeyMap = keys.clone().into_iter().chain(other.public_keys(there)).collect();
        verify(&signed.json, &both, &rules).unwrap();
        assert!(signed.json.contains(r#""there":{"ed25519:z":""#));
    }
}

#[test]
fn lax_events_without_a_usable_signature_are_refused() {
    let keys = key().public_keys(domain());
    for (version, json, ..) in signed_by_synapse() {
        let rules = old_rules(version);
        let stranger = ServerKey::from_parts([9; 32], "1").unwrap();
        assert!(verify(json, &PublicKeyMap::new(), &rules).is_err());
        assert!(verify(json, &stranger.public_keys(domain()), &rules).is_err());
        for (from, to) in [
            ("ed25519:1", "ed25519:2"),
            ("ed25519:1", "curve:1"),
            (r#""domain":{"ed"#, r#""other":{"ed"#),
            (r#""signatures":{"domain""#, r#""signatures":{"domain":1,"x""#),
            (r#""signatures""#, r#""unsigned""#),
            (r#""hashes":{"sha256""#, r#""hashes":{"sha1""#),
        ] {
            assert!(json.contains(from));
            let broken = json.replace(from, to);
            assert!(verify(&broken, &keys, &rules).is_err(), "{from} in version {version}");
        }
        for number in ["-1", "1.0", "null", "9223372036854775808"] {
            let broken = json.replace("9223372036854775000", number);
            let refused = verify(&broken, &keys, &rules);
            assert!(matches!(refused, Err(EventError::BadJson(_))), "depth {number}");
        }
    }
}

#[test]
fn canonical_json_is_strict_from_version_6_on() {
    let keys = key().public_keys(domain());
    for version in 6..=12 {
        let rules = old_rules(&version.to_string());
        assert!(matches!(verify(SIGNED_V5, &keys, &rules), Err(EventError::BadJson(_))));
        assert!(matches!(required_keys(SIGNED_V5, &rules), Err(EventError::BadJson(_))));
        assert!(Pdu::from_json(SIGNED_V5.into(), &rules).is_err());
    }
}

#[test]
fn power_levels_are_read_from_floats_and_texts() {
    for (version, ..) in signed_by_synapse() {
        let mut room = Room::new(&version.try_into().unwrap());
        let levels = json!({ "users": { alice(): " +0100 ", "@bob:domain": 50 } });
        room.must(alice(), "m.room.power_levels", Some(""), levels);
        room.must(alice(), "m.room.topic", Some(""), json!({ "topic": "x" }));
        // Our users' events are canonical; a float can only come from elsewhere.
        let plain = json!({ "users": { alice(): 99, "@bob:domain": 50 } });
        let plain = room.make(alice(), "m.room.power_levels", Some(""), plain);
        let lax = plain.json.replace(
            r#""users":{"@alice:domain":99,"@bob:domain":50}"#,
            r#""state_default":99.5,"users":{"@alice:domain":99.9,"@bob:domain":5.07e1}"#,
        );
        let lax = Pdu::from_stored(plain.event_id, lax.into(), &room.rules).unwrap();
        room.allow(&lax).unwrap();
        room.append(lax);
        room.must(alice(), "m.room.topic", Some(""), json!({ "topic": "y" }));
        room.append(room.make(
            user_id!("@bob:domain"),
            "m.room.member",
            Some("@bob:domain"),
            json!({ "membership": "join" }),
        ));
        room.refused(user_id!("@bob:domain"), "m.room.topic", Some(""), json!({ "topic": "z" }));
    }
}

#[test]
fn the_first_two_versions_state_their_id_and_the_hashes_of_others() {
    for version in ["1", "2"] {
        let room = Room::new(&version.try_into().unwrap());
        let create = &room.events[0];
        let member = &room.events[1];
        let json: JsonValue = serde_json::from_str(&member.json).unwrap();
        assert_eq!(json["event_id"], member.event_id.as_str());
        assert_eq!(member.event_id.server_name(), Some(domain()));
        let hash = create.reference_hash(&room.rules).unwrap();
        let reference = json!([create.event_id, { "sha256": hash }]);
        assert_eq!(json["prev_events"], json!([reference]));
        assert_eq!(json["auth_events"], json!([reference]));
        assert_eq!(member.prev_events, std::slice::from_ref(&create.event_id));
        verify(&member.json, &key().public_keys(domain()), &room.rules).unwrap();
        assert_eq!(Pdu::from_json(member.json.clone(), &room.rules).unwrap().auth_events.len(), 1);

        // Different events have different IDs, the same event has the same.
        let one = room.make(alice(), "X", None, json!({ "n": 1 }));
        let two = room.make(alice(), "X", None, json!({ "n": 2 }));
        assert_ne!(one.event_id, two.event_id);
        assert_eq!(one.json, room.make(alice(), "X", None, json!({ "n": 1 })).json);

        let mut hashless = draft(alice(), "X", None, json!({}));
        hashless.prev_events = vec![create.event_id.clone()];
        let built = build(hashless, domain(), &key(), &room.rules);
        assert!(matches!(built, Err(EventError::NoReferenceHash(_))));
    }
}

#[test]
fn references_have_the_form_of_the_version() {
    let keys = PublicKeyMap::new();
    let pair = r#"["$0:domain",{"sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"}]"#;
    for (version, json, ..) in signed_by_synapse() {
        let rules = old_rules(version);
        let mine = if json.contains(pair) { pair } else { r#""$Zm9v""# };
        let other = if json.contains(pair) { r#""$Zm9v""# } else { pair };
        let long = format!("\"${}\"", "a".repeat(300));
        let twenty_one = vec![mine; 21].join(",");
        let bad = |json: &str| matches!(verify(json, &keys, &rules), Err(EventError::BadJson(_)));
        assert!(!bad(json));
        for wrong in [
            other,
            "1",
            "[]",
            "{}",
            r#""a""#,
            r#"["$a:b"]"#,
            r#"["$a:b",1]"#,
            &long,
            r#"["$a:b",{},{}]"#,
            &twenty_one,
        ] {
            assert!(bad(&json.replace(mine, wrong)), "{wrong} in version {version}");
        }
    }
    for id in ["$1", "1:domain", "", "$:domain:x:y z", "$1:"] {
        let json = SIGNED_V1.replace("$1:domain", id);
        let refused = verify(&json, &keys, &RoomVersionRules::V1);
        assert!(matches!(refused, Err(EventError::BadJson(_))), "`{id}`");
    }
}

#[test]
fn the_server_of_the_event_id_must_sign_too() {
    let json = SIGNED_V1.replace("$1:domain", "$1:elsewhere");
    let required = required_keys(&json, &RoomVersionRules::V1);
    assert!(matches!(required, Err(EventError::Unverified(_))));
    let json = json.replace(r#""signatures":{"#, r#""signatures":{"elsewhere":{"ed25519:q":"x"},"#);
    let required = required_keys(&json, &RoomVersionRules::V2).unwrap();
    assert_eq!(required.len(), 2);
    assert_eq!(required[1].0, "elsewhere");
    assert_eq!(required[1].1, ["ed25519:q"]);
    let sender_alone = key().public_keys(domain());
    assert!(verify(&json, &sender_alone, &RoomVersionRules::V1).is_err());
}

#[test]
fn the_needed_keys_are_those_of_the_senders_server_and_of_who_authorised() {
    let mut content = json!({ "membership": "join" });
    content["join_authorised_via_users_server"] = "@mod:there".into();
    let join = draft(alice(), "m.room.member", Some(alice().as_str()), content);
    for version in 1..=12 {
        let rules = old_rules(&version.to_string());
        let pdu = build(join.clone(), domain(), &key(), &rules).unwrap();
        let other = ServerKey::from_parts([7; 32], "z").unwrap();
        let signed = countersign(&pdu, server_name!("there"), &other, &rules).unwrap();
        let required = required_keys(&signed.json, &rules).unwrap();
        let servers: Vec<_> = required.iter().map(|(server, _)| server.as_str()).collect();
        assert_eq!(servers, if version < 8 { vec!["domain"] } else { vec!["domain", "there"] });
        assert_eq!(required_keys(&pdu.json, &rules).is_ok(), version < 8);
        assert_eq!(required[0].1, ["ed25519:1"]);

        let mut many: JsonValue = serde_json::from_str(&signed.json).unwrap();
        for number in 0..33 {
            many["signatures"]["domain"][format!("ed25519:k{number}")] = "x".into();
        }
        assert!(matches!(required_keys(&many.to_string(), &rules), Err(EventError::BadJson(_))));
        many["signatures"]["domain"] = json!({ "curve25519:1": "x", "ed25519": "x" });
        let refused = required_keys(&many.to_string(), &rules);
        assert!(matches!(refused, Err(EventError::Unverified(_))));
    }
}

#[test]
fn aliases_are_their_servers_to_set_up_to_version_5() {
    for version in 1..=12 {
        let room = Room::new(&version.to_string().as_str().try_into().unwrap());
        let stranger = user_id!("@eve:elsewhere");
        let mut aliases = room.make(alice(), "m.room.aliases", Some("elsewhere"), json!({}));
        aliases.sender = stranger.to_owned();
        let state =
            |kind: &ruma::events::StateEventType, key: &str| room.state(&kind.to_string(), key);
        let allowed = |pdu: &Pdu| authorise_by_state(pdu, &room.rules, state).is_ok();
        assert_eq!(allowed(&aliases), version < 6, "version {version}");
        aliases.state_key = Some("other".to_owned());
        assert!(!allowed(&aliases));
        aliases.state_key = None;
        assert!(!allowed(&aliases));
    }
}

#[test]
fn lax_json_is_canonical_json_where_that_is_possible() {
    for text in ["{}", r#"{"a":[1,"2",null,true,{"b":-3}]}"#, r#""x\n""#, "[]", "7"] {
        assert_eq!(write_lax(text).unwrap(), text);
    }
    assert_eq!(write_lax("{\"b\": 1.50, \"a\": -0}").unwrap(), r#"{"a":0,"b":1.5}"#);
}

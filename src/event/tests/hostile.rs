//! Events of liars: every lie costs little and is found out.

use proptest::prelude::*;
use serde_json::json;

use super::{Room, alice, bob, domain, draft, joined, key, versions};
use crate::{EventError, PDU_BYTES_MAX, build, redact, required_keys, verify, write_lax};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// A signed event of which a byte was changed is refused, or comes back without the content
    /// that was changed, or says the same in other words.
    #[test]
    fn no_change_of_a_signed_event_goes_unseen(place in 0..2_000_usize, byte in 0x20..0x7f_u8) {
        let keys = key().public_keys(domain());
        for (version, rules) in versions() {
            let content = json!({ "body": "one", "n": [1, null, { "a": "\u{1}\"" }] });
            let draft = draft(alice(), "m.room.message", None, content);
            let pdu = build(draft, domain(), &key(), &rules).unwrap();
            let mut changed = pdu.json.as_bytes().to_vec();
            let place = place % changed.len();
            changed[place] = byte;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            let Ok(verified) = verify(&changed, &keys, &rules) else { continue };
            prop_assert_eq!(&verified.pdu().event_id, &pdu.event_id, "version {}", version);
            let redacted = redact(&pdu, &rules).unwrap();
            let hash_of = |json: &str| json.find("\"hashes\"").map(|at| json[at..].to_owned());
            let same = verified.pdu().json == pdu.json || verified.pdu().json == redacted.json;
            // What `unsigned` or unknown signatures say is nobody's word.
            let tail = hash_of(&verified.pdu().json) != hash_of(&pdu.json);
            prop_assert!(same || tail, "version {}: {}", version, verified.pdu().json);
        }
    }
}

#[test]
fn endless_lists_and_depths_are_refused() {
    let keys = key().public_keys(domain());
    for (_, rules) in versions() {
        let event = |field: &str, value: &str| {
            let fields = [
                ("type", r#""X""#),
                ("sender", r#""@alice:domain""#),
                ("room_id", r#""!room:domain""#),
                ("event_id", r#""$1:domain""#),
                ("depth", "1"),
                ("origin_server_ts", "1"),
                ("prev_events", "[]"),
                ("auth_events", "[]"),
                ("content", "{}"),
                ("hashes", r#"{"sha256":""}"#),
                ("signatures", r#"{"domain":{"ed25519:1":""}}"#),
            ];
            let fields = fields.map(|(name, other)| {
                format!("\"{name}\":{}", if name == field { value } else { other })
            });
            format!("{{{}}}", fields.join(","))
        };
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        let ids = format!("[{}]", vec!["\"$a\""; 100_000].join(","));
        let pairs = format!("[{}]", vec!["[\"$a:b\",{}]"; 50_000].join(","));
        let long = format!("\"{}\"", "x".repeat(100_000));
        for (field, value) in [
            ("content", &*nested),
            ("content", &objects),
            ("prev_events", &ids),
            ("prev_events", &pairs),
            ("auth_events", &ids),
            ("auth_events", &pairs),
            ("type", &long),
            ("sender", &long),
            ("room_id", &long),
            ("depth", "1e400"),
            ("depth", "18446744073709551616"),
            ("depth", "-1"),
            ("origin_server_ts", "1e3"),
            ("content", &format!("{{\"a\":{long}}}")),
        ] {
            let refused = verify(&event(field, value), &keys, &rules);
            let found = matches!(refused, Err(EventError::BadJson(_) | EventError::TooLarge(_)));
            assert!(found, "{field}: {refused:?}");
        }
        for (field, value) in [
            ("signatures", "7"),
            ("signatures", "{}"),
            ("signatures", r#"{"domain":7}"#),
            ("signatures", r#"{"domain":{}}"#),
            ("signatures", r#"{"domain":{"ed25519:1":7}}"#),
            ("signatures", r#"{"domain":{"ed25519:1":"!"}}"#),
            ("signatures", r#"{"domain":{"ed25519:1":"AAAA"}}"#),
            ("signatures", r#"{"domain":{"ed25519":"AAAA"}}"#),
            ("hashes", "7"),
            ("hashes", "{}"),
            ("hashes", r#"{"sha256":7}"#),
        ] {
            let event = event(field, value);
            assert!(verify(&event, &keys, &rules).is_err(), "{field} {value}");
            let _ = required_keys(&event, &rules);
        }
    }
}

#[test]
fn an_event_may_be_no_larger_than_its_limit_even_with_spaces_and_escapes() {
    let keys = key().public_keys(domain());
    for (_, rules) in versions() {
        let pdu = build(draft(alice(), "X", None, json!({})), domain(), &key(), &rules).unwrap();
        // Spaces and `unsigned` are dropped before the event is measured.
        let spaced = pdu.json.replace(":{}", &format!(":{}{{}}", " ".repeat(PDU_BYTES_MAX)));
        assert_eq!(verify(&spaced, &keys, &rules).unwrap().pdu().json, pdu.json);
        let unsigned = format!(r#""unsigned":{{"a":"{}"}},"type":"#, "x".repeat(PDU_BYTES_MAX));
        let unsigned = pdu.json.replace(r#""type":"#, &unsigned);
        assert_eq!(verify(&unsigned, &keys, &rules).unwrap().pdu().json, pdu.json);
        let extra = format!(r#""extra":"{}","type":"#, "x".repeat(PDU_BYTES_MAX));
        let extra = pdu.json.replace(r#""type":"#, &extra);
        assert!(matches!(verify(&extra, &keys, &rules), Err(EventError::TooLarge(_))));
    }
}

#[test]
fn auth_events_are_those_of_the_rules_and_no_others() {
    for (version, _) in versions() {
        let mut room = Room::new(&version);
        room.must(alice(), "m.room.join_rules", Some(""), json!({ "join_rule": "public" }));
        room.must(bob(), "m.room.member", Some(bob().as_str()), joined());
        let good = room.make(alice(), "m.room.topic", Some(""), json!({ "topic": "x" }));
        room.allow(&good).unwrap();
        let of = |kind: &str, key: &str| room.state(kind, key).unwrap().event_id.clone();
        let mut twice = good.clone();
        twice.auth_events.push(of("m.room.member", alice().as_str()));
        let mut strange = good.clone();
        strange.auth_events.push(of("m.room.member", bob().as_str()));
        let mut missing = good.clone();
        missing.auth_events.push(ruma::EventId::parse("$missing:domain").unwrap());
        let mut itself = good.clone();
        itself.auth_events.push(good.event_id.clone());
        for bad in [twice, strange, missing, itself] {
            assert!(room.allow(&bad).is_err(), "version {version}: {:?}", bad.auth_events);
        }
        let mut elsewhere = good.clone();
        elsewhere.room_id = ruma::owned_room_id!("!other:domain");
        assert!(room.allow(&elsewhere).is_err(), "version {version}");
    }
}

#[test]
fn lax_json_is_read_in_linear_time() {
    let numbers = format!("[{}]", vec!["-1.5e-3"; 300_000].join(","));
    assert!(write_lax(&numbers).unwrap().starts_with("[-0.0015,-0.0015,"));
    for open in ["[", "{\"a\":", "[[1,", "\"", "-", "1e"] {
        assert!(write_lax(&open.repeat(200_000)).is_err());
    }
    let quotes = format!("\"{}\"", "\\\"".repeat(500_000));
    assert_eq!(write_lax(&quotes).unwrap(), quotes);
}

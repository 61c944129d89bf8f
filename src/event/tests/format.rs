//! Limits of size and form.

use ruma::EventId;
use serde_json::json;

use super::{alice, domain, draft, key, versions};
use crate::{EventError, LengthUnit, build, check_format, parse_canonical, verify};

#[test]
fn fields_are_counted_in_bytes_from_version_11_on_and_in_code_points_before() {
    for (version, rules) in versions() {
        let strict = version.as_str().parse::<u32>().unwrap() >= 11;
        let unit = LengthUnit::of_received(&rules);
        assert_eq!(unit, if strict { LengthUnit::Bytes } else { LengthUnit::CodePoints });
        for (length, character, received) in
            [(255, 'a', true), (256, 'a', false), (127, 'ä', true), (255, 'ä', !strict)]
        {
            let state_key: String = std::iter::repeat_n(character, length).collect();
            let draft = draft(alice(), "X", Some(&state_key), json!({}));
            let built = build(draft.clone(), domain(), &key(), &rules);
            assert_eq!(built.is_ok(), state_key.len() <= 255);
            if let Err(error) = built {
                assert!(matches!(error, EventError::TooLarge(_)));
            }
            let object = json!({
                "type": "X", "sender": alice(), "room_id": "!room:domain", "depth": 1,
                "origin_server_ts": 1, "prev_events": [], "auth_events": [], "content": {},
                "state_key": state_key, "event_id": "$1:domain",
            });
            let object = parse_canonical(&object.to_string()).unwrap();
            assert_eq!(check_format(&object, &rules, unit).is_ok(), received, "{version}");
        }
    }
}

#[test]
fn an_event_of_64_kib_is_too_large() {
    for (_, rules) in versions() {
        let keys = key().public_keys(domain());
        let of = |length: usize| {
            let draft = draft(alice(), "X", None, json!({ "body": "a".repeat(length) }));
            build(draft, domain(), &key(), &rules)
        };
        let rest = of(0).unwrap().json.len();
        let largest = of(65_535 - rest).unwrap();
        assert_eq!(largest.json.len(), 65_535);
        verify(&largest.json, &keys, &rules).unwrap();
        assert!(matches!(of(65_536 - rest), Err(EventError::TooLarge(_))));
        assert!(matches!(of(70_000), Err(EventError::TooLarge(_))));
    }
}

#[test]
fn what_is_not_shaped_like_an_event_is_refused() {
    let (_, rules) = versions().pop().unwrap();
    let whole = json!({
        "type": "X", "sender": alice(), "room_id": "!room:domain", "depth": 1,
        "origin_server_ts": 1, "prev_events": ["$a"], "auth_events": ["$b"], "content": {},
        "hashes": { "sha256": "" }, "signatures": {},
    });
    let check = |value: &serde_json::Value| {
        let object = parse_canonical(&value.to_string()).unwrap();
        check_format(&object, &rules, LengthUnit::Bytes)
    };
    check(&whole).unwrap();
    for field in [
        "type",
        "sender",
        "room_id",
        "depth",
        "origin_server_ts",
        "prev_events",
        "auth_events",
        "content",
    ] {
        let mut missing = whole.clone();
        missing.as_object_mut().unwrap().remove(field);
        assert!(matches!(check(&missing), Err(EventError::BadJson(_))), "missing {field}");
        let mut wrong = whole.clone();
        wrong[field] = json!(true);
        assert!(matches!(check(&wrong), Err(EventError::BadJson(_))), "wrong {field}");
    }
    for (field, value) in [
        ("depth", json!(-1)),
        ("sender", json!("alice")),
        ("room_id", json!("#room:domain")),
        ("state_key", json!(1)),
        ("state_key", json!(null)),
        ("prev_events", json!(vec!["$a"; 21])),
        ("auth_events", json!(vec!["$a"; 11])),
        ("auth_events", json!([1])),
    ] {
        let mut wrong = whole.clone();
        wrong[field] = value;
        assert!(matches!(check(&wrong), Err(EventError::BadJson(_))), "wrong {field}");
    }
}

#[test]
fn content_must_be_a_canonical_object() {
    for (_, rules) in versions() {
        for content in ["[]", "1", "null", r#"{"a":1.5}"#, r#"{"a":9007199254740992}"#] {
            let mut draft = draft(alice(), "X", None, json!({}));
            draft.content = serde_json::value::RawValue::from_string(content.to_owned()).unwrap();
            let built = build(draft, domain(), &key(), &rules);
            assert!(matches!(built, Err(EventError::BadJson(_))), "{content}");
        }
    }
}

#[test]
fn more_than_twenty_previous_events_are_not_built() {
    for (_, rules) in versions() {
        let mut draft = draft(alice(), "X", None, json!({}));
        draft.prev_events = vec![EventId::parse("$a").unwrap(); 21];
        assert!(build(draft, domain(), &key(), &rules).is_err());
    }
}

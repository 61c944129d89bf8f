//! Properties of all events.

use proptest::{collection, prelude::*};
use serde_json::{Value as JsonValue, json};

use super::{alice, domain, draft, key, versions};
use crate::{Pdu, build, identify, redact, verify};

fn value() -> impl Strategy<Value = JsonValue> {
    let leaf = prop_oneof![
        Just(JsonValue::Null),
        any::<bool>().prop_map(JsonValue::from),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(JsonValue::from),
        any::<String>().prop_map(JsonValue::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            collection::vec(inner.clone(), 0..4).prop_map(JsonValue::from),
            collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| JsonValue::Object(map.into_iter().collect())),
        ]
    })
}

fn content() -> impl Strategy<Value = JsonValue> {
    collection::hash_map("[a-z]{1,8}|membership|join_rule|users|redacts", value(), 0..5)
        .prop_map(|map| JsonValue::Object(map.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_built_verifies_and_survives_redaction(
        content in content(),
        kind in "m\\.room\\.(message|member|power_levels|redaction|join_rules)|[ -~]{1,20}",
        state_key in proptest::option::of(any::<String>()),
    ) {
        // A third-party invite needs no signature of its sender, and the authorising user's
        // server would have to sign: both are for other tests.
        prop_assume!(state_key.as_ref().is_none_or(|key| key.len() <= 255));
        let keys = key().public_keys(domain());
        for (_, rules) in versions() {
            let draft = draft(alice(), &kind, state_key.as_deref(), content.clone());
            let pdu = match build(draft, domain(), &key(), &rules) {
                Ok(pdu) => pdu,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            };
            let identity = identify(&pdu.json, &rules).unwrap();
            prop_assert_eq!(&identity.event_id, &pdu.event_id);
            prop_assert!(identity.is_canonical && identity.has_its_hash);
            let read: JsonValue = serde_json::from_str(pdu.content.get()).unwrap();
            prop_assert_eq!(&read, &content);
            let again = Pdu::from_json(pdu.json.clone(), &rules).unwrap();
            prop_assert_eq!(&again.event_id, &pdu.event_id);

            // ruma wants a membership where the type says so.
            if kind != "m.room.member" || content.get("membership").is_some_and(JsonValue::is_string)
            {
                let verified = verify(&pdu.json, &keys, &rules).unwrap();
                prop_assert_eq!(&verified.pdu().json, &pdu.json);
            }
            let redacted = redact(&pdu, &rules).unwrap();
            prop_assert_eq!(&identify(&redacted.json, &rules).unwrap().event_id, &pdu.event_id);
            prop_assert_eq!(
                redacted.reference_hash(&rules).unwrap(),
                pdu.reference_hash(&rules).unwrap()
            );

            let shown: JsonValue = serde_json::from_str(&pdu.client_json()).unwrap();
            prop_assert_eq!(&shown["type"], &json!(kind));
            prop_assert_eq!(shown.get("state_key").cloned(), state_key.clone().map(JsonValue::from));
        }
    }

    #[test]
    fn reading_never_panics(json in any::<String>(), value in value()) {
        for (_, rules) in versions() {
            let keys = key().public_keys(domain());
            let _ = verify(&json, &keys, &rules);
            let _ = verify(&value.to_string(), &keys, &rules);
            let _ = Pdu::from_json(value.to_string().into(), &rules);
        }
    }
}

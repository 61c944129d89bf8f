//! An event from another server: every step from its text to the state it changes.
//!
//! The first byte chooses the room version. Signatures cannot be guessed, so the event is also
//! signed here and checked again.

#![no_main]

use std::sync::{Arc, LazyLock};

use event::{Pdu, ServerKey, VerifiedPdu};
use libfuzzer_sys::fuzz_target;
use ruma::{
    EventId, RoomVersionId, ServerName, UserId, events::StateEventType,
    room_version_rules::RoomVersionRules,
};

static KEY: LazyLock<ServerKey> = LazyLock::new(|| ServerKey::from_parts([7; 32], "f").unwrap());

static RULES: LazyLock<Vec<RoomVersionRules>> = LazyLock::new(|| {
    let rules =
        |version: u8| event::rules(&RoomVersionId::try_from(version.to_string()).unwrap()).unwrap();
    (1..=12).map(rules).collect()
});

fuzz_target!(|input: &[u8]| {
    let Some((version, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let rules = &RULES[usize::from(*version) % RULES.len()];
    let keys = KEY.public_keys(server());

    let required = event::required_keys(text, rules);
    if let Ok(verified) = event::verify(text, &keys, rules) {
        assert!(required.is_ok(), "verified without knowing the keys");
        check(&verified, rules);
    }
    let Ok(pdu) = Pdu::from_json(text.into(), rules) else { return };
    let Ok(signed) = event::countersign(&pdu, server(), &KEY, rules) else { return };
    if let Ok(verified) = event::verify(&signed.json, &keys, rules) {
        check(&verified, rules);
        judge(verified.into_pdu(), rules);
    }
});

fn server() -> &'static ServerName {
    <&ServerName>::try_from("fuzz.example").unwrap()
}

/// What was verified once stays so: as it is stored, and redacted.
fn check(verified: &VerifiedPdu, rules: &RoomVersionRules) {
    let pdu = verified.pdu();
    let keys = KEY.public_keys(server());
    let again = event::verify(&pdu.json, &keys, rules).unwrap();
    assert_eq!(again.pdu().json, pdu.json);
    assert_eq!(again.pdu().event_id, pdu.event_id);
    let identity = event::identify(&pdu.json, rules).unwrap();
    assert!(identity.is_canonical);
    assert_eq!(identity.event_id, pdu.event_id);
    let redacted = event::redact(pdu, rules).unwrap();
    assert_eq!(redacted.reference_hash(rules).unwrap(), pdu.reference_hash(rules).unwrap());
    event::verify(&redacted.json, &keys, rules).unwrap();
    for shown in [pdu.client_json(), pdu.sync_json()] {
        serde_json::from_str::<serde_json::Value>(&shown).unwrap();
    }
    let lax = event::write_lax(&pdu.json).unwrap();
    assert_eq!(*lax, *pdu.json);
}

/// The event against a state that consists of itself, in itself, and in conflict with nothing.
fn judge(pdu: Pdu, rules: &RoomVersionRules) {
    let pdu = Arc::new(pdu);
    let by_id = |id: &EventId| (pdu.event_id == id).then(|| Arc::clone(&pdu));
    let by_key = |kind: &StateEventType, key: &str| {
        (pdu.state_entry() == Some((kind.clone(), key))).then(|| Arc::clone(&pdu))
    };
    let _ = event::authorise(&pdu, rules, by_id, |_, _| None);
    let _ = event::authorise_by_state(&pdu, rules, by_key);
    let user = <&UserId>::try_from("@a:fuzz.example").unwrap();
    for sender in [&*pdu.sender, user] {
        let key = pdu.state_key.as_deref();
        let _ = event::auth_types(&pdu.kind, sender, key, &pdu.content, rules);
    }
    if let Some((kind, key)) = pdu.state_entry() {
        let alone = [((kind, key.to_owned()), pdu.event_id.clone())].into_iter().collect();
        let _ = event::resolve(rules, &[alone, Default::default()], by_id);
    }
}

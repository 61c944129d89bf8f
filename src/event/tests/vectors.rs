//! The specification's published test vectors.
//!
//! [Spec](https://spec.matrix.org/v1.19/appendices/#cryptographic-test-vectors)

use ruma::{CanonicalJsonObject, room_version_rules::RoomVersionRules, serde::Base64, signatures};
use serde_json::json;

use super::{domain, key};
use crate::{parse_canonical, rules};

fn object(json: serde_json::Value) -> CanonicalJsonObject {
    serde_json::from_value(json).unwrap()
}

#[test]
fn the_seed_is_that_of_the_specification() {
    let seed: Base64 = Base64::parse("YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1").unwrap();
    assert_eq!(key().seed(), seed.as_bytes());
    assert_eq!(key().key_id(), "ed25519:1");
}

#[test]
fn json_is_signed_as_in_the_specification() {
    for (plain, signature) in [
        (
            json!({}),
            "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ",
        ),
        (
            json!({ "one": 1, "two": "Two" }),
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ] {
        let mut signed = object(plain.clone());
        key().sign_json(domain(), &mut signed).unwrap();
        let mut expected = plain;
        expected["signatures"] = json!({ "domain": { "ed25519:1": signature } });
        assert_eq!(signed, object(expected));
        signatures::verify_json(&key().public_keys(domain()), &signed).unwrap();
    }
}

#[test]
fn events_are_hashed_and_signed_as_in_the_specification() {
    let minimal = json!({
        "room_id": "!x:domain", "sender": "@a:domain", "origin": "domain",
        "origin_server_ts": 1_000_000, "signatures": {}, "hashes": {}, "type": "X", "content": {},
        "prev_events": [], "auth_events": [], "depth": 3, "unsigned": { "age_ts": 1_000_000 },
    });
    let redactable = json!({
        "content": { "body": "Here is the message content" }, "event_id": "$0:domain",
        "origin": "domain", "origin_server_ts": 1_000_000, "type": "m.room.message",
        "room_id": "!r:domain", "sender": "@u:domain", "signatures": {},
        "unsigned": { "age_ts": 1_000_000 },
    });
    for (plain, hash, signature) in [
        (
            minimal,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            redactable,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ] {
        let mut signed = object(plain.clone());
        let redaction = RoomVersionRules::V1.redaction;
        signatures::hash_and_sign_event("domain", &key(), &mut signed, &redaction).unwrap();
        let mut expected = plain;
        expected["hashes"] = json!({ "sha256": hash });
        expected["signatures"] = json!({ "domain": { "ed25519:1": signature } });
        assert_eq!(signed, object(expected));
    }
}

#[test]
fn the_minimal_event_of_the_specification_verifies() {
    let json = r#"{"auth_events":[],"content":{},"depth":3,"hashes":{
        "sha256":"5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos"},"origin":"domain",
        "origin_server_ts":1000000,"prev_events":[],"room_id":"!x:domain","sender":"@a:domain",
        "signatures":{"domain":{"ed25519:1":"KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg"}},
        "type":"X","unsigned":{"age_ts":1000000}}"#;
    for (version, expected) in [("3", false), ("4", false), ("10", false), ("11", true)] {
        let rules = rules(&version.try_into().unwrap()).unwrap();
        let pdu = crate::verify(json, &key().public_keys(domain()), &rules);
        // From version 11 on `origin` is not signed, so that the vector's signature is wrong.
        assert_eq!(pdu.is_err(), expected, "version {version}");
        if let Ok(pdu) = pdu {
            assert!(!pdu.pdu().json.contains("unsigned"));
        }
    }
}

#[test]
fn canonical_json_is_written_as_in_the_specification() {
    for (input, output) in [
        ("{}", "{}"),
        (r#"{"one": 1, "two": "Two"}"#, r#"{"one":1,"two":"Two"}"#),
        (r#"{"b": "2", "a": "1"}"#, r#"{"a":"1","b":"2"}"#),
        (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {
                "display_name": "John Doe", "three_pids": [
                    {"medium": "email", "address": "john.doe@example.org"},
                    {"medium": "msisdn", "address": "123456789"}]}}}"#,
            r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"success":true}}"#,
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
        (r#"{"\u0001\u001f\b\t\n\f\r": "\"\\\/\u007f"}"#, {
            "{\"\\u0001\\u001f\\b\\t\\n\\f\\r\":\"\\\"\\\\/\u{7f}\"}"
        }),
    ] {
        let object = parse_canonical(input).unwrap();
        assert_eq!(serde_json::to_string(&object).unwrap(), output);
    }
}

#[test]
fn what_is_not_canonical_is_refused() {
    for input in [
        r#"{"a":1.5}"#,
        r#"{"a":1.0}"#,
        r#"{"a":1e3}"#,
        r#"{"a":-0}"#,
        r#"{"a":9007199254740992}"#,
        r#"{"a":-9007199254740992}"#,
        r#"{"a":[{"b":18446744073709551615}]}"#,
        r#"[]"#,
        r#"{"a":NaN}"#,
        r#"{"a":1"#,
    ] {
        assert!(parse_canonical(input).is_err(), "{input}");
    }
    assert!(parse_canonical(r#"{"a":9007199254740991,"b":-9007199254740991}"#).is_ok());
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    assert!(parse_canonical(&deep).is_err());
}

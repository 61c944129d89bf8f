//! The body of a transaction, from its bytes to the keys of its events.

#![no_main]

use event::SUPPORTED;
use libfuzzer_sys::fuzz_target;

#[expect(dead_code, reason = "the server uses what is not used here")]
#[path = "../../federation/inbound/transaction_body.rs"]
mod transaction_body;

fuzz_target!(|body: &[u8]| {
    let Ok(body) = std::str::from_utf8(body) else { return };
    let lax = event::write_lax(body);
    if let Ok(lax) = &lax {
        assert_eq!(event::write_lax(lax).unwrap(), *lax, "written in one way");
    }
    if let Ok(canonical) = event::parse_canonical(body) {
        assert_eq!(serde_json::to_string(&canonical).unwrap(), lax.unwrap());
    }
    let Ok(parts) = transaction_body::parse(body) else { return };
    assert!(parts.pdus.len() <= transaction_body::PDUS_MAX);
    assert!(parts.edus.len() <= transaction_body::EDUS_MAX);
    for pdu in &parts.pdus {
        for version in SUPPORTED {
            let rules = event::rules(&version).unwrap();
            let _ = event::required_keys(pdu.json.get(), &rules);
        }
    }
});

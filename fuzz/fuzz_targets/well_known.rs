//! The answer to `.well-known/matrix/server`: its first line is taken for headers, the rest for its
//! body.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;

#[path = "../../federation/resolve/well_known.rs"]
mod well_known;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let (first, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or(input));
    let names: [HeaderName; 4] =
        [header::CACHE_CONTROL, header::EXPIRES, header::DATE, header::AGE];
    let mut headers = HeaderMap::new();
    for (index, value) in first.split(|byte| *byte == b'\t').take(16).enumerate() {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(&names[index % names.len()], value);
        }
    }
    let lifetime = well_known::lifetime(&headers, 784_111_777_000);
    assert!(lifetime >= well_known::LIFETIME_MIN && lifetime <= well_known::LIFETIME_MAX);
    if let Some(name) = well_known::parse(body) {
        assert!(body.len() <= well_known::WELL_KNOWN_BYTES_MAX);
        assert!(!name.host().is_empty());
    }
});

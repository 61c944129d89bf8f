//! The `Authorization` header of a request, and the request that it signs: the first line is the
//! header, the second the path, the rest the body.

#![no_main]

use std::sync::LazyLock;

use event::ServerKey;
use http::{Request, header};
use libfuzzer_sys::fuzz_target;
use ruma::ServerName;

#[path = "../../federation/x_matrix.rs"]
mod x_matrix;

use x_matrix::XMatrix;

static KEY: LazyLock<ServerKey> = LazyLock::new(|| ServerKey::from_parts([7; 32], "f").unwrap());

fuzz_target!(|input: &[u8]| {
    let mut lines = input.splitn(3, |byte| *byte == b'\n');
    let header = lines.next().unwrap_or_default();
    let path = lines.next().unwrap_or(b"/");
    let body = lines.next().unwrap_or_default().to_vec();
    let here = <&ServerName>::try_from("here.example").unwrap();
    let there = <&ServerName>::try_from("there.example").unwrap();
    let keys = KEY.public_keys(there);

    let builder = Request::put(path).header(header::AUTHORIZATION, header);
    let Ok(mut request) = builder.body(body) else {
        if let Ok(text) = std::str::from_utf8(header) {
            let _ = XMatrix::parse(text);
        }
        return;
    };
    for read in XMatrix::of_headers(request.headers()).unwrap_or_default() {
        assert!(read.verify(&request, here, &keys).is_err(), "a signature was guessed");
    }
    // What we sign ourselves is read and found right.
    let Ok(signed) = x_matrix::sign(&request, there, here, &KEY) else { return };
    request.headers_mut().insert(header::AUTHORIZATION, signed);
    let read = XMatrix::of_headers(request.headers()).unwrap();
    assert_eq!(read.len(), 1);
    read[0].verify(&request, here, &keys).unwrap();
    assert!(read[0].verify(&request, there, &keys).is_err());
});

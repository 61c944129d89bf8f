use http::{HeaderValue, Request, header};
use ruma::ServerName;

use super::*;
use crate::{RequestError, ServerLists, sign_request, tests::fake::here};

/// A request of a server, signed for another.
fn signed(origin: &str, destination: &ServerName, key: &ServerKey) -> Request<Vec<u8>> {
    let mut request = Request::put("/_matrix/federation/v1/send/1?x=y")
        .body(br#"{"pdus":[],"number":1.5}"#.to_vec())
        .unwrap();
    let origin = origin.try_into().unwrap();
    let value = sign_request(&request, origin, destination, key).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, value);
    request
}

#[tokio::test]
async fn a_signed_request_is_that_of_its_server() {
    let (fake, published) = start().await;
    let key = key("k");
    published.put("a.example", document("a.example", &key));
    let keyring = fake.client().keyring();
    let request = signed("a.example", &here(), &key);
    assert_eq!(keyring.verify_request(&request).await.unwrap(), "a.example");
    let changed = request.clone().map(|_| b"{}".to_vec());
    let error = keyring.verify_request(&changed).await.unwrap_err();
    assert!(matches!(error, RequestError::Wrong { .. }), "{error}");
}

#[tokio::test]
async fn requests_for_others_unsigned_or_by_those_denied_are_refused() {
    let (fake, published) = start().await;
    let key = key("k");
    published.put("a.example", document("a.example", &key));
    let lists = ServerLists::new(&[], &["evil.example".to_owned()]);
    let client = fake.client_with(crate::ClientConfig { lists, ..fake.config() });
    let keyring = client.keyring();
    let request = signed("a.example", "other.example".try_into().unwrap(), &key);
    let error = keyring.verify_request(&request).await.unwrap_err();
    assert!(matches!(error, RequestError::OtherDestination(_)), "{error}");
    let request = signed("evil.example", &here(), &key);
    let error = keyring.verify_request(&request).await.unwrap_err();
    assert!(matches!(error, RequestError::Denied { .. }), "{error}");
    // Nobody may pass for us.
    let request = signed("here.example", &here(), &key);
    assert!(keyring.verify_request(&request).await.is_err());
    let mut request = signed("a.example", &here(), &key);
    request.headers_mut().insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
    let error = keyring.verify_request(&request).await.unwrap_err();
    assert!(matches!(error, RequestError::Header(_)), "{error}");
    request.headers_mut().clear();
    assert!(keyring.verify_request(&request).await.is_err());
    assert_eq!(fake.asked(false).len(), 0, "no keys are fetched for these");
}

#[tokio::test]
async fn a_request_needs_a_key_that_is_valid_now() {
    let (fake, published) = start().await;
    let (new, old) = (key("new"), key("old"));
    let olds = [old_key(&old, NOW_MS + HOUR_MS)];
    published.put("a.example", document_with("a.example", &new, &olds, NOW_MS + HOUR_MS));
    let keyring = fake.client().keyring();
    keyring.verify_request(&signed("a.example", &here(), &new)).await.unwrap();
    let error = keyring.verify_request(&signed("a.example", &here(), &old)).await.unwrap_err();
    assert!(matches!(error, RequestError::NoKey { .. }), "{error}");
    fake.clock.advance(HOUR_MS + 1);
    let error = keyring.verify_request(&signed("a.example", &here(), &new)).await.unwrap_err();
    assert!(matches!(error, RequestError::NoKey { .. }), "{error}");
    // With a new document it is valid for longer.
    published.put("a.example", document_with("a.example", &new, &olds, NOW_MS + 9 * HOUR_MS));
    fake.clock.advance(6_000);
    keyring.verify_request(&signed("a.example", &here(), &new)).await.unwrap();
}

#[tokio::test]
async fn one_of_several_signatures_is_enough() {
    let (fake, published) = start().await;
    let (key, unknown) = (key("k"), key("unknown"));
    published.put("a.example", document("a.example", &key));
    let mut request = signed("a.example", &here(), &unknown);
    let second = signed("a.example", &here(), &key).headers()[header::AUTHORIZATION].clone();
    request.headers_mut().append(header::AUTHORIZATION, second);
    assert_eq!(fake.client().keyring().verify_request(&request).await.unwrap(), "a.example");
}

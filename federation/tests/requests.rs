use bytes::Bytes;
use http::{Method, Request};
use rooms::{RemoteError, Step};
use ruma::{RoomVersionId, api::federation::discovery::get_server_version, room_id, user_id};
use serde_json::json;

use super::fake::{Fake, here, json, name, text};
use crate::{Client, ClientConfig, Limits, Patience, RawRequest, ServerLists, XMatrix};

fn request() -> RawRequest {
    RawRequest {
        method: Method::PUT,
        path: "/_matrix/federation/v1/send/1?a=b%20c".to_owned(),
        body: Some(Bytes::from_static(b"{\"pdus\": [1.0]}")),
    }
}

#[tokio::test]
async fn every_request_is_signed_for_its_destination() {
    let fake = Fake::answering(|_| json(&json!({}))).await;
    let client = fake.client();
    client.send_raw(name("127.0.0.1"), request(), Limits::URGENT).await.unwrap();
    let asked = fake.asked(false).pop().unwrap();
    assert_eq!(asked.headers["content-type"], "application/json");
    let mut received = Request::new(asked.body);
    *received.method_mut() = asked.method;
    *received.uri_mut() = asked.path.parse().unwrap();
    let signed = XMatrix::parse(asked.headers["authorization"].to_str().unwrap()).unwrap();
    assert_eq!(signed.origin, here());
    assert_eq!(signed.destination.as_deref(), Some(name("127.0.0.1")));
    let keys = client.own_keys().public_keys(&here());
    signed.verify(&received, name("127.0.0.1"), &keys).unwrap();
}

#[tokio::test]
async fn requests_share_a_connection() {
    let fake = Fake::answering(|_| json(&json!({}))).await;
    let client = fake.client();
    for _ in 0..3 {
        client.send_raw(name("127.0.0.1"), request(), Limits::URGENT).await.unwrap();
    }
    let all = (0..20).map(|_| client.send_raw(name("127.0.0.1"), request(), Limits::URGENT));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    let connections: Vec<_> = fake.asked(false).iter().map(|asked| asked.connection).collect();
    assert_eq!(connections, [0; 23]);
}

#[tokio::test]
async fn nobody_calls_a_server_that_is_denied_or_itself() {
    let fake = Fake::answering(|_| json(&json!({}))).await;
    let lists = ServerLists::new(&[], &["*.evil.example".to_owned()]);
    let client = fake.client_with(ClientConfig { lists, ..fake.config() });
    for server in ["a.evil.example", "here.example"] {
        let error = client.send_raw(name(server), request(), Limits::URGENT).await.unwrap_err();
        assert!(matches!(error, RemoteError::Denied { .. }), "{error}");
        assert!(!client.is_reachable(name(server)));
    }
    let off = fake.client_with(ClientConfig { is_enabled: false, ..fake.config() });
    let error = off.send_raw(name("a.example"), request(), Limits::URGENT).await.unwrap_err();
    assert!(error.to_string().contains("switched off"), "{error}");
    assert_eq!((fake.asked(true).len(), fake.asked(false).len()), (0, 0));
}

async fn spare(client: &Client, server: &str) -> Result<(), String> {
    let limits = Limits { patience: Patience::Spare, ..Limits::QUERY };
    let outcome = client.send_raw(name(server), request(), limits).await;
    outcome.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_that_failed_is_left_alone_for_a_while() {
    let fake = Fake::answering(|_| json(&json!({}))).await;
    let server = super::fake::dead_address().await.to_string();
    let client = fake.client();
    assert!(client.is_reachable(name(&server)));
    let first = spare(&client, &server).await.unwrap_err();
    assert!(first.contains("refused"), "{first}");
    assert!(!client.is_reachable(name(&server)));
    let second = spare(&client, &server).await.unwrap_err();
    assert!(second.contains("left alone"), "{second}");
    let insisting = client.send_raw(name(&server), request(), Limits::URGENT).await.unwrap_err();
    assert!(insisting.to_string().contains("refused"), "{insisting}");
    client.note_alive(name(&server));
    assert!(client.is_reachable(name(&server)));
    assert!(spare(&client, &server).await.unwrap_err().contains("refused"));
    fake.clock.advance(2_000);
    assert!(client.is_reachable(name(&server)));
}

#[tokio::test]
async fn an_answer_of_another_form_is_a_bad_answer() {
    let fake = Fake::answering(|_| text(200, "[1, 2")).await;
    let ask = get_server_version::v1::Request::new();
    let error = fake.client().send(name("127.0.0.1"), ask, Limits::QUERY).await.unwrap_err();
    assert!(matches!(error, RemoteError::BadAnswer { .. }), "{error}");
}

#[tokio::test]
async fn a_room_of_a_version_that_was_not_offered_is_not_joined() {
    let fake = Fake::answering(|asked| {
        assert!(asked.path.starts_with("/_matrix/federation/v1/make_join/!r:x.example/@a:here"));
        assert!(asked.path.ends_with("?ver=10&ver=11"), "{}", asked.path);
        json(&json!({ "room_version": "12", "event": {} }))
    })
    .await;
    let client = fake.client();
    let versions = [RoomVersionId::V10, RoomVersionId::V11];
    let (room, user) = (room_id!("!r:x.example"), user_id!("@a:here.example"));
    let port = &client as &dyn rooms::Remote;
    let error = port.prepare(name("127.0.0.1"), room, user, Step::Join, &versions).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("version 12"), "{error}");
}

#[tokio::test]
async fn keys_of_users_nobody_asked_for_are_left_out() {
    let fake = Fake::answering(|_| {
        json(&json!({
            "device_keys": { "@a:127.0.0.1": { "D": {} }, "@b:other.example": { "D": {} } },
            "master_keys": { "@b:other.example": {} },
        }))
    })
    .await;
    let client = fake.client();
    let port = &client as &dyn users::Remote;
    let wanted = [(user_id!("@a:127.0.0.1").to_owned(), Vec::new())].into();
    let keys = port.query_keys(name("127.0.0.1"), wanted).await.unwrap();
    assert_eq!(keys.device_keys.len(), 1);
    assert!(keys.master_keys.is_empty());
}

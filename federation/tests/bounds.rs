use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use rooms::RemoteError;
use serde_json::json;

use super::fake::{Body, Fake, json, name, text};
use crate::{Client, Limits, RawAnswer, RawRequest};

/// What one request may cost here.
const LIMITS: Limits =
    Limits { timeout: Duration::from_millis(800), answer_bytes_max: 100_000, ..Limits::URGENT };

async fn ask(client: &Client, limits: Limits) -> Result<RawAnswer, RemoteError> {
    let path = "/_matrix/federation/v1/version".to_owned();
    let request = RawRequest { method: Method::GET, path, body: None };
    client.send_raw(name("127.0.0.1"), request, limits).await
}

/// A body that goes on for ever.
fn endless(piece: &'static [u8], pause: Duration) -> Response<Body> {
    let frames = stream::repeat(piece).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(Bytes::from_static(piece)))
    });
    Response::new(BodyExt::boxed(StreamBody::new(Box::pin(frames).into_sync())))
}

/// Streams of tests are used by one task at a time.
trait IntoSync: Sized {
    fn into_sync(self) -> SyncStream<Self> {
        SyncStream(std::sync::Mutex::new(self))
    }
}

impl<S> IntoSync for S {}

struct SyncStream<S>(std::sync::Mutex<S>);

impl<S: futures_util::Stream + Unpin> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<S::Item>> {
        self.get_mut().0.get_mut().unwrap().poll_next_unpin(context)
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_cut_off_at_its_limit() {
    let fake = Fake::answering(|_| endless(&[b'x'; 10_000], Duration::ZERO)).await;
    let error = ask(&fake.client(), LIMITS).await.unwrap_err();
    assert!(matches!(error, RemoteError::BadAnswer { .. }), "{error}");
    assert!(error.to_string().contains("larger than 100000 bytes"), "{error}");
}

#[tokio::test]
async fn an_answer_that_announces_gigabytes_is_not_read() {
    let fake = Fake::answering(|_| {
        let mut answer = endless(&[b'x'; 10_000], Duration::ZERO);
        answer.headers_mut().insert("content-length", "5000000000".parse().unwrap());
        answer
    })
    .await;
    let error = ask(&fake.client(), LIMITS).await.unwrap_err();
    assert!(error.to_string().contains("larger than 100000 bytes"), "{error}");
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up_in_time() {
    let fake = Fake::answering(|_| endless(b" ", Duration::from_millis(20))).await;
    let begin = Instant::now();
    let error = ask(&fake.client(), LIMITS).await.unwrap_err();
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let fake = Fake::start(|_| std::future::pending()).await;
    let error = ask(&fake.client(), LIMITS).await.unwrap_err();
    assert!(error.to_string().contains("no answer within 800 ms"), "{error}");
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap().to_string();
    let fake = Fake::answering(|_| text(200, "{}")).await;
    let config =
        crate::ClientConfig { connect_timeout: Duration::from_millis(200), ..fake.config() };
    let client = fake.client_with(config);
    let request = RawRequest { method: Method::GET, path: "/x".to_owned(), body: None };
    let error = client.send_raw(name(&server), request, Limits::URGENT).await.unwrap_err();
    assert!(error.to_string().contains("took too long"), "{error}");
}

#[tokio::test]
async fn the_configuration_bounds_what_a_request_would_allow() {
    let fake = Fake::answering(|_| endless(&[b'x'; 10_000], Duration::ZERO)).await;
    let config = crate::ClientConfig { answer_bytes_max: 50_000, ..fake.config() };
    let error = ask(&fake.client_with(config), Limits::STATE).await.unwrap_err();
    assert!(error.to_string().contains("larger than 50000 bytes"), "{error}");
}

#[tokio::test]
async fn many_large_answers_are_all_read() {
    let fake = Fake::answering(|_| text(200, &"x".repeat(6 * 1024 * 1024))).await;
    let client = fake.client();
    let limits = Limits { timeout: Duration::from_secs(60), ..Limits::STATE };
    let all = (0..10).map(|_| ask(&client, limits));
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.unwrap().body.len(), 6 * 1024 * 1024);
    }
}

#[tokio::test]
async fn a_redirect_is_no_answer() {
    let fake = Fake::answering(|_| {
        let mut answer = text(302, "");
        answer.headers_mut().insert("location", "https://127.0.0.1/x".parse().unwrap());
        answer
    })
    .await;
    let error = ask(&fake.client(), LIMITS).await.unwrap_err();
    assert!(matches!(error, RemoteError::Refused { status: 302, .. }), "{error}");
    assert_eq!(fake.asked(false).len(), 1);
}

#[tokio::test]
async fn the_words_of_an_error_are_kept_short_and_clean() {
    let fake = Fake::answering(|_| {
        let words = format!("line\n\u{1b}[31m{}", "x".repeat(5_000));
        let mut answer = json(&json!({
            "errcode": "M_INCOMPATIBLE_ROOM_VERSION", "error": words, "room_version": "7",
        }));
        *answer.status_mut() = 400.try_into().unwrap();
        answer
    })
    .await;
    let error = ask(&fake.client(), LIMITS).await.unwrap_err();
    let RemoteError::Refused { status, errcode, message, room_version, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((status, errcode.as_str()), (400, "M_INCOMPATIBLE_ROOM_VERSION"));
    assert!(message.starts_with("line[31mxxx") && message.len() == 256, "{message}");
    assert_eq!(room_version, Some(ruma::RoomVersionId::V7));
}

#[tokio::test]
async fn an_endless_error_is_an_error_without_words() {
    let fake = Fake::answering(|_| {
        let mut answer = endless(&[b'x'; 10_000], Duration::ZERO);
        *answer.status_mut() = 403.try_into().unwrap();
        answer
    })
    .await;
    let error = ask(&fake.client(), LIMITS).await.unwrap_err();
    assert!(matches!(error, RemoteError::Refused { status: 403, .. }), "{error}");
}

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde_json::json;

use super::fake::{Asked, Body, Fake, json, name, text};
use crate::{Client, Limits, RawRequest};

/// The `Host` that a server is asked with, which tells whom it delegates to.
async fn host(fake: &Fake, client: &Client, server: &str) -> String {
    let path = "/_matrix/federation/v1/version".to_owned();
    let request = RawRequest { method: Method::GET, path, body: None };
    client.send_raw(name(server), request, Limits::URGENT).await.unwrap();
    fake.asked(false).last().unwrap().host.clone()
}

fn redirect(to: &str) -> Response<Body> {
    let mut answer = text(302, "");
    answer.headers_mut().insert("location", to.parse().unwrap());
    answer
}

fn document(to: &str) -> Response<Body> {
    json(&json!({ "m.server": to }))
}

/// Answers requests to the web by `web`, and all others with nothing.
async fn start(web: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static) -> Fake {
    Fake::answering(move |asked| if asked.is_web { web(asked) } else { json(&json!({})) }).await
}

#[tokio::test]
async fn redirects_are_followed_a_few_times() {
    let fake = start(|asked| match (asked.host.as_str(), asked.path.as_str()) {
        ("a.example", "/.well-known/matrix/server") => redirect("/x/y"),
        ("a.example", "/x/y") => redirect("../z?q=1#f"),
        ("a.example", "/z?q=1") => redirect("https://web.example/there"),
        ("web.example", "/there") => document("b.example"),
        _ => text(404, ""),
    })
    .await;
    assert_eq!(host(&fake, &fake.client(), "a.example").await, "b.example");
}

#[tokio::test]
async fn a_loop_of_redirects_ends() {
    let fake = start(|asked| redirect(&format!("https://{}{}", asked.host, asked.path))).await;
    assert_eq!(host(&fake, &fake.client(), "a.example").await, "a.example");
    assert_eq!(fake.asked(true).len(), 6);
}

#[tokio::test]
async fn redirects_to_elsewhere_than_the_public_web_are_not_followed() {
    let fake = start(|asked| match asked.host.as_str() {
        "a.example" => redirect("http://web.example/there"),
        "b.example" => redirect("https://169.254.169.254/latest/meta-data"),
        "c.example" => redirect("https://inside.example/"),
        "d.example" => redirect("https://127.0.0.2/"),
        "e.example" => redirect("file:///etc/passwd"),
        _ => document("wrong.example"),
    })
    .await;
    fake.dns.host("inside.example", &["127.0.0.3"]);
    let client = fake.client();
    for server in ["a.example", "b.example", "c.example", "d.example", "e.example"] {
        assert_eq!(host(&fake, &client, server).await, server);
    }
    assert_eq!(fake.asked(true).len(), 5);
}

#[tokio::test]
async fn bad_documents_are_as_good_as_none() {
    let fake = start(|asked| match asked.host.as_str() {
        "a.example" => text(200, "{\"m.server\": 7}"),
        "b.example" => text(500, "{\"m.server\": \"x.example\"}"),
        "c.example" => text(200, &format!("{{\"m.server\":\"x.example\"}}{}", " ".repeat(60_000))),
        "d.example" => {
            let frames = stream::repeat_with(|| Ok(Frame::data(Bytes::from_static(&[b' '; 9999]))));
            Response::new(StreamBody::new(frames).boxed())
        }
        _ => text(200, "{\"m.server\": \"https://x.example\"}"),
    })
    .await;
    let client = fake.client();
    for server in ["a.example", "b.example", "c.example", "d.example", "e.example"] {
        assert_eq!(host(&fake, &client, server).await, server);
    }
}

#[tokio::test]
async fn a_document_is_asked_for_again_when_it_is_too_old() {
    let count = AtomicUsize::new(0);
    let fake = start(move |_| {
        let mut answer = document(&format!("b{}.example", count.fetch_add(1, Ordering::SeqCst)));
        answer.headers_mut().insert("cache-control", "max-age=600".parse().unwrap());
        answer
    })
    .await;
    let client = fake.client();
    assert_eq!(host(&fake, &client, "a.example").await, "b0.example");
    fake.clock.advance(599_000);
    assert_eq!(host(&fake, &client, "a.example").await, "b0.example");
    fake.clock.advance(1_000);
    assert_eq!(host(&fake, &client, "a.example").await, "b1.example");
}

#[tokio::test]
async fn failures_are_remembered_for_longer_each_time_and_the_last_document_holds_meanwhile() {
    let count = AtomicUsize::new(0);
    let fake = start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => document("b.example"),
        _ => text(503, ""),
    })
    .await;
    let client = fake.client();
    assert_eq!(host(&fake, &client, "a.example").await, "b.example");
    let hour_ms = 3_600_000;
    fake.clock.advance(25 * hour_ms);
    for (wait_ms, asked) in [(0, 2), (59_000, 2), (1_000, 3), (119_000, 3), (1_000, 4)] {
        fake.clock.advance(wait_ms);
        assert_eq!(host(&fake, &client, "a.example").await, "b.example");
        assert_eq!(fake.asked(true).len(), asked, "after {wait_ms} more ms");
    }
    fake.clock.advance(25 * hour_ms);
    assert_eq!(host(&fake, &client, "a.example").await, "a.example");
}

#[tokio::test]
async fn many_who_need_a_document_ask_for_it_once() {
    let fake = Fake::start(|asked| async move {
        if asked.is_web {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        document("b.example")
    })
    .await;
    let client = fake.client();
    let all = (0..20).map(|_| host(&fake, &client, "a.example"));
    let hosts = futures_util::future::join_all(all).await;
    assert!(hosts.iter().all(|host| host == "b.example"));
    assert_eq!(fake.asked(true).len(), 1);
}

#[tokio::test]
async fn a_web_that_is_not_there_costs_no_time() {
    let fake = start(|_| text(404, "")).await;
    let client = fake.client();
    fake.dns.service("_matrix-fed._tcp.a.example", "c.example", fake.port);
    fake.dns.host("a.example", &[]);
    let begin = Instant::now();
    assert_eq!(host(&fake, &client, "a.example").await, "a.example");
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
}

//! Files, up and down.

use crate::kit::{TestServer, User, server, server_with};
use http::Method;
use serde_json::{Value, json};

/// A picture of one pixel.
const PIXEL: &[u8] = &[
    0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x06, 0x00, 0x00, 0x00, 0x1f, 0x15, 0xc4,
    0x89, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0xf0,
    0x1f, 0x00, 0x05, 0x00, 0x01, 0xff, 0x56, 0xc7, 0x2f, 0x0d, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45,
    0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
];

async fn upload(user: &User, kind: &str, name: &str, bytes: &'static [u8]) -> String {
    let path = format!("/_matrix/media/v3/upload?filename={name}");
    let request = user.request(Method::POST, &path).header("content-type", kind).body(bytes);
    let (status, answer) = crate::kit::reply(request).await;
    assert_eq!(status, 200, "{answer}");
    answer["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
}

async fn download(user: &User, path: &str) -> reqwest::Response {
    user.request(Method::GET, path).send().await.unwrap()
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn pair() -> (TestServer, User, User) {
    let server = server().await;
    let alice = server.register("alice").await;
    let bob = server.register("bob").await;
    (server, alice, bob)
}

#[tokio::test]
async fn a_file_goes_up_and_comes_down_with_its_type_and_name() {
    let (server, alice, bob) = pair().await;
    let uri = upload(&alice, "image/png", "pond.png", PIXEL).await;
    for path in ["/_matrix/client/v1/media/download", "/_matrix/media/v3/download"] {
        let answer = download(&bob, &format!("{path}/{uri}")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), "image/png");
        assert_eq!(header(&answer, "content-disposition"), "inline; filename=pond.png");
        assert!(header(&answer, "content-security-policy").contains("sandbox"));
        assert_eq!(header(&answer, "cross-origin-resource-policy"), "cross-origin");
        assert_eq!(answer.bytes().await.unwrap(), PIXEL);
    }
    let named = download(&bob, &format!("/_matrix/client/v1/media/download/{uri}/lake.png")).await;
    assert_eq!(header(&named, "content-disposition"), "inline; filename=lake.png");
    let without = server.client().get(&format!("/_matrix/client/v1/media/download/{uri}")).await;
    assert_eq!(without.1["errcode"], "M_MISSING_TOKEN");
    let thumbnail = format!("/_matrix/client/v1/media/thumbnail/{uri}?width=32&height=32");
    let thumbnail = download(&bob, &thumbnail).await;
    assert_eq!(thumbnail.bytes().await.unwrap(), PIXEL, "it is small enough itself");
}

#[tokio::test]
async fn what_a_browser_could_run_is_never_shown() {
    let (_server, alice, bob) = pair().await;
    let uri = upload(&alice, "text/html", "page.html", b"<script>").await;
    let answer = download(&bob, &format!("/_matrix/client/v1/media/download/{uri}")).await;
    assert!(header(&answer, "content-disposition").starts_with("attachment"));
}

#[tokio::test]
async fn an_announced_file_is_waited_for() {
    let (_server, alice, bob) = pair().await;
    let answer = alice.do_post("/_matrix/media/v1/create", json!({})).await;
    let uri = answer["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned();
    assert!(answer["unused_expires_at"].is_u64());
    let path = format!("/_matrix/client/v1/media/download/{uri}");
    let early = bob.get(&format!("{path}?timeout_ms=0")).await;
    assert_eq!((early.0, &early.1["errcode"]), (504, &Value::from("M_NOT_YET_UPLOADED")));
    let waiting = tokio::spawn({
        let request = bob.request(Method::GET, &path);
        async move { request.send().await.unwrap().bytes().await.unwrap() }
    });
    let put = |user: &User| {
        let path = format!("/_matrix/media/v3/upload/{uri}");
        crate::kit::reply(user.request(Method::PUT, &path).body("toad"))
    };
    crate::kit::refused(put(&bob).await, 403, "M_FORBIDDEN");
    assert_eq!(put(&alice).await.0, 200);
    assert_eq!(waiting.await.unwrap(), "toad");
    crate::kit::refused(put(&alice).await, 409, "M_CANNOT_OVERWRITE_MEDIA");
}

#[tokio::test]
async fn files_have_a_limit_and_stay_over_a_restart() {
    let mut server = server_with(|config| config.media.upload_bytes_max = 1_000).await;
    let alice = server.register("alice").await;
    let limit = alice.do_get("/_matrix/client/v1/media/config").await;
    assert_eq!(limit["m.upload.size"], 1_000);
    let large = alice.request(Method::POST, "/_matrix/media/v3/upload").body(vec![1; 1_001]);
    crate::kit::refused(crate::kit::reply(large).await, 413, "M_TOO_LARGE");
    let uri = upload(&alice, "text/plain", "a", b"toad").await;
    server.restart().await;
    let answer = download(&alice, &format!("/_matrix/client/v1/media/download/{uri}")).await;
    assert_eq!(answer.bytes().await.unwrap(), "toad");
    let none = alice.get("/_matrix/client/v1/media/download/localhost/none").await;
    crate::kit::refused(none, 404, "M_NOT_FOUND");
    let bad = alice.get("/_matrix/client/v1/media/thumbnail/localhost/none?width=x&height=1").await;
    crate::kit::refused(bad, 400, "M_INVALID_PARAM");
}

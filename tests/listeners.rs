//! Where the server is reached, and what a connection may take.

use std::time::Duration;

use natterjack::{Bind, ListenerConfig, Resource};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::kit::{self, TestServer};

const TLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kit/tls");

/// Sends bytes over a connection and reads what comes back until it is closed.
async fn exchange(
    mut connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    request: &str,
) -> String {
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = connection.read_to_end(&mut answer);
    // A connection that is cut off may end in an error; what came before counts.
    let _ = tokio::time::timeout(Duration::from_secs(20), reading).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A `GET` that asks to close the connection.
fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

async fn connect(server: &TestServer, index: usize) -> TcpStream {
    TcpStream::connect(server.server().addresses()[index].address).await.unwrap()
}

/// The first line and the body of an answer.
fn parse(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = body.trim_start_matches(|c: char| c.is_ascii_hexdigit() || c.is_whitespace());
    (status, serde_json::from_str(body.trim_end_matches("\r\n0\r\n\r\n")).unwrap_or(Value::Null))
}

#[tokio::test]
async fn each_listener_answers_only_what_it_serves() {
    let listener = |serve: &[Resource]| ListenerConfig {
        bind: "127.0.0.1:0".parse().unwrap(),
        serve: serve.to_vec(),
        ..ListenerConfig::default()
    };
    let server = kit::server_with(|config| {
        config.registration.shared_secret = "secret".to_owned();
        *config.listeners = Resource::ALL.map(|resource| listener(&[resource])).to_vec();
    })
    .await;
    let paths = [
        ("/_matrix/client/versions", Resource::Client),
        ("/_matrix/key/v2/server", Resource::Federation),
        ("/_matrix/federation/v1/version", Resource::Federation),
        ("/metrics", Resource::Metrics),
        ("/_synapse/admin/v1/register", Resource::Admin),
    ];
    for (index, served) in Resource::ALL.into_iter().enumerate() {
        for (path, resource) in paths {
            let answer = exchange(connect(&server, index).await, &get(path)).await;
            let (status, body) = parse(&answer);
            if resource == served {
                assert_eq!(status, 200, "{path} on {served:?}: {answer}");
            } else {
                assert_eq!(status, 404, "{path} on {served:?}: {answer}");
                assert_eq!(body["errcode"], "M_UNRECOGNIZED", "{path} on {served:?}");
                assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn other_servers_get_what_is_true_today() {
    let server = kit::server().await;
    let version = server.client().do_get("/_matrix/federation/v1/version").await;
    assert_eq!(version["server"]["name"], "Natterjack");
    let keys = server.client().do_get("/_matrix/key/v2/server").await;
    assert_eq!(keys["server_name"], "localhost");
    assert!(keys["signatures"]["localhost"].is_object());
    let (status, body) = server.client().get("/_matrix/federation/v1/none").await;
    assert_eq!((status, &body["errcode"]), (404, &json!("M_UNRECOGNIZED")));
    let (status, body) = server.client().get("/_matrix/federation/v1/event/$x").await;
    assert_eq!((status, &body["errcode"]), (401, &json!("M_UNAUTHORIZED")));
    let (status, body) = server.client().post("/_matrix/key/v2/server", json!({})).await;
    assert_eq!((status, &body["errcode"]), (405, &json!("M_UNRECOGNIZED")));
}

#[tokio::test]
async fn clients_are_answered_on_a_unix_socket() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("natterjack.sock");
    // What a process that was killed left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut server = kit::server_with(|config| {
        let bind = Bind::Unix(path.clone());
        config.listeners.push(ListenerConfig { bind, ..ListenerConfig::default() });
    })
    .await;
    let connection = UnixStream::connect(&path).await.unwrap();
    let answer = exchange(connection, &get("/_matrix/client/versions")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn https_speaks_http_2_and_http_1() {
    let server = kit::server_with(|config| {
        config.listeners[0].tls_certificate = format!("{TLS}/cert.pem").into();
        config.listeners[0].tls_private_key = format!("{TLS}/key.pem").into();
    })
    .await;
    let certificate = std::fs::read(format!("{TLS}/authority.pem")).unwrap();
    let certificate = reqwest::Certificate::from_pem(&certificate).unwrap();
    let client = || reqwest::Client::builder().tls_certs_only([certificate.clone()]);
    let url = server.client().url("/_matrix/client/versions");
    assert!(url.starts_with("https://"), "{url}");
    let response = client().build().unwrap().get(&url).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_2));
    let response = client().http1_only().build().unwrap().get(&url).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.version()), (200, http::Version::HTTP_11));
}

#[tokio::test]
async fn long_answers_are_compressed_for_those_who_can_read_it() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    for (accepted, encoding) in
        [("gzip", Some("gzip")), ("zstd, gzip;q=0.5", Some("zstd")), ("br", None)]
    {
        let request = alice.request(http::Method::GET, "/_matrix/client/v3/pushrules/");
        let response = request.header("accept-encoding", accepted).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let found = response.headers().get("content-encoding").map(|value| value.to_str().unwrap());
        assert_eq!(found, encoding, "{accepted}");
        assert!(response.headers().contains_key("x-request-id"));
    }
}

#[tokio::test]
async fn whoever_is_too_slow_or_sends_too_much_is_cut_off() {
    let server = kit::server_with(|config| {
        config.limits.header_timeout_ms = 300;
        config.limits.body_timeout_ms = 300;
        config.limits.header_bytes_max = 8 * 1024;
        config.limits.body_bytes_max = 128 * 1024;
    })
    .await;
    for (beginning, answer_begins) in [
        ("", ""),
        ("GE", ""),
        ("GET /_matrix/client/versions HTTP/1.1\r\nHos", ""),
        (
            "POST /_matrix/client/v3/login HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
            "HTTP/1.1 4",
        ),
        (&format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_000)), "HTTP/1.1 4"),
        (
            &format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(10_000)),
            "HTTP/1.1 431",
        ),
    ] {
        let answer = exchange(connect(&server, 0).await, beginning).await;
        let start = &beginning[..beginning.len().min(60)];
        assert!(answer.starts_with(answer_begins), "{start}: {answer}");
        assert!(answer.is_empty() == answer_begins.is_empty(), "{start}: {answer}");
    }
    let body = json!({ "type": "m".repeat(200_000) });
    let (status, body) = server.client().post("/_matrix/client/v3/login", body).await;
    assert_eq!((status, &body["errcode"]), (413, &json!("M_TOO_LARGE")));
}

#[tokio::test]
async fn connections_above_the_limit_wait() {
    let server = kit::server_with(|config| config.limits.connections_max = 1).await;
    let first = connect(&server, 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut second = connect(&server, 0).await;
    second.write_all(get("/_matrix/client/versions").as_bytes()).await.unwrap();
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(300), second.read(&mut byte)).await;
    assert!(early.is_err(), "the second was answered beside the first");
    drop(first);
    assert_eq!(second.read(&mut byte).await.unwrap(), 1);
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Asks for `/` over HTTP/2 and stays, polite but silent, until the connection ends. The kinds of
/// the frames that came.
async fn stay_on_http_2(connection: &mut TcpStream, settings: &[u8]) -> Vec<u8> {
    const PING: u8 = 6;
    // `GET`, `http`, `/`, and `a` for the host, as HPACK writes them.
    let ask = frame(1, 5, 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a']);
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, settings)[..], &ask].concat();
    connection.write_all(&begin).await.unwrap();
    let mut kinds = Vec::new();
    let mut head = [0; 9];
    while connection.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        connection.read_exact(&mut payload).await.unwrap();
        kinds.push(head[3]);
        if head[3] == PING && head[4] == 0 {
            // Fails where the end has come.
            let _ = connection.write_all(&frame(PING, 1, 0, &payload)).await;
        }
    }
    kinds
}

#[tokio::test]
async fn http_2_without_requests_or_with_an_answer_that_nobody_takes_is_closed() {
    const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];
    const DATA: u8 = 0;
    const GOAWAY: u8 = 7;
    let server = kit::server_with(|config| {
        config.limits.header_timeout_ms = 1_000;
        config.limits.idle_timeout_ms = 1_500;
    })
    .await;
    for (settings, is_answered) in [(&[][..], true), (&NO_WINDOW, false)] {
        let mut connection = connect(&server, 0).await;
        let begin = std::time::Instant::now();
        let staying = stay_on_http_2(&mut connection, settings);
        let kinds = tokio::time::timeout(Duration::from_secs(20), staying).await.expect("an end");
        assert!(begin.elapsed() >= Duration::from_millis(1_400), "{:?}", begin.elapsed());
        assert_eq!(kinds.contains(&DATA), is_answered, "{kinds:?}");
        assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    }
}

#[tokio::test]
async fn an_idle_listener_takes_no_connection_from_the_others() {
    let server = kit::server_with(|config| {
        config.limits.connections_max = 1;
        let second = config.listeners[0].clone();
        config.listeners.push(second);
    })
    .await;
    for index in [0, 1, 0, 1] {
        let answer =
            exchange(connect(&server, index).await, &get("/_matrix/client/versions")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

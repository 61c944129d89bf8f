//! What HTTP clients see whatever they ask: errors, headers, versions, where things are.

use http::Method;
use serde_json::json;

use crate::kit;

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_apart() {
    let server = kit::server().await;
    let client = server.client();
    for path in [
        "/",
        "/_matrix/client/v3/nothing",
        "/_matrix/client/v9/account/whoami",
        "/_matrix/media/v3/nothing",
        "/_matrix/nothing",
    ] {
        let (status, answer) = client.get(path).await;
        assert_eq!((status, &answer["errcode"]), (404, &json!("M_UNRECOGNIZED")), "{path}");
    }
    for (method, path) in [
        (Method::PATCH, "/_matrix/client/v3/login"),
        (Method::DELETE, "/_matrix/client/v3/account/whoami"),
        (Method::PUT, "/_matrix/client/r0/createRoom"),
        (Method::POST, "/_matrix/client/versions"),
    ] {
        let response = client.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!(answer["errcode"], "M_UNRECOGNIZED", "{path}");
    }
}

#[tokio::test]
async fn bad_bodies_are_told_apart() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let deep = format!("{{\"preset\":\"public_chat\",\"x\":{deep}}}");
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(64 * 1024 * 1024));
    for (body, status, errcode) in [
        (b"{".to_vec(), 400, "M_NOT_JSON"),
        (b"{\"name\": \"\xff\"}".to_vec(), 400, "M_NOT_JSON"),
        (b"\"text\"".to_vec(), 400, "M_BAD_JSON"),
        (b"[]".to_vec(), 400, "M_BAD_JSON"),
        (b"{\"name\": 7}".to_vec(), 400, "M_BAD_JSON"),
        (deep.into_bytes(), 400, "M_BAD_JSON"),
        (large.into_bytes(), 413, "M_TOO_LARGE"),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
        let request = alice.request(Method::POST, "/_matrix/client/v3/createRoom").body(body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{shown}");
        let answer: serde_json::Value = response.json().await.unwrap();
        assert_eq!(answer["errcode"], errcode, "{shown}");
    }
}

#[tokio::test]
async fn every_answer_is_json_and_lets_web_clients_in() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    for (method, path, status) in [
        (Method::GET, "/_matrix/client/versions", 200),
        (Method::GET, "/_matrix/client/v3/account/whoami", 200),
        (Method::GET, "/_matrix/client/v3/profile/@alice:localhost", 200),
        (Method::GET, "/_matrix/client/v3/devices/NONE", 404),
        (Method::GET, "/.well-known/matrix/client", 404),
        (Method::GET, "/nothing", 404),
        (Method::PATCH, "/_matrix/client/v3/login", 405),
        (Method::POST, "/_matrix/client/v3/delete_devices", 400),
    ] {
        let response = alice.request(method, path).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/json", "{path}");
        assert_eq!(response.headers()["access-control-allow-origin"], "*", "{path}");
    }
    for path in ["/_matrix/client/v3/sync", "/.well-known/matrix/client", "/nothing"] {
        let request = server.client().request(Method::OPTIONS, path);
        let request = request
            .header("origin", "https://app.example")
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "authorization");
        let response = request.send().await.unwrap();
        assert!(response.status().is_success(), "{path}");
        let headers = response.headers();
        assert_eq!(headers["access-control-allow-origin"], "*", "{path}");
        let methods = headers["access-control-allow-methods"].to_str().unwrap();
        assert!(methods.contains("PUT") && methods.contains("DELETE"), "{methods}");
        let allowed = headers["access-control-allow-headers"].to_str().unwrap().to_lowercase();
        for header in ["x-requested-with", "content-type", "authorization"] {
            assert!(allowed.contains(header), "{allowed}");
        }
    }
}

#[tokio::test]
async fn the_versions_are_an_unbroken_row() {
    let server = kit::server().await;
    let answer = server.client().do_get("/_matrix/client/versions").await;
    let versions: Vec<_> = answer["versions"].as_array().unwrap().iter().collect();
    let mut expected = vec![json!("r0.6.1")];
    expected.extend((1..=19).map(|minor| json!(format!("v1.{minor}"))));
    assert_eq!(versions, expected.iter().collect::<Vec<_>>());
    assert!(answer["unstable_features"].is_object());
}

#[tokio::test]
async fn well_known_says_what_was_set() {
    let server = kit::server_with(|config| {
        config.server.public_base_url = "https://matrix.example.org".to_owned();
        config.support.admin_email = "admin@example.org".to_owned();
    })
    .await;
    let client = server.client();
    let answer = client.do_get("/.well-known/matrix/client").await;
    assert_eq!(answer, json!({ "m.homeserver": { "base_url": "https://matrix.example.org" } }));
    let answer = client.do_get("/.well-known/matrix/server").await;
    assert_eq!(answer, json!({ "m.server": "matrix.example.org:443" }));
    let answer = client.do_get("/.well-known/matrix/support").await;
    let contact = json!({ "role": "m.role.admin", "email_address": "admin@example.org" });
    assert_eq!(answer, json!({ "contacts": [contact] }));
    let body = json!({
        "username": "alice", "password": "p", "auth": { "type": "m.login.dummy" },
    });
    client.do_post("/_matrix/client/v3/register", body).await;
    let body = json!({
        "type": "m.login.password", "password": "p",
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    let login = client.do_post("/_matrix/client/v3/login", body).await;
    let base_url = &login["well_known"]["m.homeserver"]["base_url"];
    assert_eq!(base_url, "https://matrix.example.org");
}

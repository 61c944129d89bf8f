//! What `/metrics` tells.

use serde_json::json;

use crate::kit;

#[tokio::test]
async fn the_metrics_tell_of_requests_commits_events_and_waiting_syncs() {
    let server = kit::server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    alice.say(&room, "Hello").await;
    let since = alice.sync_token().await;
    let waiting = tokio::spawn({
        let alice = alice.clone();
        async move { alice.sync(Some(&since), "timeout=30000").await }
    });
    let seen = async {
        loop {
            let request = server.client().request(http::Method::GET, "/metrics");
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
            assert!(content_type.starts_with("text/plain"), "{content_type}");
            let text = response.text().await.unwrap();
            if is_complete(&text) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), seen).await.expect("all metrics");
    alice.say(&room, "News").await;
    waiting.await.unwrap();
}

/// Whether everything that is promised is in the text, with a value that is not 0.
fn is_complete(text: &str) -> bool {
    [
        r#"http_requests_total{route="/_matrix/client/v3/createRoom",method="POST",status="200"}"#,
        r#"http_request_seconds_bucket{route="/_matrix/client/v3/createRoom",le="0.001"}"#,
        r#"store_commits_total{result="ok"}"#,
        "store_commit_seconds_count",
        "room_events_total",
        "http_connections",
        "syncs_waiting",
    ]
    .iter()
    .all(|name| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.is_some_and(|value| name.contains("bucket") || value != "0")
    })
}

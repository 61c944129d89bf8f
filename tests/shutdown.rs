//! How the program stops, and what it refuses to start with.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::kit::{self, Process, User, encode};

#[tokio::test]
async fn sigterm_answers_waiting_syncs_and_ends_within_five_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::new(&dir.path().join("data"));
    process.start().await;
    let alice = User::register(process.client(), "alice").await;
    let since = alice.sync_token().await;
    let path = format!("/_matrix/client/v3/sync?since={}&timeout=60000", encode(&since));
    let waiting = tokio::spawn(async move { alice.get(&path).await });
    let address = process.client().url("").trim_start_matches("http://").to_owned();
    let _idle = TcpStream::connect(&address).await.unwrap();
    let mut halting = TcpStream::connect(&address).await.unwrap();
    halting.write_all(b"GET /_matrix/client/versions HTTP/1.1\r\nHos").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());

    let begin = Instant::now();
    let status = process.terminate().await;
    // Whoever is silent or halts in the middle of a request is not waited for.
    assert!(begin.elapsed() < Duration::from_secs(3), "it took {:?}", begin.elapsed());
    assert!(status.success(), "{status}");
    let (status, body) = waiting.await.unwrap();
    assert_eq!(status, 200);
    assert!(body["next_batch"].is_string(), "{body}");
    assert!(!dir.path().join("data/admin.sock").exists());
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Process::new(dir.path());
    first.start().await;
    let second = Process::new(dir.path());
    for arguments in [&["serve", "--server-name", "localhost"][..], &["store", "check"]] {
        let output = second.run(arguments).await;
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("in use by another process"), "{message}");
    }
    first.terminate().await;
}

#[tokio::test]
async fn a_server_can_never_change_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::new(dir.path());
    process.start().await;
    process.terminate().await;
    let output = process.run(&["serve", "--server-name", "example.org"]).await;
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("belongs to the server localhost"), "{message}");
}

#[tokio::test]
async fn a_restart_keeps_users_rooms_sync_tokens_and_the_signing_key() {
    let mut server = kit::server().await;
    let alice = server.register("alice").await;
    let room = alice.create_room(json!({})).await;
    let mut since = alice.sync_token().await;
    let keys = server.client().do_get("/_matrix/key/v2/server").await;
    server.restart().await;
    let event_id = alice.say(&room, "still here").await;
    let news = alice.sync_until(&mut since, |news| news["rooms"]["join"][&room].is_object()).await;
    let timeline = &news["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(timeline.as_array().unwrap().len(), 1);
    assert_eq!(timeline[0]["event_id"], event_id);
    let keys_now = server.client().do_get("/_matrix/key/v2/server").await;
    assert_eq!(keys["verify_keys"], keys_now["verify_keys"]);
}

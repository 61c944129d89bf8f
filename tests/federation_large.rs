//! A room with very many members on many servers, joined by a server of ours in a process of its
//! own, so that its memory can be told.
//!
//! `LARGE_ROOM=10000x100` makes it a room of 10,000 members of 100 servers.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use ruma::RoomVersionId;
use serde_json::json;

use crate::kit::{Authority, Heard, Peer, Process, User, encode};

/// Members and servers unless the environment says otherwise.
const SIZE: (usize, usize) = (300, 20);

/// Longest that the whole state may take to arrive.
const WHOLE: Duration = Duration::from_secs(120);

fn size() -> (usize, usize) {
    let text = std::env::var("LARGE_ROOM").unwrap_or_default();
    let parts = text
        .split_once('x')
        .and_then(|(members, servers)| Some((members.parse().ok()?, servers.parse().ok()?)));
    parts.unwrap_or(SIZE)
}

/// How many bytes the files below a directory have.
fn bytes_on_disk(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(Result::unwrap);
    let size = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { bytes_on_disk(&entry.path()) } else { meta.len() }
    };
    entries.map(size).sum()
}

/// How many transactions with a text went to each destination.
fn transactions(heard: &[Heard], text: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for heard in heard.iter().filter(|heard| heard.uri.contains("/v1/send/")) {
        if heard.body_has(text) {
            *counts.entry(heard.destination()).or_default() += 1;
        }
    }
    counts
}

/// A server in a process that finds all names of the peer.
async fn start(authority: &Authority, peer: &Peer, data_dir: &Path) -> Process {
    let mut process = Process::new(data_dir);
    let overrides = peer.names().iter().map(|name| format!("\"{name}\" = \"{}\"", peer.address()));
    let overrides = format!("{{{}}}", overrides.collect::<Vec<_>>().join(", "));
    let roots = format!("[\"{}\"]", authority.root().display());
    process.set("FEDERATION__OVERRIDES", &overrides);
    process.set("FEDERATION__EXTRA_ROOT_CERTIFICATES", &roots);
    process.set("FEDERATION__ALLOW_PRIVATE_ADDRESSES", "true");
    process.start().await;
    process
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_room_is_joined_and_a_message_goes_to_every_server_once() {
    let (members, servers) = size();
    let names: Vec<String> = (0..servers).map(|number| format!("s{number}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let authority = Authority::new();
    let peer = Peer::start(&authority, &names).await;
    let room = peer.found(&RoomVersionId::V11, members);
    let room_id = room.room_id.clone();
    peer.host("11", room);
    let directory = tempfile::tempdir().unwrap();
    let process = start(&authority, &peer, directory.path()).await;
    let alice = User::register(process.client(), "alice").await;
    let before = process.memory_kib();

    let begin = Instant::now();
    let path = format!("/_matrix/client/v3/join/{}?via={}", encode(&room_id), names[0]);
    alice.do_post(&path, json!({})).await;
    let joined = begin.elapsed();
    alice.say(&room_id, "so many of you").await;
    let sent = begin.elapsed();
    peer.wait_heard(|heard| (transactions(heard, "so many of you").len() == servers).then_some(()))
        .await;
    let everywhere = begin.elapsed();
    let path = format!("/_matrix/client/v3/rooms/{}/joined_members", encode(&room_id));
    let whole = async {
        while alice.do_get(&path).await["joined"].as_object().unwrap().len() < members + 2 {
            alice.sync(None, "timeout=0").await;
        }
    };
    tokio::time::timeout(WHOLE, whole).await.expect("the whole state should come");
    let known = begin.elapsed();

    // A second message, when all is known: one transaction for each server, and no other request.
    let asked = peer.heard().len();
    alice.say(&room_id, "once more").await;
    peer.wait_heard(|heard| (transactions(heard, "once more").len() == servers).then_some(()))
        .await;
    let counts = transactions(&peer.heard(), "once more");
    assert!(counts.values().all(|count| *count == 1), "{counts:?}");
    let more = peer.heard().len() - asked;
    assert!(more <= servers * 2, "{more} requests for one message to {servers} servers");
    println!(
        "{members} members of {servers} servers: joined after {joined:.2?}, sent after {sent:.2?}, everywhere after \
         {everywhere:.2?}, all members known after {known:.2?}; memory {} MiB, {} MiB before; {} KiB on disk",
        process.memory_peak_kib() / 1024,
        before / 1024,
        bytes_on_disk(directory.path()) / 1024,
    );
}

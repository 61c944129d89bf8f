//! Nothing that was acknowledged is lost, doubled or out of order when the server is killed at any
//! instant.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use crate::kit::{Process, User, encode};

/// How often the server is killed.
const KILLS: usize = 50;

/// Clients that send at the same time, each in one of [`ROOMS`] rooms.
const SENDERS: usize = 6;

/// Rooms that messages are sent to.
const ROOMS: usize = 3;

/// Wait before a request is sent again to a server that is down.
const RETRY: Duration = Duration::from_millis(10);

/// Where and how the instants of the kills are drawn.
const SEED: u64 = 0x4e61_7474_6572;

/// Sends a request until it is answered, however often the server dies meanwhile.
async fn insist(user: &User, method: http::Method, path: &str, body: Option<&Value>) -> Value {
    loop {
        let mut request = user.request(method.clone(), path).timeout(Duration::from_secs(40));
        if let Some(body) = body {
            request = request.json(body);
        }
        let Ok(response) = request.send().await else {
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let status = response.status().as_u16();
        let Ok(bytes) = response.bytes().await else { continue };
        assert_eq!(status, 200, "{path} answered {}", String::from_utf8_lossy(&bytes));
        return serde_json::from_slice(&bytes).unwrap();
    }
}

/// What one sender sent and got acknowledged, in order: transaction IDs and event IDs.
type Sent = Vec<(String, String)>;

/// Sends messages one after the other until it is told to stop. Each acknowledged one may be sent
/// again later.
async fn send(user: User, room: String, index: usize, stop: Arc<AtomicBool>) -> Sent {
    let mut sent = Sent::new();
    while !stop.load(Ordering::Relaxed) {
        let txn = format!("{index}-{}", sent.len());
        let event_id = put_message(&user, &room, &txn).await;
        sent.push((txn, event_id));
        // What was acknowledged before is acknowledged with the same ID again.
        if sent.len().is_multiple_of(10) {
            let (txn, event_id) = &sent[sent.len() - 1 - sent.len() % 7];
            assert_eq!(&put_message(&user, &room, txn).await, event_id);
        }
    }
    sent
}

/// Sends a message, which holds its transaction ID, and returns its event ID.
async fn put_message(user: &User, room: &str, txn: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{txn}", encode(room));
    let body = json!({ "msgtype": "m.text", "body": txn });
    let answer = insist(user, http::Method::PUT, &path, Some(&body)).await;
    answer["event_id"].as_str().unwrap().to_owned()
}

/// Event IDs of the messages of each room in the order in which they were seen.
type Seen = HashMap<String, Vec<String>>;

/// Follows `/sync` across all deaths of the server until nothing more comes after the stop.
async fn follow(user: User, stop: Arc<AtomicBool>) -> Seen {
    let filter = encode(&json!({ "room": { "timeline": { "limit": 10_000 } } }).to_string());
    let mut seen = Seen::new();
    let mut since = String::new();
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        let timeout_ms = if stopped { 0 } else { 2_000 };
        let query = format!("filter={filter}&timeout={timeout_ms}{since}");
        let path = format!("/_matrix/client/v3/sync?{query}");
        let answer = insist(&user, http::Method::GET, &path, None).await;
        let is_first = since.is_empty();
        since = format!("&since={}", encode(answer["next_batch"].as_str().unwrap()));
        let Some(rooms) = answer["rooms"]["join"].as_object() else {
            if stopped {
                return seen;
            }
            continue;
        };
        for (room, news) in rooms {
            assert!(is_first || news["timeline"]["limited"] != true, "a gap: {news}");
            seen.entry(room.clone()).or_default().extend(messages(&news["timeline"]["events"]));
        }
    }
}

/// Event IDs of the messages among events.
fn messages(events: &Value) -> Vec<String> {
    let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
    let is_message = |event: &&Value| event["type"] == "m.room.message";
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    events.iter().filter(is_message).map(id).collect()
}

/// Event IDs of all messages of a room, oldest first, as the history tells.
async fn history(user: &User, room: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut from = String::new();
    loop {
        let path =
            format!("/_matrix/client/v3/rooms/{}/messages?dir=f&limit=500{from}", encode(room));
        let page = user.do_get(&path).await;
        all.extend(messages(&page["chunk"]));
        match page["end"].as_str() {
            Some(end) => from = format!("&from={}", encode(end)),
            None => return all,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_fifty_times_the_server_keeps_all_that_it_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut process = Process::new(dir.path());
    process.start().await;
    let mut users = Vec::new();
    for index in 0..SENDERS {
        users.push(User::register(process.client(), &format!("user{index}")).await);
    }
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        rooms.push(users[0].create_room(json!({ "preset": "public_chat" })).await);
    }
    for room in &rooms {
        for user in &users[1..] {
            user.join(room).await;
        }
    }

    let (stop_sending, stop_following) = (Arc::default(), Arc::default());
    let follower = tokio::spawn(follow(users[0].clone(), Arc::clone(&stop_following)));
    let senders: Vec<_> = users
        .iter()
        .enumerate()
        .map(|(index, user)| {
            let room = rooms[index % ROOMS].clone();
            tokio::spawn(send(user.clone(), room, index, Arc::clone(&stop_sending)))
        })
        .collect();
    let mut chance = StdRng::seed_from_u64(SEED);
    for _ in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(chance.random_range(0..500))).await;
        process.kill().await;
        process.start().await;
    }
    stop_sending.store(true, Ordering::Relaxed);
    let mut sent = Vec::new();
    for sender in senders {
        sent.push(sender.await.unwrap());
    }
    stop_following.store(true, Ordering::Relaxed);
    let seen = follower.await.unwrap();

    for (index, sent) in sent.iter().enumerate() {
        assert!(sent.len() > KILLS / 2, "sender {index} sent only {}", sent.len());
        for (txn, event_id) in sent.iter().step_by(17) {
            assert_eq!(&put_message(&users[index], &rooms[index % ROOMS], txn).await, event_id);
        }
    }
    for (number, room) in rooms.iter().enumerate() {
        let history = history(&users[0], room).await;
        for (index, sent) in sent.iter().enumerate().skip(number).step_by(ROOMS) {
            let own: Vec<&String> = sent.iter().map(|(_, event_id)| event_id).collect();
            let kept: Vec<&String> = history.iter().filter(|id| own.contains(id)).collect();
            assert_eq!(kept, own, "the messages of sender {index} in {room}");
        }
        let expected: usize = sent.iter().skip(number).step_by(ROOMS).map(Vec::len).sum();
        assert_eq!(history.len(), expected, "messages in {room} that nobody sent");
        assert_eq!(seen[room], history, "what /sync told of {room}");
    }
    assert!(process.terminate().await.success());
    let check = process.run(&["store", "check"]).await;
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    let total: usize = sent.iter().map(Vec::len).sum();
    println!("{total} messages sent while the server was killed {KILLS} times");
}

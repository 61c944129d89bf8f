//! Many events at once: every one comes once, and in order.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{joined, next, public, timeline};
use crate::kit::{User, encode, server};

/// Messages of each sender.
const MESSAGES: usize = 80;

/// Syncs on until all of these events have come; gives the IDs of all that came, in order.
async fn follow(user: User, mut since: String, room: String, count: usize) -> Vec<String> {
    let wish = json!({
        "room": { "timeline": { "limit": 500 } }, "presence": { "types": [] },
    });
    let query = format!("timeout=5000&filter={}", encode(&wish.to_string()));
    let mut came = Vec::new();
    while came.len() < count {
        let sync = user.sync(Some(&since), &query).await;
        assert_ne!(sync["rooms"], Value::Null, "only {} events came", came.len());
        since = next(&sync);
        assert_ne!(joined(&sync, &room)["timeline"]["limited"], true);
        let events = timeline(&sync, &room).iter();
        came.extend(events.map(|event| event["event_id"].as_str().unwrap().to_owned()));
    }
    // Nothing comes after the last.
    let sync = user.sync(Some(&since), "timeout=100").await;
    assert_eq!(timeline(&sync, &room), [] as [Value; 0]);
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_comes_once_and_in_order() {
    let server = server().await;
    let mut users = Vec::new();
    for name in ["alice", "bob", "carol"] {
        users.push(server.register(name).await);
    }
    let room = public(&users[0]).await;
    for user in &users[1..] {
        user.join(&room).await;
    }
    let mut followers = Vec::new();
    for user in &users {
        let since = user.sync_token().await;
        let count = users.len() * MESSAGES;
        followers.push(tokio::spawn(follow(user.clone(), since, room.clone(), count)));
    }
    let senders: Vec<_> = (users.iter().cloned())
        .map(|user| {
            let room = room.clone();
            tokio::spawn(async move {
                let mut sent = Vec::new();
                for number in 0..MESSAGES {
                    sent.push(user.say(&room, &number.to_string()).await);
                    if number % 20 == 0 {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                sent
            })
        })
        .collect();
    let mut sent = Vec::new();
    for sender in senders {
        sent.push(sender.await.unwrap());
    }
    let mut orders = BTreeSet::new();
    for follower in followers {
        let came = follower.await.unwrap();
        let once: BTreeSet<_> = came.iter().collect();
        assert_eq!((once.len(), came.len()), (3 * MESSAGES, 3 * MESSAGES));
        for sent in &sent {
            let theirs: Vec<_> = came.iter().filter(|id| sent.contains(id)).cloned().collect();
            assert_eq!(&theirs, sent);
        }
        orders.insert(came);
    }
    assert_eq!(orders.len(), 1, "all see the same order");
}

//! Events that arrive while a response is being built.

use std::sync::Arc;

use super::{Home, client::Client, user};
use serde_json::json;

/// Messages of each sender.
const MESSAGES: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_event_comes_once_and_in_order_while_others_send() {
    let home = Arc::new(Home::new().await);
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let room = home.room(&alice).await;
    for person in [&bob, &carol] {
        home.join(person, &room).await.unwrap();
    }
    let mut client = Client::new(&alice, json!({ "room": { "timeline": { "limit": 500 } } }));
    client.sync(&home).await;
    client.request.timeout_ms = 5_000;
    let senders: Vec<_> = [&alice, &bob, &carol]
        .map(|sender| {
            let (home, sender, room) = (Arc::clone(&home), sender.clone(), room.clone());
            tokio::spawn(async move {
                let mut sent = Vec::new();
                for number in 0..MESSAGES {
                    sent.push(home.say(&sender, &room, &number.to_string()).await.to_string());
                }
                sent
            })
        })
        .into();
    let begin = client.rooms[&room].seen.len();
    while client.rooms[&room].seen.len() < begin + 3 * MESSAGES {
        let response = client.sync(&home).await;
        assert!(!response.rooms.join.is_empty(), "nothing came within the timeout");
        assert!(!response.rooms.join[&room].timeline.limited);
    }
    let timeline = &client.rooms[&room].timeline;
    for sender in senders {
        let sent = sender.await.unwrap();
        let came: Vec<_> = timeline.iter().filter(|id| sent.contains(id)).cloned().collect();
        assert_eq!(came, sent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn joins_that_arrive_while_syncing_are_never_missed() {
    let home = Arc::new(Home::new().await);
    let (alice, bob) = (user("alice"), user("bob"));
    let mut client = Client::new(&bob, json!({}));
    client.sync(&home).await;
    client.request.timeout_ms = 5_000;
    let joins = {
        let (home, alice, bob) = (Arc::clone(&home), alice.clone(), bob.clone());
        tokio::spawn(async move {
            for _ in 0..60 {
                let room = home.room(&alice).await;
                home.join(&bob, &room).await.unwrap();
                home.say(&alice, &room, "welcome").await;
            }
        })
    };
    while client.rooms.len() < 60 {
        let response = client.sync(&home).await;
        assert!(!response.rooms.join.is_empty(), "nothing came within the timeout");
    }
    joins.await.unwrap();
    client.request.timeout_ms = 0;
    client.sync(&home).await;
    for known in client.rooms.values() {
        let create = ("m.room.create".to_owned(), String::new());
        assert!(known.state.contains_key(&create));
        assert_eq!(known.joined, Some(2));
    }
}

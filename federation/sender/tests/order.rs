//! What is sent to whom, in which order.

use ruma::OwnedServerName;
use store::{Batch, Position};

use super::kit::{Home, Mode, user};
use crate::sender::tables::{OUTBOX, QueuedEvent};

#[tokio::test]
async fn each_server_in_the_room_gets_our_events_and_nobody_else() {
    let mut home = Home::new().await;
    let (room, other) = (home.room().await, home.room().await);
    home.join(&room, "@a:one.example").await;
    home.join(&room, "@a:denied.example").await;
    home.join(&other, "@b:two.example").await;
    home.start();
    home.say(&room, "to one").await;
    let attempt = home.attempt().await;
    assert_eq!((attempt.server.as_str(), attempt.texts()), ("one.example", vec!["to one".into()]));
    home.say(&other, "to two").await;
    assert_eq!(home.attempt().await.server, "two.example");
    // A join that came over us is for the others; one who is thrown out is told.
    home.join(&room, "@b:two.example").await;
    let attempt = home.attempt().await;
    assert_eq!(attempt.server, "one.example");
    assert_eq!(attempt.texts(), ["@b:two.example join"]);
    home.rooms.kick(&user("alice"), &room, &user("@a:one.example"), None).await.unwrap();
    let attempts = home.attempts(2).await;
    for server in ["one.example", "two.example"] {
        assert_eq!(attempts[server].texts(), ["@a:one.example leave"]);
    }
    home.say(&room, "to two").await;
    assert_eq!(home.attempt().await.server, "two.example");
    home.rest(0).await;
    home.nothing_was_sent();
}

#[tokio::test]
async fn a_message_to_many_servers_takes_one_transaction_for_each() {
    const SERVERS: usize = 60;
    let mut home = Home::new().await;
    let room = home.room().await;
    for number in 0..SERVERS {
        home.join(&room, &format!("@a:s{number}.example")).await;
    }
    home.start();
    home.say(&room, "hello").await;
    let attempts = home.attempts(SERVERS).await;
    assert!(attempts.values().all(|attempt| attempt.texts() == ["hello"]));
    home.rest(0).await;
    home.nothing_was_sent();
}

#[tokio::test]
async fn what_piles_up_is_sent_in_order_in_transactions_of_fifty() {
    let mut home = Home::new().await;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    home.start();
    let until = home.hang("one.example");
    for number in 0..=120 {
        home.say(&room, &number.to_string()).await;
    }
    let mut texts = Vec::new();
    let mut sizes = Vec::new();
    while texts.len() < 121 {
        until.notify_one();
        let attempt = home.attempt().await;
        sizes.push(attempt.texts().len());
        texts.extend(attempt.texts());
    }
    let expected: Vec<_> = (0..=120).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
    assert!(sizes.len() < 10, "{sizes:?}");
}

#[tokio::test]
async fn what_happened_while_the_sender_was_down_is_sent_after_the_start() {
    let mut home = Home::new().await;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    home.say(&room, "before there was a sender").await;
    home.start();
    home.say(&room, "first").await;
    assert_eq!(home.attempt().await.texts(), ["first"]);
    home.rest(0).await;
    home.stop().await;
    home.say(&room, "second").await;
    home.say(&room, "third").await;
    home.start();
    let mut texts = home.attempt().await.texts();
    while texts.len() < 2 {
        texts.extend(home.attempt().await.texts());
    }
    assert_eq!(texts, ["second", "third"]);
    home.stop().await;
    home.nothing_was_sent();
}

#[tokio::test]
async fn a_transaction_under_way_at_the_stop_is_sent_after_the_start() {
    let mut home = Home::new().await;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    home.start();
    let _never = home.hang("one.example");
    home.say(&room, "again").await;
    // The queue has it once the server is known.
    home.rest(1).await;
    home.stop().await;
    home.set("one.example", Mode::Takes);
    home.start();
    assert_eq!(home.attempt().await.texts(), ["again"]);
}

/// Puts an event into the queues of servers, without rooms that have them all.
async fn queue(home: &Home, servers: impl Iterator<Item = String>, events: u32) {
    let room_id = home.room().await;
    let event_id = home.say(&room_id, "queued").await;
    let room = home.rooms.room(&room_id).await.unwrap().unwrap();
    let event = home.rooms.event_number(&room, &event_id).await.unwrap().unwrap();
    let mut batch = Batch::new();
    for server in servers {
        let server = OwnedServerName::try_from(server).unwrap();
        for index in 0..events {
            let key = (server.to_string(), Position::new(1), index);
            batch.put(&OUTBOX, &key, &QueuedEvent { room: room.number, event });
        }
    }
    home.store.commit(batch).await.unwrap();
}

#[tokio::test]
async fn a_thousand_servers_are_served_fairly_by_few_transactions_at_a_time() {
    let mut home = Home::new().await;
    home.config.transactions_max = 4;
    queue(&home, std::iter::once("a-long-queue.example".to_owned()), 2_000).await;
    queue(&home, (0..1_000).map(|number| format!("s{number}.example")), 1).await;
    home.start();
    let mut before = 0;
    let mut others = 0;
    while others < 1_000 {
        if home.attempt().await.server == "a-long-queue.example" {
            before += 1;
        } else {
            others += 1;
        }
    }
    assert!(before <= 10, "{before} transactions of a long queue came before others");
}

#[tokio::test]
async fn servers_that_hang_do_not_keep_others_waiting() {
    let mut home = Home::new().await;
    home.config.transactions_max = 4;
    home.config.probes_max = 2;
    let room = home.room().await;
    home.join(&room, "@a:well.example").await;
    for number in 0..8 {
        let name = format!("s{number}.example");
        home.set(&name, Mode::Fails);
        home.join(&room, &format!("@a:{name}")).await;
    }
    home.start();
    home.say(&room, "first").await;
    home.attempts(9).await;
    let _never: Vec<_> = (0..8).map(|number| home.hang(&format!("s{number}.example"))).collect();
    // All of them are tried again, and hang.
    home.advance(3_600_000);
    home.say(&room, "second").await;
    let attempt = home.attempt().await;
    assert_eq!((attempt.server.as_str(), attempt.texts()), ("well.example", vec!["second".into()]));
}

#[tokio::test]
async fn nothing_is_kept_for_a_server_that_is_denied() {
    let mut home = Home::new().await;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    home.set("one.example", Mode::Denied);
    home.start();
    home.say(&room, "no").await;
    home.attempt().await;
    home.rest(0).await;
    let rows = home.store.scan(&OUTBOX, OUTBOX.all(), store::Page::first(9)).await.unwrap();
    assert!(rows.is_empty());
}

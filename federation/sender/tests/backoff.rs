//! Servers that do not answer, for a while.

use ruma::ServerName;
use store::Page;

use super::kit::{Home, Mode};
use crate::sender::{
    outcome::{BACKOFF_MS_FIRST, BACKOFF_MS_MAX, MOMENT_BACKOFF_MS_MAX, MOMENT_MS},
    tables::{OUTBOX, RETRIES, RetryRow},
};

/// More than the first waits, with what is added to them.
const SOON_MS: u64 = 2 * BACKOFF_MS_FIRST;

async fn home_with_one() -> (Home, ruma::OwnedRoomId) {
    let mut home = Home::new().await;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    home.start();
    (home, room)
}

#[test]
fn waits_grow_up_to_a_limit_and_never_end() {
    let server = <&ServerName>::try_from("one.example").unwrap();
    let mut retry = RetryRow::default();
    let mut now_ms = 5_000;
    let mut last_ms = 0;
    for failures in 1..200 {
        retry = retry.after_failure(server, now_ms, None);
        assert_eq!((retry.since_ms, retry.failures), (5_000, failures));
        let (wait_ms, away_ms) = (retry.not_before_ms - now_ms, now_ms - 5_000);
        let longest_ms = if away_ms < MOMENT_MS { MOMENT_BACKOFF_MS_MAX } else { away_ms };
        assert!(wait_ms <= longest_ms / 10 * 11, "{wait_ms} after {away_ms}");
        assert!(wait_ms <= BACKOFF_MS_MAX / 10 * 11, "{wait_ms} after {away_ms}");
        assert!(wait_ms >= last_ms / 10 * 8, "{wait_ms} after {away_ms}");
        (now_ms, last_ms) = (retry.not_before_ms, wait_ms);
    }
    assert!(last_ms >= BACKOFF_MS_MAX / 10 * 9);
    let asked = RetryRow::default().after_failure(server, 0, Some(90_000));
    assert_eq!(asked.not_before_ms, 90_000);
    let too_long = RetryRow::default().after_failure(server, 0, Some(u64::MAX));
    assert_eq!(too_long.not_before_ms, BACKOFF_MS_MAX);
}

#[tokio::test]
async fn a_transaction_that_failed_is_sent_again_as_it_was_and_then_the_rest() {
    let (mut home, room) = home_with_one().await;
    home.set("one.example", Mode::Fails);
    home.say(&room, "first").await;
    let failed = home.attempt().await;
    assert!(!failed.came_through);
    home.say(&room, "second").await;
    home.quiet().await;
    home.set("one.example", Mode::Takes);
    home.advance(SOON_MS);
    let again = home.attempt().await;
    assert_eq!(again.texts(), ["first"]);
    assert_eq!(again.transaction.id, failed.transaction.id);
    let rest = home.attempt().await;
    assert_eq!(rest.texts(), ["second"]);
    assert_ne!(rest.transaction.id, again.transaction.id);
    home.rest(0).await;
    let retries = home.store.scan(&RETRIES, RETRIES.all(), Page::first(9)).await.unwrap();
    assert!(retries.is_empty(), "{retries:?}");
}

#[tokio::test]
async fn a_server_is_not_tried_before_its_time() {
    let (mut home, room) = home_with_one().await;
    home.set("one.example", Mode::Fails);
    home.say(&room, "1").await;
    home.attempt().await;
    home.quiet().await;
    for number in 2..6 {
        home.say(&room, &number.to_string()).await;
        home.advance(1);
    }
    home.join(&room, "@b:two.example").await;
    home.say(&room, "6").await;
    assert_eq!(home.attempt().await.server, "two.example");
    home.quiet().await;
    home.nothing_was_sent();
}

#[tokio::test]
async fn a_server_that_speaks_to_us_is_tried_at_once_but_not_for_each_word() {
    let (mut home, room) = home_with_one().await;
    let name = ServerName::parse("one.example").unwrap();
    home.set("one.example", Mode::Fails);
    home.say(&room, "1").await;
    home.attempt().await;
    home.quiet().await;
    for _ in 0..3 {
        home.sender().note_alive(&name);
    }
    assert!(!home.attempt().await.came_through);
    home.quiet().await;
    // It has been tried just before.
    let destinations = &home.sender().shared.destinations;
    assert!(!destinations.note_alive(&name, home.sender().shared.now_ms()));
    home.set("one.example", Mode::Takes);
    home.clock.advance(10_000);
    home.sender().note_alive(&name);
    assert_eq!(home.attempt().await.texts(), ["1"]);
    home.rest(0).await;
    home.sender().note_alive(&name);
    home.nothing_was_sent();
}

#[tokio::test]
async fn the_wait_of_a_server_that_is_away_for_long_outlasts_a_restart() {
    let (mut home, room) = home_with_one().await;
    home.set("one.example", Mode::Fails);
    home.say(&room, "1").await;
    // Long enough to be out of what is forgiven at a start, and not so long that it falls behind.
    home.attempt().await;
    for step_ms in [400_000, 400_000, 500_000, 750_000] {
        home.quiet().await;
        home.advance(step_ms);
        home.attempt().await;
    }
    home.quiet().await;
    home.stop().await;
    home.set("one.example", Mode::Takes);
    home.start();
    home.quiet().await;
    home.say(&room, "2").await;
    home.join(&room, "@b:two.example").await;
    home.say(&room, "3").await;
    assert_eq!(home.attempt().await.server, "two.example");
    home.nothing_was_sent();
    home.advance(BACKOFF_MS_MAX);
    let mut attempt = home.attempt().await;
    while attempt.server != "one.example" {
        attempt = home.attempt().await;
    }
    assert_eq!(attempt.texts().last().unwrap(), "3");
    let rows = home.store.scan(&OUTBOX, OUTBOX.all(), Page::first(9)).await.unwrap();
    assert!(rows.len() <= 5, "{rows:?}");
}

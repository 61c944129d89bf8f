//! Servers that were away for long.

use store::Page;

use super::kit::{Home, Mode, user};
use crate::sender::{
    outcome::BEHIND_AFTER_MS,
    tables::{CATCH_UP, OUTBOX},
};

async fn counts(home: &Home) -> (usize, usize) {
    let queued = home.store.scan(&OUTBOX, OUTBOX.all(), Page::first(999)).await.unwrap().len();
    let missed = home.store.scan(&CATCH_UP, CATCH_UP.all(), Page::first(999)).await.unwrap().len();
    (queued, missed)
}

/// A home whose peer has been away for so long that it fell behind, with some events before that.
async fn home_with_one_behind() -> (Home, ruma::OwnedRoomId) {
    let mut home = Home::new().await;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    home.start();
    home.set("one.example", Mode::Fails);
    for number in 0..70 {
        home.say(&room, &number.to_string()).await;
    }
    home.attempt().await;
    home.quiet().await;
    home.advance(BEHIND_AFTER_MS);
    home.attempt().await;
    home.quiet().await;
    assert_eq!(counts(&home).await, (0, 1));
    (home, room)
}

#[tokio::test]
async fn a_server_that_was_away_for_long_gets_the_newest_event_of_each_room() {
    let (mut home, room) = home_with_one_behind().await;
    let other = home.room().await;
    home.join(&other, "@a:one.example").await;
    for number in 100..150 {
        home.say(&room, &number.to_string()).await;
        home.say(&other, &format!("other {number}")).await;
    }
    home.quiet().await;
    assert_eq!(counts(&home).await, (0, 2), "it costs a row for each room");
    home.set("one.example", Mode::Takes);
    home.advance(BEHIND_AFTER_MS);
    let mut texts = home.attempt().await.texts();
    texts.sort();
    assert_eq!(texts, ["149", "other 149"]);
    home.rest(0).await;
    assert_eq!(counts(&home).await, (0, 0));
    home.say(&room, "as before").await;
    assert_eq!(home.attempt().await.texts(), ["as before"]);
}

#[tokio::test]
async fn it_falls_behind_again_if_it_does_not_answer_then() {
    let (mut home, room) = home_with_one_behind().await;
    home.advance(BEHIND_AFTER_MS);
    assert_eq!(home.attempt().await.texts(), ["69"]);
    home.say(&room, "later").await;
    home.quiet().await;
    home.set("one.example", Mode::Takes);
    home.advance(BEHIND_AFTER_MS);
    assert_eq!(home.attempt().await.texts(), ["later"]);
    home.rest(0).await;
    assert_eq!(counts(&home).await, (0, 0));
}

#[tokio::test]
async fn a_restart_forgets_nothing_of_it() {
    let (mut home, room) = home_with_one_behind().await;
    home.stop().await;
    home.say(&room, "while down").await;
    home.set("one.example", Mode::Takes);
    home.start();
    home.quiet().await;
    home.nothing_was_sent();
    home.advance(BEHIND_AFTER_MS);
    let mut texts = home.attempt().await.texts();
    if texts == ["69"] {
        texts = home.attempt().await.texts();
    }
    assert_eq!(texts, ["while down"]);
    home.rest(0).await;
    assert_eq!(counts(&home).await, (0, 0));
}

#[tokio::test]
async fn one_who_was_thrown_out_meanwhile_learns_that_and_not_what_came_after() {
    let (mut home, room) = home_with_one_behind().await;
    let alice = user("alice");
    home.rooms.kick(&alice, &room, &user("@a:one.example"), None).await.unwrap();
    for number in 200..210 {
        home.say(&room, &number.to_string()).await;
    }
    home.quiet().await;
    home.set("one.example", Mode::Takes);
    home.advance(BEHIND_AFTER_MS);
    assert_eq!(home.attempt().await.texts(), ["@a:one.example leave"]);
    home.rest(0).await;
    home.nothing_was_sent();
}

#[tokio::test]
async fn more_rooms_than_fit_take_several_transactions() {
    let mut home = Home::new().await;
    let mut rooms = Vec::new();
    for _ in 0..60 {
        let room = home.room().await;
        home.join(&room, "@a:one.example").await;
        rooms.push(room);
    }
    home.start();
    home.set("one.example", Mode::Fails);
    for room in &rooms {
        home.say(room, "missed").await;
    }
    home.attempt().await;
    home.quiet().await;
    home.advance(BEHIND_AFTER_MS);
    home.attempt().await;
    home.quiet().await;
    assert_eq!(counts(&home).await, (0, 60));
    home.set("one.example", Mode::Takes);
    home.advance(BEHIND_AFTER_MS);
    let texts: Vec<_> = [home.attempt().await.texts(), home.attempt().await.texts()].concat();
    assert_eq!(texts.len(), 60);
    home.rest(0).await;
    assert_eq!(counts(&home).await, (0, 0));
}

//! Typing, receipts and presence.

use ruma::{
    events::receipt::{ReceiptThread, ReceiptType},
    presence::PresenceState,
};
use serde_json::json;

use super::kit::{Home, Mode, user};

async fn home_with_one() -> (Home, ruma::OwnedRoomId) {
    let mut home = Home::new().await;
    home.config.sends_presence = true;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    (home, room)
}

#[tokio::test]
async fn typing_is_told_when_it_begins_and_ends() {
    let (mut home, room) = home_with_one().await;
    home.start();
    let alice = user("alice");
    for (timeout_ms, typing) in [(Some(30_000), true), (None, false)] {
        home.rooms.set_typing(&alice, &room, timeout_ms).await.unwrap();
        let expected = json!({ "room_id": room, "user_id": alice, "typing": typing });
        assert_eq!(home.attempt().await.edus("m.typing"), [expected]);
    }
    // What others type is not ours to tell.
    let remote = user("@a:one.example");
    home.rooms.receive_typing(remote.server_name(), &room, &remote, true).await.unwrap();
    assert_eq!(home.rooms.typing(&room).1, [remote]);
    home.rooms.set_typing(&alice, &room, Some(30_000)).await.unwrap();
    assert_eq!(home.attempt().await.edus("m.typing").len(), 1);
}

#[tokio::test]
async fn public_receipts_are_told_and_private_ones_are_not() {
    let (mut home, room) = home_with_one().await;
    let said = home.say(&room, "hello").await;
    home.join_local(&room, "bob").await;
    home.start();
    let bob = user("bob");
    for kind in [ReceiptType::ReadPrivate, ReceiptType::Read] {
        let thread = ReceiptThread::Unthreaded;
        home.rooms.send_receipt(&bob, &room, kind, &said, thread).await.unwrap();
    }
    let receipts = home.attempt().await.edus("m.receipt");
    let ts = 1_700_000_000_000_u64;
    let of_bob = json!({ "@bob:home.example": { "data": { "ts": ts }, "event_ids": [said] } });
    assert_eq!(receipts, [json!({ room.as_str(): { "m.read": of_bob } })]);
    home.rest(0).await;
    home.nothing_was_sent();
}

#[tokio::test]
async fn presence_is_told_to_those_who_share_a_room_and_to_those_who_come() {
    let (mut home, room) = home_with_one().await;
    home.start();
    let alice = user("alice");
    home.users.set_presence(&alice, PresenceState::Online, Some("hi".into())).await.unwrap();
    let attempt = home.attempt().await;
    assert_eq!(attempt.server, "one.example");
    let expected = json!({ "push": [{
        "user_id": alice, "presence": "online", "status_msg": "hi",
        "last_active_ago": 0, "currently_active": true,
    }] });
    assert_eq!(attempt.edus("m.presence"), std::slice::from_ref(&expected));
    home.join(&room, "@b:two.example").await;
    let mut attempts = home.attempts(2).await;
    assert_eq!(attempts.remove("two.example").unwrap().edus("m.presence"), [expected]);
    assert_eq!(attempts["one.example"].texts(), ["@b:two.example join"]);
    home.users.set_presence(&user("nobody"), PresenceState::Online, None).await.unwrap();
    home.rest(0).await;
    home.nothing_was_sent();
}

#[tokio::test]
async fn a_server_that_is_away_learns_no_more_who_typed_meanwhile() {
    let (mut home, room) = home_with_one().await;
    home.config.sends_presence = false;
    let said = home.say(&room, "hello").await;
    home.start();
    home.set("one.example", Mode::Fails);
    home.rooms.set_typing(&user("alice"), &room, Some(30_000)).await.unwrap();
    assert!(!home.attempt().await.came_through);
    home.quiet().await;
    let (bob, thread) = (user("bob"), ReceiptThread::Unthreaded);
    home.join_local(&room, "bob").await;
    home.rooms.set_typing(&bob, &room, Some(30_000)).await.unwrap();
    home.rooms.send_receipt(&bob, &room, ReceiptType::Read, &said, thread).await.unwrap();
    home.set("one.example", Mode::Takes);
    // Too late to send the same transaction again.
    home.advance(70_000);
    let attempt = home.attempt().await;
    assert!(attempt.edus("m.typing").is_empty());
    assert_eq!(attempt.texts(), ["@bob:home.example join"]);
}

//! What wakes a client that waits, and what does not.

use std::time::Duration;

use rooms::Profile;
use ruma::{
    UserId, api::client::sync::sync_events::v3::Response, events::receipt::ReceiptThread,
    presence::PresenceState,
};
use serde_json::{json, value::to_raw_value};
use tokio::task::JoinHandle;

use super::{Home, client::Client, user};
use crate::SyncRequest;

/// A sync that waits for a minute of the paused clock.
async fn wait(home: &Home, client: &Client) -> JoinHandle<Response> {
    let syncing = home.syncing.clone();
    let request = SyncRequest { timeout_ms: 60_000, ..client.request.clone() };
    let task = tokio::spawn(async move { syncing.sync(request).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!task.is_finished(), "there was something new already");
    task
}

async fn soon(task: JoinHandle<Response>) -> Response {
    let wait = Duration::from_secs(5);
    tokio::time::timeout(wait, task).await.expect("the client should be woken").unwrap()
}

/// A home with a room of two, whose second has a client that is up to date.
async fn scene() -> (Home, ruma::OwnedRoomId, Client) {
    let home = Home::new().await;
    let room = home.room(&user("alice")).await;
    home.join(&user("bob"), &room).await.unwrap();
    let mut client = Client::new(&user("bob"), json!({}));
    client.sync(&home).await;
    (home, room, client)
}

#[tokio::test(start_paused = true)]
async fn a_message_wakes_the_members() {
    let (home, room, client) = scene().await;
    let waiting = wait(&home, &client).await;
    let event_id = home.say(&user("alice"), &room, "hi").await;
    let response = soon(waiting).await;
    let events = &response.rooms.join[&room].timeline.events;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].get_field::<String>("event_id").unwrap(), Some(event_id.to_string()));
}

#[tokio::test(start_paused = true)]
async fn an_invite_wakes_the_invited_and_a_kick_the_kicked() {
    let (home, room, client) = scene().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let other = home.room(&alice).await;
    let waiting = wait(&home, &client).await;
    home.rooms.invite(&alice, &other, &bob, Profile::default(), None, false).await.unwrap();
    let response = soon(waiting).await;
    assert!(response.rooms.invite.contains_key(&other));
    let mut client = client;
    client.request.since = Some(response.next_batch.parse().unwrap());
    let waiting = wait(&home, &client).await;
    home.rooms.kick(&alice, &room, &bob, None).await.unwrap();
    assert!(soon(waiting).await.rooms.leave.contains_key(&room));
}

#[tokio::test(start_paused = true)]
async fn typing_receipts_account_data_and_presence_wake() {
    let (home, room, client) = scene().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let waiting = wait(&home, &client).await;
    home.rooms.set_typing(&alice, &room, Some(10_000)).await.unwrap();
    let response = soon(waiting).await;
    assert_eq!(response.rooms.join[&room].ephemeral.events.len(), 1);

    let mut client = client;
    client.request.since = Some(response.next_batch.parse().unwrap());
    let event_id = home.say(&alice, &room, "hi").await;
    client.sync(&home).await;
    let waiting = wait(&home, &client).await;
    let kind = ruma::events::receipt::ReceiptType::Read;
    home.rooms
        .send_receipt(&alice, &room, kind, &event_id, ReceiptThread::Unthreaded)
        .await
        .unwrap();
    let response = soon(waiting).await;
    assert!(response.rooms.join[&room].timeline.events.is_empty());
    assert_eq!(response.rooms.join[&room].ephemeral.events.len(), 1);

    client.request.since = Some(response.next_batch.parse().unwrap());
    let waiting = wait(&home, &client).await;
    let content = to_raw_value(&json!({ "x": 1 })).unwrap();
    home.users.set_account_data(&bob, None, "org.example", &content).await.unwrap();
    let response = soon(waiting).await;
    assert_eq!(response.account_data.events.len(), 1);

    client.request.since = Some(response.next_batch.parse().unwrap());
    let waiting = wait(&home, &client).await;
    home.users.set_presence(&alice, PresenceState::Unavailable, None).await.unwrap();
    let response = soon(waiting).await;
    assert_eq!(response.presence.events.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_theirs_does_not_wake() {
    let (home, room, client) = scene().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let event_id = home.say(&alice, &room, "hi").await;
    let mut client = client;
    client.sync(&home).await;
    let other = home.room(&alice).await;
    let waiting = wait(&home, &client).await;
    home.say(&alice, &other, "not for bob").await;
    home.users.set_presence(&user("stranger"), PresenceState::Online, None).await.unwrap();
    let kind = ruma::events::receipt::ReceiptType::ReadPrivate;
    let unthreaded = ReceiptThread::Unthreaded;
    home.rooms.send_receipt(&alice, &room, kind, &event_id, unthreaded).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!waiting.is_finished());
    home.join(&bob, &other).await.unwrap();
    assert!(soon(waiting).await.rooms.join.contains_key(&other));
}

#[tokio::test(start_paused = true)]
async fn the_timeout_answers_with_a_newer_token() {
    let (home, _, client) = scene().await;
    let other = home.room(&user("alice")).await;
    let waiting = wait(&home, &client).await;
    home.say(&user("alice"), &other, "not for bob").await;
    let response = waiting.await.unwrap();
    assert!(response.rooms.is_empty());
    assert!(
        response.next_batch.parse::<crate::SyncToken>().unwrap() > client.request.since.unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn shutting_down_answers_at_once() {
    let (home, _, client) = scene().await;
    let waiting = wait(&home, &client).await;
    home.syncing.shutdown();
    let response = tokio::time::timeout(Duration::from_millis(100), waiting).await;
    assert!(response.unwrap().unwrap().rooms.is_empty());
    home.syncing.stop().await;
    // One that comes later does not wait either.
    let late = SyncRequest { timeout_ms: 60_000, ..client.request.clone() };
    let late = tokio::time::timeout(Duration::from_millis(100), home.syncing.sync(late)).await;
    late.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_from_the_future_is_refused() {
    let (home, _, client) = scene().await;
    let mut request = client.request.clone();
    let since = request.since.unwrap();
    request.since = Some(crate::SyncToken { position: rooms::Position::new(1 << 40), ..since });
    let refused = home.syncing.sync(request).await;
    assert!(matches!(refused, Err(crate::SyncError::BadToken { .. })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_syncs_goes_offline_before_the_others_eyes() {
    let (home, room, mut client) = scene().await;
    let carol: &UserId = &user("carol");
    home.join(carol, &room).await.unwrap();
    let mut carols = Client::new(carol, json!({}));
    carols.sync(&home).await;
    let response = client.sync(&home).await;
    let is_carol = |state: &str| {
        let state = state.to_owned();
        move |response: &Response| {
            response.presence.events.iter().any(|event| {
                let event = event.deserialize().unwrap();
                event.sender == *carol && event.content.presence.as_str() == state
            })
        }
    };
    assert!(is_carol("online")(&response));
    home.users.sweep_presence();
    assert!(client.sync(&home).await.presence.events.is_empty());
}

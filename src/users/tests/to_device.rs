//! Messages from device to device.

use std::collections::BTreeMap;

use ruma::{
    DeviceId, UserId, api::federation::transactions::edu::DirectDeviceContent, device_id,
    serde::Raw, server_name, to_device::DeviceIdOrAllDevices, user_id,
};
use serde_json::{json, value::to_raw_value};
use store::{Batch, Position};

use super::Home;
use crate::{Inbox, ToDevice, ToDeviceMessages, UsersError};

const NEWEST: Position = Position::new(u64::MAX - 1);

fn messages(text: &str, user_id: &UserId, device: &str) -> ToDeviceMessages {
    let device = DeviceIdOrAllDevices::try_from(device).unwrap();
    let content = Raw::from_json(to_raw_value(&json!({ "text": text })).unwrap());
    BTreeMap::from([(user_id.to_owned(), BTreeMap::from([(device, content)]))])
}

/// A message that says the name of its transaction.
pub(super) fn message(txn_id: &str, user_id: &UserId, device: &str) -> ToDevice {
    let messages = messages(txn_id, user_id, device);
    ToDevice { kind: "m.test".into(), txn_id: txn_id.to_owned(), messages }
}

async fn inbox(home: &Home, user_id: &UserId, device: &DeviceId, after: Position) -> Inbox {
    home.users.inbox(user_id, device, after, NEWEST, 2).await.unwrap()
}

fn texts(inbox: &Inbox) -> Vec<String> {
    let text = |event: &Raw<_>| {
        let event: serde_json::Value = serde_json::from_str(event.json().get()).unwrap();
        event["content"]["text"].as_str().unwrap().to_owned()
    };
    inbox.events.iter().map(text).collect()
}

#[tokio::test]
async fn messages_wait_until_they_are_acknowledged() {
    let home = Home::new().await;
    let (alice, bob) = (home.sign_up("alice").await, home.sign_up("bob").await);
    home.log_in(&bob, "B").await;
    let b = device_id!("B");
    assert!(inbox(&home, &bob, b, Position::ZERO).await.events.is_empty());
    for txn_id in ["1", "2", "2", "3"] {
        let message = message(txn_id, &bob, "B");
        home.users.send_to_device(&alice, device_id!("A"), &message).await.unwrap();
    }
    home.users.send_to_device(&alice, device_id!("A"), &message("4", &bob, "C")).await.unwrap();
    let first = inbox(&home, &bob, b, Position::ZERO).await;
    assert_eq!((texts(&first), first.more), (vec!["1".to_owned(), "2".to_owned()], true));
    // The answer was lost.
    assert_eq!(texts(&inbox(&home, &bob, b, Position::ZERO).await), ["1", "2"]);
    home.users.acknowledge_inbox(&bob, b, first.upto).await.unwrap();
    let second = inbox(&home, &bob, b, first.upto).await;
    assert_eq!((texts(&second), second.more), (vec!["3".to_owned()], false));
    assert_eq!(second.upto, NEWEST);
    home.users.acknowledge_inbox(&bob, b, second.upto).await.unwrap();
    assert!(inbox(&home, &bob, b, Position::ZERO).await.events.is_empty());
    home.users.send_to_device(&alice, device_id!("A"), &message("5", &bob, "*")).await.unwrap();
    assert_eq!(texts(&inbox(&home, &bob, b, Position::ZERO).await), ["5"]);
}

#[tokio::test]
async fn a_message_from_another_server_comes_once_and_from_its_own_users_only() {
    let home = Home::new().await;
    let bob = home.sign_up("bob").await;
    home.log_in(&bob, "B").await;
    let mut content = DirectDeviceContent::new(
        user_id!("@eve:far.example").to_owned(),
        "m.test".into(),
        "m1".into(),
    );
    content.messages = messages("hi", &bob, "*");
    let refused = home.users.receive_to_device(server_name!("else.example"), &content).await;
    assert!(matches!(refused, Err(UsersError::Forbidden { .. })));
    for _ in 0..2 {
        home.users.receive_to_device(server_name!("far.example"), &content).await.unwrap();
    }
    assert_eq!(texts(&inbox(&home, &bob, device_id!("B"), Position::ZERO).await), ["hi"]);
}

#[tokio::test]
async fn messages_for_another_server_wait_until_they_are_sent() {
    let home = Home::new().await;
    let alice = home.sign_up("alice").await;
    let far = server_name!("far.example");
    let eve = user_id!("@eve:far.example");
    for txn_id in ["1", "2", "2"] {
        let message = message(txn_id, eve, "*");
        home.users.send_to_device(&alice, device_id!("A"), &message).await.unwrap();
    }
    let waiting = home.users.to_device_out(far, 10).await.unwrap();
    assert_eq!(waiting.len(), 2);
    let first: DirectDeviceContent = serde_json::from_str(waiting[0].content.get()).unwrap();
    assert_eq!((&*first.sender, first.messages.len()), (&*alice, 1));
    let mut batch = Batch::new();
    home.users.stage_to_device_sent(&mut batch, far, &waiting[..1]);
    home.store.commit(batch).await.unwrap();
    assert_eq!(home.users.to_device_out(far, 10).await.unwrap().len(), 1);
}

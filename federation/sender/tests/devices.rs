//! What other servers are told of devices.

use std::collections::BTreeMap;

use ruma::{device_id, serde::Raw, to_device::DeviceIdOrAllDevices};
use serde_json::{json, value::to_raw_value};
use store::Page;
use users::{NewAccount, NewDevice, ToDevice, TokenStyle};

use super::kit::{Home, Mode, user};
use crate::sender::{outcome::BEHIND_AFTER_MS, tables::EDUS};

/// Sends a message to all devices of somebody.
async fn send(home: &Home, to: &str, number: u32) {
    let content = Raw::from_json(to_raw_value(&json!({ "n": number })).unwrap());
    let devices = BTreeMap::from([(DeviceIdOrAllDevices::AllDevices, content)]);
    let message = ToDevice {
        kind: "m.test".into(),
        txn_id: format!("txn{number}"),
        messages: BTreeMap::from([(user(to), devices)]),
    };
    home.users.send_to_device(&user("alice"), device_id!("ALICE"), &message).await.unwrap();
}

#[tokio::test]
async fn messages_for_devices_wait_for_the_server_and_outlast_a_restart() {
    let mut home = Home::new().await;
    home.start();
    home.set("one.example", Mode::Fails);
    send(&home, "@a:one.example", 1).await;
    assert!(!home.attempt().await.came_through);
    for number in 2..=40 {
        send(&home, "@a:one.example", number).await;
    }
    home.quiet().await;
    home.stop().await;
    home.set("one.example", Mode::Takes);
    home.start();
    let mut numbers = Vec::new();
    while numbers.len() < 40 {
        for content in home.attempt().await.edus("m.direct_to_device") {
            assert_eq!(content["sender"], "@alice:home.example");
            numbers.push(content["messages"]["@a:one.example"]["*"]["n"].as_u64().unwrap());
        }
    }
    assert_eq!(numbers, (1..=40).collect::<Vec<_>>());
    home.rest(0).await;
    let one = user("@a:one.example");
    assert!(home.users.to_device_out(one.server_name(), 9).await.unwrap().is_empty());
}

#[tokio::test]
async fn changes_of_devices_are_told_once_and_wait_for_the_server() {
    let mut home = Home::new().await;
    let room = home.room().await;
    home.join(&room, "@a:one.example").await;
    let account = NewAccount {
        localpart: Some("alice".to_owned()),
        password: Some("a long password".to_owned()),
        ..NewAccount::default()
    };
    let alice = home.users.create_account(account).await.unwrap();
    let account = home.users.account(&alice).await.unwrap().unwrap();
    let device = NewDevice {
        device_id: Some("ALICE".into()),
        display_name: Some("first".to_owned()),
        style: TokenStyle::Lasting,
    };
    home.users.log_in(&account, device).await.unwrap();
    home.start();
    let rename = async |home: &Home, name: &str| {
        let name = Some(name.to_owned());
        home.users.rename_device(&alice, device_id!("ALICE"), name).await.unwrap();
    };
    rename(&home, "second").await;
    let updates = home.attempt().await.edus("m.device_list_update");
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0]["user_id"], "@alice:home.example");
    assert_eq!(updates[0]["device_display_name"], "second");
    home.rest(0).await;
    home.set("one.example", Mode::Fails);
    for number in 0..50 {
        rename(&home, &number.to_string()).await;
    }
    assert!(!home.attempt().await.came_through);
    home.quiet().await;
    home.advance(BEHIND_AFTER_MS);
    assert!(!home.attempt().await.came_through);
    home.quiet().await;
    let rows = home.store.scan(&EDUS, EDUS.all(), Page::first(99)).await.unwrap();
    assert_eq!(rows.len(), 1, "one change suffices to let a server that was away ask for the list");
    home.set("one.example", Mode::Takes);
    home.advance(BEHIND_AFTER_MS);
    let attempt = home.attempt().await;
    assert_eq!(attempt.edus("m.device_list_update")[0]["device_display_name"], "49");
}

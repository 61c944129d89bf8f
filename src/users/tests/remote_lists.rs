//! Devices of other servers' users: fetched once, kept right, fetched again after a gap.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName, UserId,
    api::federation::transactions::edu::DeviceListUpdateContent, serde::Raw, server_name, user_id,
};
use serde_json::{Value as JsonValue, json, value::to_raw_value};
use store::Store;
use tokio::sync::Notify;

use super::Home;
use crate::{
    ClaimedKeys, KeyClaims, KeysQuery, Remote, RemoteDevices, RemoteError, RemoteKeys,
    RemoteResult, SharesRoom, UsersError,
};

/// A server with one device for each of its users, that counts the questions.
#[derive(Debug, Default)]
struct Far {
    questions: Mutex<Vec<&'static str>>,
    /// Told whenever somebody asked for devices.
    asked: Notify,
    down: Mutex<bool>,
}

impl Far {
    fn ask(&self, question: &'static str, server: &ServerName) -> RemoteResult<()> {
        self.questions.lock().unwrap().push(question);
        if *self.down.lock().unwrap() {
            let why = "it is down".to_owned();
            return Err(RemoteError::Unavailable { server: server.to_owned(), why });
        }
        Ok(())
    }

    fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.questions.lock().unwrap())
    }
}

fn keys<T>(user_id: &UserId, device: &str) -> Raw<T> {
    let json = json!({
        "user_id": user_id, "device_id": device, "algorithms": [], "keys": { "ed25519:D": "x" },
        "signatures": {}, "unsigned": { "device_display_name": "far" },
    });
    Raw::from_json(to_raw_value(&json).unwrap())
}

#[async_trait]
impl Remote for Far {
    async fn profile(
        &self,
        user: &UserId,
        _: Option<&str>,
    ) -> RemoteResult<BTreeMap<String, JsonValue>> {
        self.ask("profile", user.server_name())?;
        Ok(BTreeMap::from([("displayname".to_owned(), json!("Eve"))]))
    }

    async fn devices(&self, user: &UserId) -> RemoteResult<RemoteDevices> {
        self.asked.notify_one();
        self.ask("devices", user.server_name())?;
        Ok(RemoteDevices {
            stream_id: 7,
            devices: vec![("D7".into(), Some(keys(user, "D7")), Some("seven".to_owned()))],
            master_key: None,
            self_signing_key: None,
        })
    }

    async fn query_keys(
        &self,
        server: &ServerName,
        users: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> RemoteResult<RemoteKeys> {
        self.ask("keys", server)?;
        let mut answer = RemoteKeys::default();
        for (user_id, _) in users {
            let devices = BTreeMap::from([("D1".into(), keys(&user_id, "D1"))]);
            answer.device_keys.insert(user_id, devices);
        }
        // It speaks of others, too.
        let other = user_id!("@alice:localhost");
        let devices = BTreeMap::from([("X".into(), keys(other, "X"))]);
        answer.device_keys.insert(other.to_owned(), devices);
        Ok(answer)
    }

    async fn claim_keys(&self, server: &ServerName, _: KeyClaims) -> RemoteResult<ClaimedKeys> {
        self.ask("claim", server)?;
        Ok(ClaimedKeys::new())
    }
}

fn eve() -> &'static UserId {
    user_id!("@eve:far.example")
}

async fn among() -> (Home, Arc<Far>, OwnedUserId) {
    let far = Arc::new(Far::default());
    let home = Home::among(Store::memory(), Arc::clone(&far) as _).await;
    let alice = home.sign_up("alice").await;
    (home, far, alice)
}

/// The devices that a client is told of, and whether the other server failed.
async fn devices(home: &Home, alice: &UserId, shared: bool) -> (Vec<String>, bool) {
    let query = KeysQuery {
        users: BTreeMap::from([(eve().to_owned(), Vec::new())]),
        shared: if shared { BTreeSet::from([eve().to_owned()]) } else { BTreeSet::new() },
        timeout: Duration::from_secs(10),
    };
    let answer = home.users.query_keys(alice, query).await.unwrap();
    assert!(answer.device_keys.keys().all(|user_id| user_id == eve()));
    let devices = answer.device_keys.get(eve()).into_iter().flatten();
    (devices.map(|(id, _)| id.to_string()).collect(), !answer.failures.is_empty())
}

fn update(stream_id: u32, prev_id: &[u32], device: &str) -> DeviceListUpdateContent {
    let mut content =
        DeviceListUpdateContent::new(eve().to_owned(), device.into(), stream_id.into());
    content.prev_id = prev_id.iter().map(|prev| (*prev).into()).collect();
    content.keys = Some(keys(eve(), device));
    content
}

async fn receive(home: &Home, content: &DeviceListUpdateContent) {
    let far = server_name!("far.example");
    home.users.receive_device_list_update(far, content, SharesRoom::Yes).await.unwrap();
}

#[tokio::test]
async fn a_list_is_fetched_once_while_a_room_is_shared() {
    let (home, far, alice) = among().await;
    for _ in 0..2 {
        assert_eq!(devices(&home, &alice, false).await, (vec!["D1".to_owned()], false));
    }
    assert_eq!(far.asked(), ["keys", "keys"]);
    let (one, two) = tokio::join!(devices(&home, &alice, true), devices(&home, &alice, true));
    assert_eq!((one.0.len(), two.0.len()), (1, 1));
    devices(&home, &alice, true).await;
    assert_eq!(far.asked(), ["keys"]);
    home.users.distrust_remote_list(eve()).await.unwrap();
    devices(&home, &alice, true).await;
    assert_eq!(far.asked(), ["keys"]);
}

#[tokio::test]
async fn updates_are_applied_in_order_and_a_gap_is_filled() {
    let (home, far, alice) = among().await;
    devices(&home, &alice, true).await;
    assert_eq!(far.asked(), ["keys"]);
    let begin = home.store.position();
    // The list was fetched without a number: the first update makes it be fetched with one.
    receive(&home, &update(3, &[2], "D3")).await;
    far.asked.notified().await;
    assert_eq!(devices(&home, &alice, true).await.0, ["D7"]);
    assert_eq!(far.asked(), ["devices"]);
    receive(&home, &update(8, &[7], "D8")).await;
    assert_eq!(devices(&home, &alice, true).await.0, ["D7", "D8"]);
    let mut gone = update(9, &[8], "D7");
    gone.deleted = Some(true);
    receive(&home, &gone).await;
    receive(&home, &gone).await;
    assert_eq!(devices(&home, &alice, true).await.0, ["D8"]);
    assert!(far.asked().is_empty());
    let changes = home.users.device_list_changes(begin, home.store.position()).await.unwrap();
    assert_eq!(changes, [eve().to_owned()]);
    // Something was missed, and nobody can tell what: nothing old is shown.
    *far.down.lock().unwrap() = true;
    receive(&home, &update(11, &[10], "D11")).await;
    far.asked.notified().await;
    assert_eq!(devices(&home, &alice, true).await, (vec![], true));
    *far.down.lock().unwrap() = false;
    assert_eq!(devices(&home, &alice, true).await, (vec!["D1".to_owned()], false));
}

#[tokio::test]
async fn a_server_speaks_of_its_own_users_only() {
    let (home, _, alice) = among().await;
    let begin = home.store.position();
    let mut content = update(1, &[], "D");
    content.user_id = alice;
    let far = server_name!("far.example");
    let refused = home.users.receive_device_list_update(far, &content, SharesRoom::Yes).await;
    assert!(matches!(refused, Err(UsersError::Forbidden { .. })));
    // Of one who shares no room, and of whom nothing is known, nothing is written.
    let unknown = update(1, &[], "D");
    home.users.receive_device_list_update(far, &unknown, SharesRoom::No).await.unwrap();
    assert_eq!(home.store.position(), begin);
}

#[tokio::test]
async fn a_profile_is_remembered_for_a_minute() {
    let (home, far, _) = among().await;
    for _ in 0..2 {
        let profile = home.users.profile_of(eve()).await.unwrap().unwrap();
        assert_eq!(profile["displayname"], "Eve");
    }
    assert_eq!(far.asked(), ["profile"]);
    home.clock.advance(60_000);
    home.users.profile_of(eve()).await.unwrap();
    assert_eq!(far.asked(), ["profile"]);
    assert_eq!(home.users.profile_of(user_id!("@no:localhost")).await.unwrap(), None);
}

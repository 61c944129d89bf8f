//! Users on the memory engine, with a clock that the tests move.

mod account_data;
mod accounts;
mod backup;
mod keys;
mod profiles;
mod remote_lists;
mod sessions;
mod signing;
mod to_device;

use std::sync::Arc;

use clock::ManualClock;
use ruma::{OwnedUserId, server_name};
use store::Store;

use crate::{Account, Login, NewAccount, NewDevice, Remote, TokenStyle, Users, UsersConfig};

/// A server's users, and its clock.
pub(crate) struct Home {
    pub(crate) users: Users,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Store,
}

impl Home {
    pub(crate) async fn new() -> Self {
        Self::on(Store::memory()).await
    }

    /// On a store of the test's choosing.
    pub(crate) async fn on(store: Store) -> Self {
        Self::among(store, Arc::new(crate::Nobody)).await
    }

    /// With other servers.
    pub(crate) async fn among(store: Store, remote: Arc<dyn Remote>) -> Self {
        let clock = Arc::new(ManualClock::new(1_700_000_000_000));
        let users = open(&store, &clock, remote).await;
        Self { users, clock, store }
    }

    /// The same store, opened anew: nothing is cached.
    pub(crate) async fn reopened(&self) -> Users {
        open(&self.store, &self.clock, Arc::new(crate::Nobody)).await
    }

    pub(crate) async fn sign_up(&self, name: &str) -> OwnedUserId {
        self.users.create_account(new_account(name)).await.unwrap()
    }

    pub(crate) async fn account(&self, user_id: &OwnedUserId) -> Account {
        self.users.account(user_id).await.unwrap().unwrap()
    }

    pub(crate) async fn log_in(&self, user_id: &OwnedUserId, device: &str) -> Login {
        self.log_in_as(user_id, device, TokenStyle::Lasting).await
    }

    pub(crate) async fn log_in_as(
        &self,
        user_id: &OwnedUserId,
        device: &str,
        style: TokenStyle,
    ) -> Login {
        let account = self.account(user_id).await;
        let device = NewDevice {
            device_id: Some(device.into()),
            display_name: Some(format!("{device}'s name")),
            style,
        };
        self.users.log_in(&account, device).await.unwrap()
    }

    pub(crate) async fn device_names(&self, user_id: &OwnedUserId) -> Vec<String> {
        let devices = self.users.list_devices(user_id).await.unwrap();
        devices.into_iter().map(|device| device.device_id.to_string()).collect()
    }
}

pub(crate) fn new_account(name: &str) -> NewAccount {
    NewAccount {
        localpart: Some(name.to_owned()),
        password: Some(format!("{name}'s password")),
        ..NewAccount::default()
    }
}

async fn open(store: &Store, clock: &Arc<ManualClock>, remote: Arc<dyn Remote>) -> Users {
    let config = UsersConfig {
        server_name: server_name!("localhost").to_owned(),
        argon2_memory_kib: 8,
        argon2_iterations: 1,
        remote,
    };
    Users::open(store.clone(), config, Arc::clone(clock) as _).await.unwrap()
}

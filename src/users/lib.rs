//! Who the users of this server are: accounts, sessions, devices, profiles, account data, filters,
//! push rules, presence.
//!
//! Every key begins with a user's ID; every accepted change is one batch. This crate does not know
//! HTTP or rooms.

mod account_data;
mod accounts;
mod cross_signing;
mod deactivation;
mod dehydrated;
mod device_cache;
mod device_keys;
mod device_lists;
mod devices;
mod error;
mod filters;
mod key_backup;
mod key_json;
mod log_row;
mod login_tokens;
mod one_time_keys;
mod openid;
mod passwords;
mod presence;
mod profiles;
mod push_rules;
mod remote;
mod remote_lists;
mod remote_profiles;
mod removal;
mod session_cache;
mod sessions;
mod signatures;
mod tables;
mod tags;
mod to_device;
mod tokens;
mod user_ids;
mod write;

#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic::AtomicU64};

use clock::Clock;
use ruma::{OwnedServerName, ServerName, UserId};
use store::Store;

use crate::{
    device_cache::DeviceCache, one_time_keys::KeyLocks, passwords::Passwords, presence::Presences,
    remote_lists::Fetching, remote_profiles::RemoteProfiles, session_cache::SessionCache,
};

pub use crate::{
    account_data::AccountDataRow,
    accounts::{Account, AccountKind, AdminRight, NewAccount},
    cross_signing::NewSigningKeys,
    deactivation::Erasure,
    dehydrated::NewDehydrated,
    device_keys::{NewDeviceKeys, QUERIED_USERS_MAX},
    devices::Device,
    error::{Result, TokenError, UsersError},
    key_backup::{Backup, BackupPart, BackupSelect},
    log_row::{LOG_TOPIC, UsersLogRow},
    login_tokens::LOGIN_TOKEN_LIFETIME_MS,
    one_time_keys::KeyCounts,
    openid::OPENID_TOKEN_LIFETIME_MS,
    passwords::{LogOut, check_new_password},
    presence::*,
    profiles::{
        AVATAR_URL_BYTES_MAX, DISPLAYNAME_BYTES_MAX, PROFILE_BYTES_MAX, PROFILE_KEY_BYTES_MAX,
    },
    push_rules::{RulePlace, RuleSwitch},
    remote::*,
    remote_lists::{KeysAnswer, KeysQuery, SharesRoom},
    sessions::{ACCESS_TOKEN_LIFETIME_MS, Login, NewDevice, Session, TokenStyle},
    signatures::{SignatureFailures, SignedKeys},
    to_device::{Inbox, OutgoingToDevice, ToDevice, ToDeviceMessages},
};

/// Settings of [`Users`].
#[derive(Clone, Debug)]
pub struct UsersConfig {
    /// The domain of the users' IDs.
    pub server_name: OwnedServerName,
    /// Memory that hashing one password takes (argon2id), in KiB.
    pub argon2_memory_kib: u32,
    /// Passes that hashing one password makes (argon2id).
    pub argon2_iterations: u32,
    /// Other servers.
    pub remote: Arc<dyn Remote>,
}

/// The users of this server: the one handle through which they are read and changed. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Users {
    inner: Arc<Inner>,
}

/// What all clones of [`Users`] share.
#[derive(Debug)]
struct Inner {
    store: Store,
    config: UsersConfig,
    clock: Arc<dyn Clock>,
    passwords: Passwords,
    sessions: SessionCache,
    presence: Presences,
    key_locks: KeyLocks,
    key_counts: DeviceCache<KeyCounts>,
    /// Devices that no message waits for.
    inboxes: DeviceCache<()>,
    fetching: Fetching,
    remote_profiles: RemoteProfiles,
    to_device_sent: AtomicU64,
}

impl Users {
    /// Opens the users kept in a store.
    ///
    /// # Errors
    /// [`UsersError::BadConfig`] when argon2 cannot work with the parameters.
    pub async fn open(store: Store, config: UsersConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        let passwords = Passwords::new(config.argon2_memory_kib, config.argon2_iterations)?;
        let presence = Presences::new(Arc::clone(&clock));
        let sessions = SessionCache::default();
        let inner = Inner {
            store,
            config,
            clock,
            passwords,
            sessions,
            presence,
            key_locks: KeyLocks::default(),
            key_counts: DeviceCache::default(),
            inboxes: DeviceCache::default(),
            fetching: Fetching::default(),
            remote_profiles: RemoteProfiles::default(),
            to_device_sent: AtomicU64::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name of this server, the domain of its users.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.inner.config.server_name
    }

    /// Whether a user belongs to this server.
    #[must_use]
    pub fn is_local(&self, user_id: &UserId) -> bool {
        user_id.server_name() == self.server_name()
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    fn now_ms(&self) -> u64 {
        self.inner.clock.now_ms()
    }
}

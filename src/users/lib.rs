//! Who the users of this server are: accounts, sessions, devices, profiles, account data, filters,
//! push rules, presence.
//!
//! Every key begins with a user's ID; every accepted change is one batch. This crate does not know
//! HTTP or rooms.

mod account_data;
mod accounts;
mod deactivation;
mod devices;
mod error;
mod filters;
mod log_row;
mod login_tokens;
mod passwords;
mod presence;
mod profiles;
mod push_rules;
mod remote;
mod session_cache;
mod sessions;
mod tables;
mod tags;
mod tokens;
mod user_ids;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use clock::Clock;
use ruma::{OwnedServerName, ServerName, UserId};
use store::Store;

use crate::{passwords::Passwords, presence::Presences, session_cache::SessionCache};

pub use crate::{
    account_data::AccountDataRow,
    accounts::{Account, AccountKind, AdminRight, NewAccount},
    deactivation::Erasure,
    devices::Device,
    error::{Result, TokenError, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    login_tokens::LOGIN_TOKEN_LIFETIME_MS,
    passwords::{LogOut, check_new_password},
    presence::*,
    profiles::{
        AVATAR_URL_BYTES_MAX, DISPLAYNAME_BYTES_MAX, PROFILE_BYTES_MAX, PROFILE_KEY_BYTES_MAX,
    },
    push_rules::{RulePlace, RuleSwitch},
    remote::*,
    sessions::{ACCESS_TOKEN_LIFETIME_MS, Login, NewDevice, Session, TokenStyle},
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
        let inner = Inner { store, config, clock, passwords, sessions, presence };
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

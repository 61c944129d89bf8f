//! What users ask of other servers. The crate `federation` answers; [`Nobody`] stands for a server
//! without federation.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedServerName, OwnedUserId,
    ServerName, UserId,
    encryption::{CrossSigningKey, DeviceKeys, OneTimeKey},
    serde::Raw,
};
use serde_json::Value as JsonValue;

/// What another server said, or why it said nothing of use.
pub type RemoteResult<T> = Result<T, RemoteError>;

/// Why another server could not help.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// It answered with an error.
    #[error("{server} answered {status} {errcode}: {message}")]
    Refused {
        /// The server.
        server: OwnedServerName,
        /// The HTTP status.
        status: u16,
        /// The Matrix error code; empty where it gave none.
        errcode: String,
        /// Its own words, cut to a bounded length.
        message: String,
    },
    /// It may not be talked to, could not be reached, or gave a bad answer.
    #[error("{server}: {why}")]
    Unavailable {
        /// The server.
        server: OwnedServerName,
        /// What happened, as a sentence for people.
        why: String,
    },
}

/// The devices of another server's user.
#[derive(Clone, Debug)]
pub struct RemoteDevices {
    /// The number of the newest change.
    pub stream_id: u64,
    /// Each device with its keys and its name.
    pub devices: Vec<(OwnedDeviceId, Option<Raw<DeviceKeys>>, Option<String>)>,
    /// The user's master key.
    pub master_key: Option<Raw<CrossSigningKey>>,
    /// The user's self-signing key.
    pub self_signing_key: Option<Raw<CrossSigningKey>>,
}

/// The keys of another server's users.
#[derive(Clone, Debug, Default)]
pub struct RemoteKeys {
    /// The keys of each device of each user.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>>,
    /// The master keys.
    pub master_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    /// The self-signing keys.
    pub self_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
}

/// One-time keys wanted: for each device of each user, the algorithm.
pub type KeyClaims = BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>>;

/// One-time keys given: for each device of each user.
pub type ClaimedKeys =
    BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>>>;

/// Other servers, as users see them.
#[async_trait]
pub trait Remote: Send + Sync + fmt::Debug {
    /// The profile of another server's user, or one field of it.
    async fn profile(
        &self,
        user: &UserId,
        field: Option<&str>,
    ) -> RemoteResult<BTreeMap<String, JsonValue>>;

    /// The devices of another server's user.
    async fn devices(&self, user: &UserId) -> RemoteResult<RemoteDevices>;

    /// The keys of a server's users; of a user without devices, those of all.
    async fn query_keys(
        &self,
        server: &ServerName,
        users: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> RemoteResult<RemoteKeys>;

    /// Takes one-time keys of a server's users.
    async fn claim_keys(&self, server: &ServerName, wanted: KeyClaims)
    -> RemoteResult<ClaimedKeys>;
}

/// Refuses everything: federation is switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

/// The answer to everything.
fn off<T>(server: &ServerName) -> RemoteResult<T> {
    let why = "federation is switched off".to_owned();
    Err(RemoteError::Unavailable { server: server.to_owned(), why })
}

#[async_trait]
impl Remote for Nobody {
    async fn profile(
        &self,
        user: &UserId,
        _: Option<&str>,
    ) -> RemoteResult<BTreeMap<String, JsonValue>> {
        off(user.server_name())
    }

    async fn devices(&self, user: &UserId) -> RemoteResult<RemoteDevices> {
        off(user.server_name())
    }

    async fn query_keys(
        &self,
        server: &ServerName,
        _: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> RemoteResult<RemoteKeys> {
        off(server)
    }

    async fn claim_keys(&self, server: &ServerName, _: KeyClaims) -> RemoteResult<ClaimedKeys> {
        off(server)
    }
}

//! Answering a client's question for keys, of users here and elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use ruma::{
    OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use store::Json;

use super::RemoteList;
use crate::{
    Users,
    device_keys::{QUERIED_USERS_MAX, UserKeys},
    error::{Result, UsersError},
    key_json::KeyObject,
    remote::{ClaimedKeys, KeyClaims, RemoteError, RemoteKeys},
    tables::REMOTE_LISTS,
};

/// Servers that are asked for one client at the same time.
const SERVERS_AT_ONCE: usize = 64;

/// Users of one server that are asked for in one request.
const USERS_PER_REQUEST: usize = 250;

/// What a client wants to know.
#[derive(Clone, Debug, Default)]
pub struct KeysQuery {
    /// Of whom, and of which of their devices; all where none is named.
    pub users: BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    /// Those of other servers' users who share a room with who asks: we are told when their devices
    /// change, so that the answer may be kept.
    pub shared: BTreeSet<OwnedUserId>,
    /// How long to wait for other servers.
    pub timeout: Duration,
}

/// What a client is told of keys.
#[derive(Clone, Debug, Default)]
pub struct KeysAnswer {
    /// The keys of each device of each user.
    pub device_keys: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>>,
    /// The master keys.
    pub master_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    /// The self-signing keys.
    pub self_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    /// The user-signing key of who asks.
    pub user_signing_keys: BTreeMap<OwnedUserId, Raw<CrossSigningKey>>,
    /// The servers that said nothing of use, and why.
    pub failures: BTreeMap<OwnedServerName, String>,
}

impl KeysAnswer {
    fn add(&mut self, user_id: OwnedUserId, keys: UserKeys) {
        self.master_keys.extend(keys.master.map(|key| (user_id.clone(), key)));
        self.self_signing_keys.extend(keys.self_signing.map(|key| (user_id.clone(), key)));
        self.user_signing_keys.extend(keys.user_signing.map(|key| (user_id.clone(), key)));
        self.device_keys.insert(user_id, keys.devices);
    }
}

/// What is known of a server's users, and why not all.
#[derive(Debug, Default)]
struct Told {
    keys: Vec<(OwnedUserId, UserKeys)>,
    failure: Option<RemoteError>,
}

/// One server's part of a query: users, their devices, and whether answers may be kept.
type Part = Vec<(OwnedUserId, Vec<OwnedDeviceId>, bool)>;

impl Users {
    /// The devices and keys of users here and on other servers. Users that are not there are left
    /// out.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] for too many users; when the store fails.
    pub async fn query_keys(&self, viewer: &UserId, query: KeysQuery) -> Result<KeysAnswer> {
        if query.users.len() > QUERIED_USERS_MAX {
            return Err(UsersError::TooLarge { what: "the number of users" });
        }
        let mut answer = KeysAnswer::default();
        let mut local = Vec::new();
        let mut remote: BTreeMap<&ServerName, Part> = BTreeMap::new();
        for (user_id, devices) in &query.users {
            if self.is_local(user_id) {
                local.push((user_id, devices.as_slice()));
            } else {
                let part = remote.entry(user_id.server_name()).or_default();
                part.push((user_id.clone(), devices.clone(), query.shared.contains(user_id)));
            }
        }
        for (user_id, keys) in self.keys_of_locals(Some(viewer), &local).await? {
            answer.add(user_id, keys);
        }
        let parts: Vec<_> = (remote.into_iter())
            .map(|(server, part)| self.query_server_within(server, part, query.timeout))
            .collect();
        let parts: Vec<_> = stream::iter(parts).buffer_unordered(SERVERS_AT_ONCE).collect().await;
        for part in parts {
            let (server, Told { keys, failure }) = part?;
            for (user_id, mut keys) in keys {
                self.sign_for(viewer, &user_id, &mut keys).await?;
                answer.add(user_id, keys);
            }
            answer.failures.extend(failure.map(|error| (server.to_owned(), error.to_string())));
        }
        Ok(answer)
    }

    /// Adds to a remote user's master key what the viewer has signed of it.
    async fn sign_for(&self, viewer: &UserId, user_id: &UserId, keys: &mut UserKeys) -> Result<()> {
        if let Some(mut master) = keys.master.as_ref().and_then(KeyObject::read) {
            self.add_own_signatures(viewer, user_id, &mut master).await?;
            keys.master = Some(master.raw()?);
        }
        Ok(())
    }

    /// The keys of one server's users: what is known and can be relied on, and the rest from it.
    async fn query_server_within<'a>(
        &self,
        server: &'a ServerName,
        part: Part,
        timeout: Duration,
    ) -> Result<(&'a ServerName, Told)> {
        let mut told = Told::default();
        let missing = self.take_known(part, &mut told.keys).await?;
        if !missing.is_empty() {
            match tokio::time::timeout(timeout, self.query_server(server, missing)).await {
                Ok(rest) => {
                    let rest = rest?;
                    told.keys.extend(rest.keys);
                    told.failure = rest.failure;
                }
                Err(_) => told.failure = Some(slow(server)),
            }
        }
        Ok((server, told))
    }

    /// The keys of one server's users, asked of it.
    async fn query_server(&self, server: &ServerName, missing: Part) -> Result<Told> {
        let mut told = Told::default();
        // One at a time asks a server for what is then kept, so that nothing is fetched twice.
        let (keepable, others): (Part, Part) = missing.into_iter().partition(|(.., keep)| *keep);
        if !keepable.is_empty() {
            let _turn = self.inner.fetching.turn(server).await;
            let missing = self.take_known(keepable, &mut told.keys).await?;
            for chunk in missing.chunks(USERS_PER_REQUEST) {
                match self.fetch_and_keep(server, chunk).await? {
                    Ok(keys) => told.keys.extend(keys),
                    Err(error) => return Ok(Told { failure: Some(error), ..told }),
                }
            }
        }
        for chunk in others.chunks(USERS_PER_REQUEST) {
            let wanted = chunk.iter().map(|(user, devices, _)| (user.clone(), devices.clone()));
            match self.inner.config.remote.query_keys(server, wanted.collect()).await {
                Ok(keys) => told.keys.extend(pick(chunk, &keys)?),
                Err(error) => return Ok(Told { failure: Some(error), ..told }),
            }
        }
        Ok(told)
    }

    /// Answers what can be from what is known, and gives the rest.
    async fn take_known(
        &self,
        part: Part,
        found: &mut Vec<(OwnedUserId, UserKeys)>,
    ) -> Result<Part> {
        let keys: Vec<String> = part.iter().map(|(user_id, ..)| user_id.to_string()).collect();
        let rows = self.store().multi_get(&REMOTE_LISTS, &keys).await?;
        let mut missing = Vec::new();
        for ((user_id, devices, keep), row) in part.into_iter().zip(rows) {
            match row {
                Some(Json(list)) if keep && list.fresh => {
                    found.push((user_id, list.keys(&devices)?));
                }
                _ => missing.push((user_id, devices, keep)),
            }
        }
        Ok(missing)
    }

    /// Asks a server for all devices of users, and keeps the answer unless something is told of
    /// them meanwhile.
    async fn fetch_and_keep(
        &self,
        server: &ServerName,
        part: &[(OwnedUserId, Vec<OwnedDeviceId>, bool)],
    ) -> Result<Result<Vec<(OwnedUserId, UserKeys)>, RemoteError>> {
        let users: Vec<OwnedUserId> = part.iter().map(|(user_id, ..)| user_id.clone()).collect();
        let rows: Vec<String> = users.iter().map(ToString::to_string).collect();
        let fetch = self.inner.fetching.begin(users.clone());
        let old = self.store().multi_get(&REMOTE_LISTS, &rows).await?;
        let wanted = users.iter().map(|user_id| (user_id.clone(), Vec::new())).collect();
        let keys = match self.inner.config.remote.query_keys(server, wanted).await {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(error)),
        };
        for (user_id, old) in users.iter().zip(&old) {
            if keys.device_keys.contains_key(user_id) && fetch.is_undisturbed(user_id) {
                let list = RemoteList::of_keys(user_id, &keys);
                self.keep_list(user_id, old.as_ref(), &list).await?;
                if !fetch.is_undisturbed(user_id) {
                    // News came while it was written.
                    self.distrust_remote_list(user_id).await?;
                }
            }
        }
        Ok(Ok(pick(part, &keys)?))
    }

    /// Claims one-time keys, here and on other servers. Devices without any are left out.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] for too many users; when the store fails.
    pub async fn claim_keys(
        &self,
        wanted: &KeyClaims,
        timeout: Duration,
    ) -> Result<(ClaimedKeys, BTreeMap<OwnedServerName, String>)> {
        if wanted.len() > QUERIED_USERS_MAX {
            return Err(UsersError::TooLarge { what: "the number of users" });
        }
        let mut remote: BTreeMap<OwnedServerName, KeyClaims> = BTreeMap::new();
        for (user_id, devices) in wanted.iter().filter(|(user_id, _)| !self.is_local(user_id)) {
            let part = remote.entry(user_id.server_name().to_owned()).or_default();
            part.insert(user_id.clone(), devices.clone());
        }
        let asked: Vec<_> = (remote.into_iter())
            .map(|(server, part)| self.claim_from(server, part, timeout))
            .collect();
        let asked = stream::iter(asked).buffer_unordered(SERVERS_AT_ONCE).collect::<Vec<_>>();
        let (local, asked) = tokio::join!(self.claim_local_keys(wanted), asked);
        let (mut claimed, mut failures) = (local?, BTreeMap::new());
        for (server, part, result) in asked {
            match result {
                Ok(keys) => claimed.extend(wanted_of(keys, &part)),
                Err(error) => drop(failures.insert(server, error.to_string())),
            }
        }
        Ok((claimed, failures))
    }

    async fn claim_from(
        &self,
        server: OwnedServerName,
        part: KeyClaims,
        timeout: Duration,
    ) -> (OwnedServerName, KeyClaims, Result<ClaimedKeys, RemoteError>) {
        let keys = self.inner.config.remote.claim_keys(&server, part.clone());
        let result =
            tokio::time::timeout(timeout, keys).await.unwrap_or_else(|_| Err(slow(&server)));
        (server, part, result)
    }
}

/// The keys of those who were asked for.
fn pick(
    part: &[(OwnedUserId, Vec<OwnedDeviceId>, bool)],
    keys: &RemoteKeys,
) -> Result<Vec<(OwnedUserId, UserKeys)>> {
    let there = part.iter().filter(|(user_id, ..)| keys.device_keys.contains_key(user_id));
    there
        .map(|(user_id, devices, _)| {
            Ok((user_id.clone(), RemoteList::of_keys(user_id, keys).keys(devices)?))
        })
        .collect()
}

/// What a server gave of what it was asked for.
fn wanted_of(mut keys: ClaimedKeys, part: &KeyClaims) -> ClaimedKeys {
    keys.retain(|user_id, devices| {
        let Some(wanted) = part.get(user_id) else { return false };
        devices.retain(|device_id, keys| {
            let Some(algorithm) = wanted.get(device_id) else { return false };
            keys.retain(|key_id, _| key_id.algorithm() == *algorithm);
            keys.len() == 1
        });
        !devices.is_empty()
    });
    keys
}

fn slow(server: &ServerName) -> RemoteError {
    let why = "it did not answer in time".to_owned();
    RemoteError::Unavailable { server: server.to_owned(), why }
}

//! One-time keys, each handed out once and never again, and the fallback keys for when there are
//! none.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#one-time-and-fallback-keys)

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use ruma::{
    DeviceId, OneTimeKeyAlgorithm, OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId, UserId,
    encryption::OneTimeKey, serde::Raw,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Json, Page, Position, Stamped, StoreError};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    Users,
    accounts::TRIES,
    error::{Result, UsersError},
    key_json::canonical_hash,
    log_row::{LOG_TOPIC, UsersLogRow},
    remote::{ClaimedKeys, KeyClaims},
    tables::{FALLBACK_KEYS, ONE_TIME_KEY_NAMES, ONE_TIME_KEYS},
};

/// One-time keys that a device may keep here.
pub(crate) const ONE_TIME_KEYS_MAX: usize = 5_000;

/// Algorithms for which a device may have fallback keys.
const FALLBACK_KEYS_MAX: usize = 20;

/// Largest one-time key, in bytes.
const ONE_TIME_KEY_BYTES_MAX: usize = 4_096;

/// Longest ID of a one-time key, in bytes.
const KEY_ID_BYTES_MAX: usize = 255;

/// Devices whose keys are claimed in one commit.
const CLAIMS_PER_BATCH: usize = 64;

/// Locks that claims and uploads share.
const LOCKS: usize = 64;

/// A fallback key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FallbackRow {
    pub(crate) key_id: String,
    pub(crate) json: String,
    /// Whether somebody got it.
    pub(crate) used: bool,
}

/// What is left of the keys of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// How many one-time keys nobody has claimed, by algorithm.
    pub one_time: BTreeMap<OneTimeKeyAlgorithm, u64>,
    /// The algorithms whose fallback key nobody has got yet.
    pub unused_fallback: Vec<OneTimeKeyAlgorithm>,
}

/// Lets one at a time change the one-time keys of a device.
#[derive(Debug)]
pub(crate) struct KeyLocks([Mutex<()>; LOCKS]);

impl Default for KeyLocks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl KeyLocks {
    /// Holds the locks of devices, always in the same order.
    async fn hold(
        &self,
        devices: impl Iterator<Item = (&UserId, &DeviceId)>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let indexes: BTreeSet<usize> = devices.map(lock_index).collect();
        let mut held = Vec::with_capacity(indexes.len());
        for lock in indexes.into_iter().filter_map(|index| self.0.get(index)) {
            held.push(lock.lock().await);
        }
        held
    }
}

fn lock_index((user_id, device_id): (&UserId, &DeviceId)) -> usize {
    let mut hasher = DefaultHasher::new();
    (user_id, device_id).hash(&mut hasher);
    usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default()
}

/// One-time keys that a device uploads, read and checked.
#[derive(Debug, Default)]
pub(crate) struct NewKeys {
    keys: Vec<NewKey>,
}

#[derive(Debug)]
struct NewKey {
    algorithm: String,
    name: String,
    json: String,
    hash: [u8; 32],
}

impl NewKeys {
    /// Reads keys that came from outside.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`], [`UsersError::Invalid`], [`UsersError::BadJson`].
    pub(crate) fn read(keys: &BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>) -> Result<Self> {
        if keys.len() > ONE_TIME_KEYS_MAX {
            return Err(UsersError::TooLarge { what: "the number of one-time keys" });
        }
        let keys = keys.iter().map(|(id, json)| NewKey::read(id, json.json()));
        Ok(Self { keys: keys.collect::<Result<_>>()? })
    }
}

impl NewKey {
    fn read(id: &OwnedOneTimeKeyId, json: &RawJsonValue) -> Result<Self> {
        if id.as_str().len() > KEY_ID_BYTES_MAX {
            return Err(UsersError::invalid("the ID of a one-time key has at most 255 bytes"));
        }
        if json.get().len() > ONE_TIME_KEY_BYTES_MAX {
            return Err(UsersError::TooLarge { what: "a one-time key" });
        }
        let is_key = json.get().starts_with(['{', '"']);
        if !is_key {
            return Err(UsersError::BadJson { what: "a one-time key is an object or text".into() });
        }
        Ok(Self {
            algorithm: id.algorithm().to_string(),
            name: id.key_name().to_string(),
            json: json.get().to_owned(),
            hash: canonical_hash(json)?,
        })
    }
}

/// A device with its keys being changed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    pub(crate) user_id: &'a UserId,
    pub(crate) device_id: &'a DeviceId,
}

impl Owner<'_> {
    fn key(&self) -> (String, String) {
        (self.user_id.to_string(), self.device_id.to_string())
    }
}

impl Users {
    /// Lets nobody else change the one-time keys of a device meanwhile.
    pub(crate) async fn hold_keys(&self, owner: Owner<'_>) -> Vec<MutexGuard<'_, ()>> {
        self.inner.key_locks.hold(std::iter::once((owner.user_id, owner.device_id))).await
    }

    /// What is left of the keys of a device. Mostly from memory.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn key_counts(&self, user_id: &UserId, device_id: &DeviceId) -> Result<KeyCounts> {
        let epoch = match self.inner.key_counts.get(user_id, device_id) {
            Ok(counts) => return Ok(counts),
            Err(epoch) => epoch,
        };
        let device = (user_id.to_string(), device_id.to_string());
        let page = Page::first(ONE_TIME_KEYS_MAX);
        let rows = self.store().scan(&ONE_TIME_KEYS, ONE_TIME_KEYS.prefix(&device), page).await?;
        let mut counts = KeyCounts::default();
        for ((_, _, algorithm, _, _), _) in rows {
            *counts.one_time.entry(algorithm.into()).or_default() += 1;
        }
        let page = Page::first(FALLBACK_KEYS_MAX);
        let rows = self.store().scan(&FALLBACK_KEYS, FALLBACK_KEYS.prefix(&device), page).await?;
        let unused = rows.into_iter().filter(|(_, Json(row))| !row.used);
        counts.unused_fallback = unused.map(|((_, _, algorithm), _)| algorithm.into()).collect();
        let device = (user_id.to_owned(), device_id.to_owned());
        self.inner.key_counts.remember(epoch, device, counts.clone());
        Ok(counts)
    }

    /// Writes new one-time keys into a batch. Those that the device uploaded before are passed
    /// over, claimed or not. The keys of the device must be held.
    ///
    /// # Errors
    /// [`UsersError::Invalid`] where a key of that ID is there and differs;
    /// [`UsersError::TooLarge`] where the device would have too many.
    pub(crate) async fn stage_one_time_keys(
        &self,
        batch: &mut Batch,
        owner: Owner<'_>,
        new: &NewKeys,
    ) -> Result<()> {
        let (user, device) = owner.key();
        let name_key =
            |key: &NewKey| (user.clone(), device.clone(), key.algorithm.clone(), key.name.clone());
        let names: Vec<_> = new.keys.iter().map(name_key).collect();
        let known = self.store().multi_get(&ONE_TIME_KEY_NAMES, &names).await?;
        let mut added = 0;
        for ((key, name), known) in new.keys.iter().zip(&names).zip(known) {
            match &known {
                Some(known) if known.value == key.hash => continue,
                Some(known) if known.position != Position::ZERO => {
                    let id = format!("{}:{}", key.algorithm, key.name);
                    return Err(UsersError::invalid(format!(
                        "there is another one-time key {id} already"
                    )));
                }
                _ => {}
            }
            // Another upload of the same key may be on its way to the store.
            batch.expect(&ONE_TIME_KEY_NAMES, name, known.as_ref());
            let (user, device) = (user.clone(), device.clone());
            let row = (user, device, key.algorithm.clone(), Position::PENDING, key.name.clone());
            batch.put(&ONE_TIME_KEYS, &row, &key.json);
            batch.put(&ONE_TIME_KEY_NAMES, name, &Stamped::pending(key.hash));
            added += 1;
        }
        if added == 0 {
            return Ok(());
        }
        let counts = self.key_counts(owner.user_id, owner.device_id).await?;
        let there: u64 = counts.one_time.values().sum();
        if there.saturating_add(added) > ONE_TIME_KEYS_MAX as u64 {
            return Err(UsersError::TooLarge { what: "the number of one-time keys" });
        }
        Ok(())
    }

    /// Writes new fallback keys into a batch, over the old ones of their algorithms. The keys of
    /// the device must be held.
    pub(crate) async fn stage_fallback_keys(
        &self,
        batch: &mut Batch,
        owner: Owner<'_>,
        new: &NewKeys,
    ) -> Result<()> {
        if new.keys.len() > FALLBACK_KEYS_MAX {
            return Err(UsersError::TooLarge { what: "the number of fallback keys" });
        }
        let (user, device) = owner.key();
        let mut seen = BTreeSet::new();
        for key in &new.keys {
            if !seen.insert(key.algorithm.as_str()) {
                return Err(UsersError::invalid("there is one fallback key for an algorithm"));
            }
            let row_key = (user.clone(), device.clone(), key.algorithm.clone());
            let old = self.store().get(&FALLBACK_KEYS, &row_key).await?.map(|Json(row)| row);
            let is_same = match &old {
                Some(old) if old.key_id == key.name => stored_hash(&old.json)? == key.hash,
                _ => false,
            };
            if !is_same {
                let row =
                    FallbackRow { key_id: key.name.clone(), json: key.json.clone(), used: false };
                batch.put(&FALLBACK_KEYS, &row_key, &Json(row));
            }
        }
        Ok(())
    }

    /// Writes the end of a device's one-time and fallback keys into a batch.
    pub(crate) async fn stage_key_removal(
        &self,
        batch: &mut Batch,
        owner: Owner<'_>,
    ) -> Result<()> {
        let device = owner.key();
        crate::removal::stage(self.store(), batch, &ONE_TIME_KEYS, &device).await?;
        crate::removal::stage(self.store(), batch, &ONE_TIME_KEY_NAMES, &device).await?;
        crate::removal::stage(self.store(), batch, &FALLBACK_KEYS, &device).await
    }

    /// Hands out one-time keys of this server's users: the oldest of each device, or its fallback
    /// key. A device with neither is left out. No one-time key is ever handed out twice.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn claim_local_keys(&self, wanted: &KeyClaims) -> Result<ClaimedKeys> {
        let wanted: Vec<Claim<'_>> = (wanted.iter())
            .filter(|(user_id, _)| self.is_local(user_id))
            .flat_map(|(user_id, devices)| {
                devices.iter().map(move |(device_id, algorithm)| Claim {
                    user_id,
                    device_id,
                    algorithm,
                })
            })
            .collect();
        let mut claimed = ClaimedKeys::new();
        for claims in wanted.chunks(CLAIMS_PER_BATCH) {
            for (claim, id, key) in self.claim_batch(claims).await? {
                let devices = claimed.entry(claim.user_id.clone()).or_default();
                let keys = devices.entry(claim.device_id.clone()).or_default();
                keys.insert(id, key);
            }
        }
        Ok(claimed)
    }

    async fn claim_batch<'a>(&self, claims: &[Claim<'a>]) -> Result<Vec<Claimed<'a>>> {
        let devices = || claims.iter().map(|claim| (&**claim.user_id, &**claim.device_id));
        let _held = self.inner.key_locks.hold(devices()).await;
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            let mut claimed = Vec::with_capacity(claims.len());
            for claim in claims {
                claimed.extend(self.stage_claim(&mut batch, *claim).await?);
            }
            if batch.is_empty() {
                return Ok(claimed);
            }
            let owned = devices().map(|(user, device)| (user.to_owned(), device.to_owned()));
            let changing = self.inner.key_counts.change(owned.collect());
            match self.commit_then(batch, move || drop(changing)).await {
                Ok(_) => return Ok(claimed),
                // A device was removed, or got another fallback key.
                Err(UsersError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(UsersError::Contended)
    }

    /// Writes into a batch that a key is handed out, and gives it.
    async fn stage_claim<'a>(
        &self,
        batch: &mut Batch,
        claim: Claim<'a>,
    ) -> Result<Option<Claimed<'a>>> {
        let Claim { user_id, device_id, algorithm } = claim;
        let (user, device) = (user_id.to_string(), device_id.to_string());
        let prefix = (user.clone(), device.clone(), algorithm.to_string());
        let range = ONE_TIME_KEYS.prefix(&prefix);
        let oldest = self.store().scan(&ONE_TIME_KEYS, range, Page::first(1)).await?;
        if let Some((key, json)) = oldest.into_iter().next() {
            let name = key.4.clone();
            let name_key = (user, device, key.2.clone(), name.clone());
            let known = self.store().get(&ONE_TIME_KEY_NAMES, &name_key).await?;
            let hash = match known {
                Some(known) => known.value,
                None => stored_hash(&json)?,
            };
            batch.expect(&ONE_TIME_KEYS, &key, Some(&json));
            batch.delete(&ONE_TIME_KEYS, &key);
            let done = Stamped { position: Position::ZERO, value: hash };
            batch.put(&ONE_TIME_KEY_NAMES, &name_key, &done);
            return Ok(Some((claim, key_id(algorithm, &name)?, raw(json)?)));
        }
        let Some(Json(row)) = self.store().get(&FALLBACK_KEYS, &prefix).await? else {
            return Ok(None);
        };
        if !row.used {
            batch.expect(&FALLBACK_KEYS, &prefix, Some(&Json(row.clone())));
            batch.put(&FALLBACK_KEYS, &prefix, &Json(FallbackRow { used: true, ..row.clone() }));
            let (user_id, device_id) = (user_id.clone(), device_id.clone());
            batch.log(LOG_TOPIC, UsersLogRow::FallbackKeyUsed { user_id, device_id }.encode()?);
        }
        Ok(Some((claim, key_id(algorithm, &row.key_id)?, raw(row.json)?)))
    }
}

/// One key that somebody wants.
#[derive(Clone, Copy, Debug)]
struct Claim<'a> {
    user_id: &'a OwnedUserId,
    device_id: &'a OwnedDeviceId,
    algorithm: &'a OneTimeKeyAlgorithm,
}

/// One key that is handed out.
type Claimed<'a> = (Claim<'a>, OwnedOneTimeKeyId, Raw<OneTimeKey>);

fn key_id(algorithm: &OneTimeKeyAlgorithm, name: &str) -> Result<OwnedOneTimeKeyId> {
    OwnedOneTimeKeyId::try_from(format!("{algorithm}:{name}")).map_err(UsersError::bad_row)
}

fn raw(json: String) -> Result<Raw<OneTimeKey>> {
    RawJsonValue::from_string(json).map(Raw::from_json).map_err(UsersError::bad_row)
}

fn stored_hash(json: &str) -> Result<[u8; 32]> {
    let json: &RawJsonValue = serde_json::from_str(json).map_err(UsersError::bad_row)?;
    canonical_hash(json)
}

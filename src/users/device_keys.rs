//! The identity keys of devices: uploaded by each, asked for by everybody.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#device-keys)

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use ruma::{
    DeviceId, OwnedDeviceId, OwnedOneTimeKeyId, OwnedUserId, ServerName, UserId,
    encryption::{CrossSigningKey, DeviceKeys, OneTimeKey},
    serde::Raw,
};
use store::{Batch, Json, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    cross_signing::Usage,
    device_lists::ListChange,
    error::{Result, UsersError},
    key_json::{KeyObject, is_of_device, with_name},
    one_time_keys::{KeyCounts, NewKeys, Owner},
    remote::{ClaimedKeys, KeyClaims, RemoteDevices, RemoteKeys},
    tables::{DEVICE_KEYS, DEVICES},
};

/// Users of one query whose keys are read at the same time.
const USERS_AT_ONCE: usize = 16;

/// Users that one query may be about.
pub const QUERIED_USERS_MAX: usize = 20_000;

/// Keys that a device publishes.
#[derive(Clone, Debug, Default)]
pub struct NewDeviceKeys {
    /// Its identity keys.
    pub device_keys: Option<Raw<DeviceKeys>>,
    /// One-time keys.
    pub one_time_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
    /// Fallback keys, one for an algorithm.
    pub fallback_keys: BTreeMap<OwnedOneTimeKeyId, Raw<OneTimeKey>>,
}

/// The keys of a user, as one viewer sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserKeys {
    pub(crate) devices: BTreeMap<OwnedDeviceId, Raw<DeviceKeys>>,
    pub(crate) master: Option<Raw<CrossSigningKey>>,
    pub(crate) self_signing: Option<Raw<CrossSigningKey>>,
    pub(crate) user_signing: Option<Raw<CrossSigningKey>>,
}

impl Users {
    /// Publishes keys of a device, and tells how many one-time keys it has here.
    ///
    /// # Errors
    /// [`UsersError::BadJson`], [`UsersError::Invalid`], [`UsersError::TooLarge`] for impossible
    /// keys; [`UsersError::NotFound`] where the device is gone.
    pub async fn upload_keys(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        new: &NewDeviceKeys,
    ) -> Result<KeyCounts> {
        let device_keys = match &new.device_keys {
            Some(json) => Some(read_device_keys(user_id, device_id, json)?),
            None => None,
        };
        let one_time = NewKeys::read(&new.one_time_keys)?;
        let fallback = NewKeys::read(&new.fallback_keys)?;
        let owner = Owner { user_id, device_id };
        let held = self.hold_keys(owner).await;
        for _ in 0..TRIES {
            let device = self.device_row(user_id, device_id).await?;
            let device = device.ok_or(UsersError::NotFound { what: "device" })?;
            let mut batch = Batch::new();
            if let Some(keys) = &device_keys {
                self.stage_device_keys(&mut batch, owner, keys).await?;
            }
            self.stage_one_time_keys(&mut batch, owner, &one_time).await?;
            self.stage_fallback_keys(&mut batch, owner, &fallback).await?;
            if batch.is_empty() {
                drop(held);
                return self.key_counts(user_id, device_id).await;
            }
            // A device that is being removed leaves no keys behind.
            let key = (user_id.to_string(), device_id.to_string());
            batch.expect(&DEVICES, &key, Some(&Json(device)));
            let changed = vec![(user_id.to_owned(), device_id.to_owned())];
            let changing = self.inner.key_counts.change(changed);
            match self.commit_then(batch, move || drop(changing)).await {
                Ok(_) => {
                    drop(held);
                    return self.key_counts(user_id, device_id).await;
                }
                Err(UsersError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(UsersError::Contended)
    }

    async fn stage_device_keys(
        &self,
        batch: &mut Batch,
        owner: Owner<'_>,
        new: &KeyObject,
    ) -> Result<()> {
        let Owner { user_id, device_id } = owner;
        let old = self.device_keys_object(user_id, device_id).await?;
        let mut keys = new.clone();
        if let Some(old) = &old
            && old.is_same_key(new)
        {
            // The signatures of the user's other keys stay.
            keys = old.clone();
            keys.add_signatures(user_id, new.signatures_of(user_id));
            if keys == *old {
                return Ok(());
            }
            keys.check_size()?;
        }
        let row = (user_id.to_string(), device_id.to_string());
        batch.expect(&DEVICE_KEYS, &row, old.map(|old| old.text()).transpose()?.as_ref());
        batch.put(&DEVICE_KEYS, &row, &keys.text()?);
        self.stage_list_change(batch, user_id, ListChange::device(device_id)).await
    }

    /// The keys of one of our devices, without its name.
    pub(crate) async fn device_keys_object(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<Option<KeyObject>> {
        let key = (user_id.to_string(), device_id.to_string());
        let row = self.store().get(&DEVICE_KEYS, &key).await?;
        row.as_deref().map(KeyObject::stored).transpose()
    }

    /// The keys of one of our users, as a viewer sees them: of all devices, or of those named.
    pub(crate) async fn local_keys(
        &self,
        viewer: Option<&UserId>,
        user_id: &UserId,
        devices: &[OwnedDeviceId],
    ) -> Result<UserKeys> {
        let mut keys = UserKeys::default();
        for (device_id, row) in self.device_rows(user_id).await? {
            if !devices.is_empty() && !devices.contains(&device_id) {
                continue;
            }
            if let Some(object) = self.device_keys_object(user_id, &device_id).await? {
                let object = with_name(object, row.display_name.as_deref());
                keys.devices.insert(device_id, object.raw()?);
            }
        }
        if let Some(mut master) = self.signing_key(user_id, Usage::Master).await? {
            if let Some(viewer) = viewer {
                self.add_own_signatures(viewer, user_id, &mut master).await?;
            }
            keys.master = Some(master.raw()?);
            let self_signing = self.signing_key(user_id, Usage::SelfSigning).await?;
            keys.self_signing = self_signing.map(|key| key.raw()).transpose()?;
            if viewer == Some(user_id) {
                let user_signing = self.signing_key(user_id, Usage::UserSigning).await?;
                keys.user_signing = user_signing.map(|key| key.raw()).transpose()?;
            }
        }
        Ok(keys)
    }

    /// The keys of several of our users, a few at a time.
    pub(crate) async fn keys_of_locals(
        &self,
        viewer: Option<&UserId>,
        users: &[(&OwnedUserId, &[OwnedDeviceId])],
    ) -> Result<Vec<(OwnedUserId, UserKeys)>> {
        let keys: Vec<_> = (users.iter())
            .map(|(user_id, devices)| self.keys_of_local(viewer, user_id, devices))
            .collect();
        stream::iter(keys).buffered(USERS_AT_ONCE).try_collect().await
    }

    async fn keys_of_local(
        &self,
        viewer: Option<&UserId>,
        user_id: &OwnedUserId,
        devices: &[OwnedDeviceId],
    ) -> Result<(OwnedUserId, UserKeys)> {
        Ok((user_id.clone(), self.local_keys(viewer, user_id, devices).await?))
    }

    /// The devices of one of our users with their keys, for another server. `None` where there is
    /// no such user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn devices_for(&self, user_id: &UserId) -> Result<Option<RemoteDevices>> {
        if self.account(user_id).await?.is_none() {
            return Ok(None);
        }
        // Read first: what changes meanwhile comes again with the next change.
        let stream_id = self.device_list_stream_id(user_id).await?;
        let mut devices = Vec::new();
        for (device_id, row) in self.device_rows(user_id).await? {
            if let Some(object) = self.device_keys_object(user_id, &device_id).await? {
                let keys = with_name(object, row.display_name.as_deref()).raw()?;
                devices.push((device_id, Some(keys), row.display_name));
            }
        }
        let master = self.signing_key(user_id, Usage::Master).await?;
        let self_signing = self.signing_key(user_id, Usage::SelfSigning).await?;
        Ok(Some(RemoteDevices {
            stream_id,
            devices,
            master_key: master.map(|key| key.raw()).transpose()?,
            self_signing_key: self_signing.map(|key| key.raw()).transpose()?,
        }))
    }

    /// The keys of our users, for another server. Users and devices that are not there are left
    /// out.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] for too many users; when the store fails.
    pub async fn query_keys_for(
        &self,
        origin: &ServerName,
        wanted: &BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>,
    ) -> Result<RemoteKeys> {
        if wanted.len() > QUERIED_USERS_MAX {
            return Err(UsersError::TooLarge { what: "the number of users" });
        }
        tracing::debug!(%origin, users = wanted.len(), "another server asks for keys");
        let mut existing = Vec::new();
        for (user_id, devices) in wanted.iter().filter(|(user_id, _)| self.is_local(user_id)) {
            if self.account(user_id).await?.is_some() {
                existing.push((user_id, devices.as_slice()));
            }
        }
        let mut answer = RemoteKeys::default();
        for (user_id, keys) in self.keys_of_locals(None, &existing).await? {
            answer.master_keys.extend(keys.master.map(|key| (user_id.clone(), key)));
            answer.self_signing_keys.extend(keys.self_signing.map(|key| (user_id.clone(), key)));
            answer.device_keys.insert(user_id, keys.devices);
        }
        Ok(answer)
    }

    /// Hands out one-time keys of our users to another server.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] for too many users; when the store fails.
    pub async fn claim_keys_for(
        &self,
        origin: &ServerName,
        wanted: &KeyClaims,
    ) -> Result<ClaimedKeys> {
        if wanted.len() > QUERIED_USERS_MAX {
            return Err(UsersError::TooLarge { what: "the number of users" });
        }
        tracing::debug!(%origin, users = wanted.len(), "another server claims keys");
        self.claim_local_keys(wanted).await
    }
}

/// Reads the identity keys of a device that came from outside.
pub(crate) fn read_device_keys(
    user_id: &UserId,
    device_id: &DeviceId,
    json: &Raw<DeviceKeys>,
) -> Result<KeyObject> {
    let keys = KeyObject::parse(json.json())?;
    if !is_of_device(&keys, user_id.as_str(), device_id.as_str()) {
        return Err(UsersError::invalid("the keys are not of the device that uploads them"));
    }
    if keys.keys().next().is_none() {
        return Err(UsersError::BadJson { what: "the device has no keys".to_owned() });
    }
    Ok(keys.with_signatures_of(user_id))
}

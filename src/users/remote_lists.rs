//! What is known of the devices of other servers' users: asked for once, kept right by what their
//! servers tell, and asked for again where something was missed.
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#device-management)

mod answer;
mod fetching;
mod updates;

use std::collections::BTreeMap;

use ruma::{
    OwnedDeviceId, UserId,
    encryption::{CrossSigningKey, DeviceKeys},
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use store::{Batch, Json, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    cross_signing::Usage,
    device_keys::UserKeys,
    device_lists::ListChange,
    error::{Result, UsersError},
    key_json::{KeyObject, is_of_device, with_name},
    remote::{RemoteDevices, RemoteKeys},
    tables::REMOTE_LISTS,
};

pub use self::{
    answer::{KeysAnswer, KeysQuery},
    updates::SharesRoom,
};
pub(crate) use self::{fetching::Fetching, updates::check_origin};

/// Devices of one user of another server that are looked at. More are not kept.
pub(crate) const REMOTE_DEVICES_MAX: usize = 1_000;

/// Most bytes of what is kept of one user. A larger list is asked for each time.
const REMOTE_LIST_BYTES_MAX: usize = 1024 * 1024;

/// The devices of a user of another server, as they are stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RemoteList {
    /// Whether every change since it was fetched is in it.
    fresh: bool,
    /// The number of the newest change in it. `None` where it was fetched without one.
    stream_id: Option<u64>,
    devices: BTreeMap<OwnedDeviceId, RemoteDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    self_signing: Option<String>,
}

/// A device of another server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RemoteDevice {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl RemoteList {
    /// What is of use of an answer with the keys of a user.
    fn of_keys(user_id: &UserId, keys: &RemoteKeys) -> Self {
        let mut list = Self { fresh: true, ..Self::default() };
        let devices = keys.device_keys.get(user_id).into_iter().flatten();
        for (device_id, json) in devices.take(REMOTE_DEVICES_MAX) {
            list.put(user_id, device_id, Some(json), None);
        }
        list.set_signing_keys(
            user_id,
            keys.master_keys.get(user_id),
            keys.self_signing_keys.get(user_id),
        );
        list
    }

    /// What is of use of an answer with the devices of a user.
    fn of_devices(user_id: &UserId, answer: &RemoteDevices) -> Self {
        let stream_id = Some(answer.stream_id);
        let mut list = Self { fresh: true, stream_id, ..Self::default() };
        for (device_id, json, name) in answer.devices.iter().take(REMOTE_DEVICES_MAX) {
            list.put(user_id, device_id, json.as_ref(), name.clone());
        }
        list.set_signing_keys(
            user_id,
            answer.master_key.as_ref(),
            answer.self_signing_key.as_ref(),
        );
        list
    }

    /// Adds or replaces a device. Keys of another device are none.
    fn put(
        &mut self,
        user_id: &UserId,
        device_id: &OwnedDeviceId,
        keys: Option<&Raw<DeviceKeys>>,
        name: Option<String>,
    ) {
        let object = keys.and_then(KeyObject::read);
        let object = object.filter(|keys| is_of_device(keys, user_id.as_str(), device_id.as_str()));
        let told = object.as_ref().and_then(|keys| {
            let unsigned = keys.0.get("unsigned")?.as_object()?;
            Some(unsigned.get("device_display_name")?.as_str()?.to_owned())
        });
        let name = name.or(told).filter(|name| name.len() <= 1_024);
        let keys = object.and_then(|keys| keys.with_signatures_of(user_id).text().ok());
        self.devices.insert(device_id.clone(), RemoteDevice { keys, name });
    }

    /// Sets the cross-signing keys. Those of others are none.
    fn set_signing_keys(
        &mut self,
        user_id: &UserId,
        master: Option<&Raw<CrossSigningKey>>,
        self_signing: Option<&Raw<CrossSigningKey>>,
    ) {
        let read = |json: Option<&Raw<CrossSigningKey>>| {
            let key = json.and_then(KeyObject::read)?;
            let is_own = key.str("user_id") == Some(user_id.as_str()) && key.only_key().is_some();
            if is_own { key.with_signatures_of(user_id).text().ok() } else { None }
        };
        self.master = read(master);
        self.self_signing = read(self_signing);
    }

    fn bytes(&self) -> usize {
        let devices = self.devices.values();
        let keys = devices.map(|device| 256 + device.keys.as_ref().map_or(0, String::len));
        keys.sum::<usize>() + self.master.as_ref().map_or(0, String::len)
    }

    fn signing_key(&self, usage: Usage) -> Result<Option<KeyObject>> {
        let key = match usage {
            Usage::Master => &self.master,
            Usage::SelfSigning => &self.self_signing,
            Usage::UserSigning => &None,
        };
        key.as_deref().map(KeyObject::stored).transpose()
    }

    /// The keys of all devices, or of those named.
    fn keys(&self, devices: &[OwnedDeviceId]) -> Result<UserKeys> {
        let mut keys = UserKeys::default();
        for (device_id, device) in &self.devices {
            let is_wanted = devices.is_empty() || devices.contains(device_id);
            if let Some(json) = device.keys.as_deref().filter(|_| is_wanted) {
                let object = with_name(KeyObject::stored(json)?, device.name.as_deref());
                keys.devices.insert(device_id.clone(), object.raw()?);
            }
        }
        keys.master = self.signing_key(Usage::Master)?.map(|key| key.raw()).transpose()?;
        keys.self_signing =
            self.signing_key(Usage::SelfSigning)?.map(|key| key.raw()).transpose()?;
        Ok(keys)
    }
}

impl Users {
    async fn remote_list(&self, user_id: &UserId) -> Result<Option<Json<RemoteList>>> {
        Ok(self.store().get(&REMOTE_LISTS, &user_id.to_string()).await?)
    }

    /// The master key of anybody, as far as it can be known.
    pub(crate) async fn master_key_of(&self, user_id: &UserId) -> Result<Option<KeyObject>> {
        if self.is_local(user_id) {
            return self.signing_key(user_id, Usage::Master).await;
        }
        if let Some(Json(list)) = self.remote_list(user_id).await?
            && list.fresh
        {
            return list.signing_key(Usage::Master);
        }
        let wanted = BTreeMap::from([(user_id.to_owned(), Vec::new())]);
        match self.inner.config.remote.query_keys(user_id.server_name(), wanted).await {
            Ok(keys) => RemoteList::of_keys(user_id, &keys).signing_key(Usage::Master),
            Err(error) => {
                tracing::debug!(%error, user.id = %user_id, "a master key cannot be asked for");
                Ok(None)
            }
        }
    }

    /// Notes that what is known of a user of another server may have become old, as when their
    /// server and ours cease to share a room: it will be asked for anew. Writes nothing where
    /// nothing is known.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn distrust_remote_list(&self, user_id: &UserId) -> Result<()> {
        self.inner.fetching.disturb(user_id);
        for _ in 0..TRIES {
            let Some(old) = self.remote_list(user_id).await? else { return Ok(()) };
            if !old.0.fresh {
                return Ok(());
            }
            let mut batch = Batch::new();
            let new = RemoteList { fresh: false, ..old.0.clone() };
            stage_list(&mut batch, user_id, Some(&old), &new);
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// Keeps a list that was fetched. Where it is not to be had whole, what is there goes.
    async fn keep_list(
        &self,
        user_id: &UserId,
        old: Option<&Json<RemoteList>>,
        new: &RemoteList,
    ) -> Result<()> {
        let mut batch = Batch::new();
        if new.bytes() > REMOTE_LIST_BYTES_MAX {
            let key = user_id.to_string();
            batch.expect(&REMOTE_LISTS, &key, old);
            batch.delete(&REMOTE_LISTS, &key);
        } else {
            stage_list(&mut batch, user_id, old, new);
        }
        match self.store().commit(batch).await {
            // Something was told meanwhile: it is asked for again the next time.
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the clients that a user's list changed.
    async fn log_remote_change(&self, user_id: &UserId) -> Result<()> {
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            self.stage_list_change(&mut batch, user_id, ListChange::default()).await?;
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }
}

fn stage_list(
    batch: &mut Batch,
    user_id: &UserId,
    old: Option<&Json<RemoteList>>,
    new: &RemoteList,
) {
    let key = user_id.to_string();
    batch.expect(&REMOTE_LISTS, &key, old);
    batch.put(&REMOTE_LISTS, &key, &Json(new.clone()));
}

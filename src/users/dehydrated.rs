//! A dehydrated device: keys that a user leaves with us, encrypted, so that messages for them are
//! kept while none of their devices is logged in.
//! [Proposal](https://github.com/matrix-org/matrix-spec-proposals/pull/3814)

use ruma::{DeviceId, OwnedDeviceId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue};
use store::{Batch, Json, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    device_keys::{NewDeviceKeys, read_device_keys},
    device_lists::ListChange,
    error::{Result, UsersError},
    one_time_keys::{NewKeys, Owner},
    sessions::{chosen_device_id, short_name},
    tables::{DEHYDRATED, DEVICE_KEYS, DEVICES, DeviceRow},
};

/// Largest `device_data`, in bytes.
const DATA_BYTES_MAX: usize = 256 * 1024;

/// A user's dehydrated device as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DehydratedRow {
    pub(crate) device_id: OwnedDeviceId,
    data: Map<String, JsonValue>,
}

/// A dehydrated device.
#[derive(Clone, Debug)]
pub struct NewDehydrated {
    /// Its ID, which no other device of the user has.
    pub device_id: OwnedDeviceId,
    /// Its name.
    pub display_name: Option<String>,
    /// What its owner needs to bring it back, encrypted.
    pub data: Map<String, JsonValue>,
    /// Its keys.
    pub keys: NewDeviceKeys,
}

impl Users {
    /// Keeps a dehydrated device, in the place of the one that was there.
    ///
    /// # Errors
    /// [`UsersError::Invalid`] where a device has this ID already; [`UsersError::Missing`] without
    /// identity keys; [`UsersError::BadJson`], [`UsersError::TooLarge`] for impossible keys.
    pub async fn put_dehydrated_device(&self, user_id: &UserId, new: NewDehydrated) -> Result<()> {
        let device_id = chosen_device_id(Some(new.device_id))?;
        let size = serde_json::to_string(&new.data).map_or(usize::MAX, |json| json.len());
        if size > DATA_BYTES_MAX {
            return Err(UsersError::TooLarge { what: "the device_data" });
        }
        let missing = UsersError::Missing { what: "a dehydrated device has device_keys" };
        let device_keys = new.keys.device_keys.as_ref().ok_or(missing)?;
        let device_keys = read_device_keys(user_id, &device_id, device_keys)?;
        let one_time = NewKeys::read(&new.keys.one_time_keys)?;
        let fallback = NewKeys::read(&new.keys.fallback_keys)?;
        let owner = Owner { user_id, device_id: &device_id };
        let display_name = new.display_name.map(short_name);
        let _held = self.hold_keys(owner).await;
        for _ in 0..TRIES {
            if self.device_row(user_id, &device_id).await?.is_some() {
                return Err(UsersError::invalid("you have a device of this ID already"));
            }
            let (user, key) = (user_id.to_string(), (user_id.to_string(), device_id.to_string()));
            let mut batch = Batch::new();
            let old = self.store().get(&DEHYDRATED, &user).await?;
            let mut change = ListChange::default();
            if let Some(Json(old)) = &old
                && let Some(row) = self.device_row(user_id, &old.device_id).await?
            {
                let removed = vec![(old.device_id.clone(), row)];
                change.devices = self.stage_removed_devices(&mut batch, user_id, removed).await?;
            }
            batch.expect(&DEHYDRATED, &user, old.as_ref());
            let row = DehydratedRow { device_id: device_id.clone(), data: new.data.clone() };
            batch.put(&DEHYDRATED, &user, &Json(row));
            let created_ms = self.now_ms();
            let display_name = display_name.clone();
            let row = DeviceRow { display_name, created_ms, ..DeviceRow::default() };
            batch.expect(&DEVICES, &key, None);
            batch.put(&DEVICES, &key, &Json(row));
            batch.put(&DEVICE_KEYS, &key, &device_keys.text()?);
            self.stage_one_time_keys(&mut batch, owner, &one_time).await?;
            self.stage_fallback_keys(&mut batch, owner, &fallback).await?;
            change.devices.push(device_id.clone());
            self.stage_list_change(&mut batch, user_id, change).await?;
            let changed = vec![(user_id.to_owned(), device_id.clone())];
            let changing = self.inner.key_counts.change(changed);
            match self.commit_then(batch, move || drop(changing)).await {
                Ok(_) => return Ok(()),
                Err(UsersError::Store(StoreError::Conflict { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        Err(UsersError::Contended)
    }

    /// The dehydrated device of a user: its ID, and what brings it back.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is none.
    pub async fn dehydrated_device(
        &self,
        user_id: &UserId,
    ) -> Result<(OwnedDeviceId, Map<String, JsonValue>)> {
        let row = self.store().get(&DEHYDRATED, &user_id.to_string()).await?;
        let Json(row) = row.ok_or(UsersError::NotFound { what: "dehydrated device" })?;
        Ok((row.device_id, row.data))
    }

    /// Removes the dehydrated device of a user, and gives its ID.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is none.
    pub async fn delete_dehydrated_device(&self, user_id: &UserId) -> Result<OwnedDeviceId> {
        let (device_id, _) = self.dehydrated_device(user_id).await?;
        self.delete_devices(user_id, std::slice::from_ref(&device_id)).await?;
        Ok(device_id)
    }

    /// Whether a device is the dehydrated one of a user.
    pub(crate) async fn is_dehydrated(&self, user_id: &UserId, device: &DeviceId) -> Result<bool> {
        let row = self.store().get(&DEHYDRATED, &user_id.to_string()).await?;
        Ok(row.is_some_and(|Json(row)| row.device_id == device))
    }
}

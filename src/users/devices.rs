//! Devices: what is logged in, and its end.

use std::{net::IpAddr, ops::Bound};

use ruma::{DeviceId, OwnedDeviceId, UserId};
use store::{Batch, Json, Page, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    device_lists::ListChange,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    one_time_keys::Owner,
    passwords::LogOut,
    sessions::{DEVICE_NAME_BYTES_MAX, Session},
    tables::{
        ACCOUNTS, DEHYDRATED, DEVICE_KEYS, DEVICES, DeviceRow, LOGIN_TOKENS, TOKENS, TokenPair,
    },
};

/// How often the last use of a device is written at most, in milliseconds.
const TOUCH_INTERVAL_MS: u64 = 5 * 60 * 1_000;

/// Rows read at once.
const PAGE_ROWS: usize = 500;

/// A device that is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Device {
    /// Its ID, its own among the user's devices.
    pub device_id: OwnedDeviceId,
    /// The name that the user knows it by.
    pub display_name: Option<String>,
    /// When it was used last, in milliseconds since the Unix epoch, up to five minutes late.
    pub last_seen_ms: Option<u64>,
    /// From which address.
    pub last_seen_ip: Option<String>,
}

impl Device {
    fn new(device_id: OwnedDeviceId, row: DeviceRow) -> Self {
        let DeviceRow { display_name, last_seen_ms, last_seen_ip, .. } = row;
        Self { device_id, display_name, last_seen_ms, last_seen_ip }
    }
}

impl Users {
    /// All devices of a user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_devices(&self, user_id: &UserId) -> Result<Vec<Device>> {
        let rows = self.device_rows(user_id).await?;
        Ok(rows.into_iter().map(|(device_id, row)| Device::new(device_id, row)).collect())
    }

    /// A device of a user.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device(&self, user_id: &UserId, device_id: &DeviceId) -> Result<Option<Device>> {
        let row = self.device_row(user_id, device_id).await?;
        Ok(row.map(|row| Device::new(device_id.to_owned(), row)))
    }

    /// Gives a device another name.
    ///
    /// # Errors
    /// [`UsersError::NotFound`]; [`UsersError::TooLarge`].
    pub async fn rename_device(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        display_name: Option<String>,
    ) -> Result<()> {
        if display_name.as_ref().is_some_and(|name| name.len() > DEVICE_NAME_BYTES_MAX) {
            return Err(UsersError::TooLarge { what: "the name of the device" });
        }
        let key = (user_id.to_string(), device_id.to_string());
        for _ in 0..TRIES {
            let old = self.device_row(user_id, device_id).await?;
            let old = old.ok_or(UsersError::NotFound { what: "device" })?;
            let row = DeviceRow { display_name: display_name.clone(), ..old.clone() };
            let mut batch = Batch::new();
            batch.expect(&DEVICES, &key, Some(&Json(old)));
            batch.put(&DEVICES, &key, &Json(row));
            let (user_id, device_id) = (user_id.to_owned(), device_id.to_owned());
            self.stage_list_change(&mut batch, &user_id, ListChange::device(&device_id)).await?;
            batch.log(LOG_TOPIC, UsersLogRow::DeviceRenamed { user_id, device_id }.encode()?);
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// Removes devices, and ends their sessions. Those that are not there are passed over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_devices(&self, user_id: &UserId, ids: &[OwnedDeviceId]) -> Result<()> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            let mut ended = Vec::new();
            let mut removed = Vec::new();
            for device_id in &ids {
                if let Some(row) = self.device_row(user_id, device_id).await? {
                    ended.extend(row.tokens.iter().flat_map(TokenPair::hashes));
                    removed.push((device_id.clone(), row));
                }
            }
            if removed.is_empty() {
                return Ok(());
            }
            self.stage_removals(&mut batch, user_id, removed).await?;
            if self.write(batch, move |sessions| sessions.forget(ended)).await? {
                return Ok(());
            }
        }
        Err(UsersError::Contended)
    }

    /// Removes all devices of a user, and ends their sessions.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is no such user.
    pub async fn log_out_all(&self, user_id: &UserId, log_out: LogOut<'_>) -> Result<()> {
        for _ in 0..TRIES {
            let account =
                self.account(user_id).await?.ok_or(UsersError::NotFound { what: "user" })?;
            let mut batch = Batch::new();
            batch.expect(&ACCOUNTS, &user_id.to_string(), Some(&Json(account.row)));
            self.stage_log_out(&mut batch, user_id, log_out).await?;
            let whose = user_id.to_owned();
            if self.write(batch, move |sessions| sessions.forget_user(&whose)).await? {
                return Ok(());
            }
        }
        Err(UsersError::Contended)
    }

    /// Notes that a device was used just now, from an address. Seldom writes anything.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn touch(&self, session: &Session, address: Option<IpAddr>) -> Result<()> {
        let now_ms = self.now_ms();
        if !session.claim_touch(now_ms, TOUCH_INTERVAL_MS) {
            return Ok(());
        }
        let Some(old) = self.device_row(&session.user_id, &session.device_id).await? else {
            return Ok(());
        };
        let key = (session.user_id.to_string(), session.device_id.to_string());
        let last_seen_ip = address.map(|address| address.to_string());
        let row = DeviceRow { last_seen_ms: Some(now_ms), last_seen_ip, ..old.clone() };
        let mut batch = Batch::new();
        batch.expect(&DEVICES, &key, Some(&Json(old)));
        batch.put(&DEVICES, &key, &Json(row));
        match self.store().commit(batch).await {
            // Whoever changed the device meanwhile used it, too.
            Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the end of devices and unused login tokens into a batch. Together with an expectation
    /// of the account's row this misses no login.
    pub(crate) async fn stage_log_out(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        log_out: LogOut<'_>,
    ) -> Result<()> {
        let except = match log_out {
            LogOut::Nobody => return Ok(()),
            LogOut::Everybody => None,
            LogOut::Others(device_id) => Some(device_id),
        };
        let mut removed = self.device_rows(user_id).await?;
        removed.retain(|(device_id, _)| except != Some(device_id));
        self.stage_removals(batch, user_id, removed).await?;
        let range = LOGIN_TOKENS.prefix(&user_id.to_string());
        for (key, _) in self.store().scan(&LOGIN_TOKENS, range, Page::first(PAGE_ROWS)).await? {
            batch.delete(&LOGIN_TOKENS, &key);
        }
        Ok(())
    }

    pub(crate) async fn device_row(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
    ) -> Result<Option<DeviceRow>> {
        let key = (user_id.to_string(), device_id.to_string());
        Ok(self.store().get(&DEVICES, &key).await?.map(|Json(row)| row))
    }

    /// Writes the end of devices into a batch, with all that is kept for them.
    async fn stage_removals(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        devices: Vec<(OwnedDeviceId, DeviceRow)>,
    ) -> Result<()> {
        if devices.is_empty() {
            return Ok(());
        }
        let devices = self.stage_removed_devices(batch, user_id, devices).await?;
        let change = ListChange { devices, signing_keys: false };
        self.stage_list_change(batch, user_id, change).await
    }

    /// Writes the end of devices into a batch, but not that the list of them changed. Gives their
    /// IDs.
    pub(crate) async fn stage_removed_devices(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        devices: Vec<(OwnedDeviceId, DeviceRow)>,
    ) -> Result<Vec<OwnedDeviceId>> {
        let mut removed = Vec::with_capacity(devices.len());
        for (device_id, row) in devices {
            let key = (user_id.to_string(), device_id.to_string());
            let owner = Owner { user_id, device_id: &device_id };
            self.stage_key_removal(batch, owner).await?;
            self.stage_inbox_removal(batch, &key).await?;
            batch.delete(&DEVICE_KEYS, &key);
            if self.is_dehydrated(user_id, &device_id).await? {
                batch.delete(&DEHYDRATED, &key.0);
            }
            stage_removal(batch, user_id, &device_id, row)?;
            removed.push(device_id);
        }
        Ok(removed)
    }

    pub(crate) async fn device_rows(
        &self,
        user_id: &UserId,
    ) -> Result<Vec<(OwnedDeviceId, DeviceRow)>> {
        let user = user_id.to_string();
        let mut rows = Vec::new();
        let mut range = DEVICES.prefix(&user);
        loop {
            let page = self.store().scan(&DEVICES, range, Page::first(PAGE_ROWS)).await?;
            let more = page.len() == PAGE_ROWS;
            for ((_, device_id), Json(row)) in page {
                rows.push((OwnedDeviceId::from(device_id), row));
            }
            match rows.last() {
                Some((last, _)) if more => {
                    let last = (user.clone(), last.to_string());
                    range = DEVICES.between(Bound::Excluded(&last), Bound::Included(&user));
                }
                _ => return Ok(rows),
            }
        }
    }
}

/// Writes the end of a device into a batch.
fn stage_removal(
    batch: &mut Batch,
    user_id: &UserId,
    device_id: &DeviceId,
    row: DeviceRow,
) -> Result<()> {
    let key = (user_id.to_string(), device_id.to_string());
    for hash in row.tokens.iter().flat_map(TokenPair::hashes) {
        batch.delete(&TOKENS, &(key.0.clone(), hash.0));
    }
    batch.expect(&DEVICES, &key, Some(&Json(row)));
    batch.delete(&DEVICES, &key);
    let (user_id, device_id) = (user_id.to_owned(), device_id.to_owned());
    batch.log(LOG_TOPIC, UsersLogRow::DeviceRemoved { user_id, device_id }.encode()?);
    Ok(())
}

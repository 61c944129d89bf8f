//! Whose devices or cross-signing keys changed, in order, and what other servers are told of it.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user)

use std::ops::Bound;

use ruma::{
    DeviceId, OwnedDeviceId, OwnedUserId, UInt, UserId,
    api::federation::transactions::edu::{DeviceListUpdateContent, SigningKeyUpdateContent},
};
use serde::{Deserialize, Serialize};
use store::{Batch, Json, Page, Position, Stamped};

use crate::{
    Users,
    cross_signing::Usage,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    tables::{DEVICE_LIST_STREAM, DEVICE_LISTS, DEVICE_LISTS_CHANGES, SIGNED_MASTERS_CHANGES},
};

/// Rows read at once.
const PAGE_ROWS: usize = 1_000;

/// Changes of one user that other servers can still be told of.
const STREAM_LEN: u64 = 1_000;

/// A change that other servers are told of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamRow {
    pub(crate) device_id: OwnedDeviceId,
}

/// What changed of a user.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListChange {
    /// Devices of which other servers are told.
    pub(crate) devices: Vec<OwnedDeviceId>,
    /// Whether the master or self-signing key of one of our users changed.
    pub(crate) signing_keys: bool,
}

impl ListChange {
    /// One device was added, changed or removed.
    pub(crate) fn device(device_id: &DeviceId) -> Self {
        Self { devices: vec![device_id.to_owned()], signing_keys: false }
    }
}

impl Users {
    /// Who changed after `after`, up to `upto` and including it: their devices, keys or signatures.
    /// Who changed again after `upto` is left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device_list_changes(
        &self,
        after: Position,
        upto: Position,
    ) -> Result<Vec<OwnedUserId>> {
        let mut range =
            DEVICE_LISTS_CHANGES.between(Bound::Excluded(&after), Bound::Included(&upto));
        let mut users = Vec::new();
        loop {
            let page =
                self.store().scan(&DEVICE_LISTS_CHANGES, range, Page::first(PAGE_ROWS)).await?;
            let last = page.last().map(|(key, ())| key.clone());
            let more = page.len() == PAGE_ROWS;
            for ((_, user_id), ()) in page {
                users.push(UserId::parse(user_id).map_err(UsersError::bad_row)?);
            }
            match last {
                Some(last) if more => {
                    range = DEVICE_LISTS_CHANGES
                        .between(Bound::Excluded(&last), Bound::Included(&upto));
                }
                _ => return Ok(users),
            }
        }
    }

    /// Whose master keys a user has signed after `after`, up to `upto` and including it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn signed_master_changes(
        &self,
        user_id: &UserId,
        after: Position,
        upto: Position,
    ) -> Result<Vec<OwnedUserId>> {
        let (lower, upper) = ((user_id.to_string(), after), (user_id.to_string(), upto));
        let range =
            SIGNED_MASTERS_CHANGES.between(Bound::Excluded(&lower), Bound::Included(&upper));
        let page = Page::first(crate::signatures::SIGNED_MASTERS_MAX);
        let rows = self.store().scan(&SIGNED_MASTERS_CHANGES, range, page).await?;
        rows.into_iter()
            .map(|((_, _, signed), ())| UserId::parse(signed).map_err(UsersError::bad_row))
            .collect()
    }

    /// The number of a user's last change that other servers are told of; zero where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device_list_stream_id(&self, user_id: &UserId) -> Result<u64> {
        let row = self.store().get(&DEVICE_LISTS, &user_id.to_string()).await?;
        Ok(row.map_or(0, |row| row.value))
    }

    /// What other servers are told of a change of one of our users' devices, as the device is now.
    /// `None` for a change too long ago: the next one makes them ask for the whole list.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device_list_update(
        &self,
        user_id: &UserId,
        stream_id: u64,
    ) -> Result<Option<DeviceListUpdateContent>> {
        let row = self.store().get(&DEVICE_LIST_STREAM, &(user_id.to_string(), stream_id)).await?;
        let Some(Json(StreamRow { device_id })) = row else { return Ok(None) };
        let number = |id: u64| UInt::new(id).ok_or_else(|| UsersError::bad_row("a stream ID"));
        let mut content =
            DeviceListUpdateContent::new(user_id.to_owned(), device_id.clone(), number(stream_id)?);
        if stream_id > 1 {
            content.prev_id.push(number(stream_id - 1)?);
        }
        match self.device_row(user_id, &device_id).await? {
            None => content.deleted = Some(true),
            Some(device) => {
                content.device_display_name = device.display_name;
                let keys = self.device_keys_object(user_id, &device_id).await?;
                content.keys = keys.map(|keys| keys.raw()).transpose()?;
            }
        }
        Ok(Some(content))
    }

    /// What other servers are told of one of our users' cross-signing keys, as they are now. `None`
    /// where the user has none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn signing_key_update(
        &self,
        user_id: &UserId,
    ) -> Result<Option<SigningKeyUpdateContent>> {
        let mut content = SigningKeyUpdateContent::new(user_id.to_owned());
        let master = self.signing_key(user_id, Usage::Master).await?;
        let self_signing = self.signing_key(user_id, Usage::SelfSigning).await?;
        content.master_key = master.map(|key| key.raw()).transpose()?;
        content.self_signing_key = self_signing.map(|key| key.raw()).transpose()?;
        Ok(content.master_key.is_some().then_some(content))
    }

    /// Writes into a batch that a user's devices or keys changed. The batch fails where another
    /// change of the same user's is quicker.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn stage_list_change(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        change: ListChange,
    ) -> Result<()> {
        let user = user_id.to_string();
        let old = self.store().get(&DEVICE_LISTS, &user).await?;
        let mut stream_id = old.map_or(0, |old| old.value);
        let mut stream_ids = Vec::new();
        if self.is_local(user_id) {
            for device_id in change.devices {
                stream_id += 1;
                stream_ids.push(stream_id);
                let row = Json(StreamRow { device_id });
                batch.put(&DEVICE_LIST_STREAM, &(user.clone(), stream_id), &row);
                if let Some(old) = stream_id.checked_sub(STREAM_LEN) {
                    batch.delete(&DEVICE_LIST_STREAM, &(user.clone(), old));
                }
            }
        }
        batch.expect(&DEVICE_LISTS, &user, old.as_ref());
        if let Some(old) = old {
            batch.delete(&DEVICE_LISTS_CHANGES, &(old.position, user.clone()));
        }
        batch.put(&DEVICE_LISTS, &user, &Stamped::pending(stream_id));
        batch.put(&DEVICE_LISTS_CHANGES, &(Position::PENDING, user), &());
        let log = UsersLogRow::DeviceListChanged {
            user_id: user_id.to_owned(),
            stream_ids,
            signing_keys: change.signing_keys,
        };
        batch.log(LOG_TOPIC, log.encode()?);
        Ok(())
    }
}

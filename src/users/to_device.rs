//! Messages from device to device: each waits in the inbox of its device until the device has told
//! that it has it, and in a queue for each other server.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging)

mod inbox;
mod outgoing;

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    DeviceId, OwnedDeviceId, OwnedUserId, ServerName, UserId,
    api::federation::transactions::edu::DirectDeviceContent,
    events::{AnyToDeviceEventContent, ToDeviceEventType},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::Serialize;
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Page, Position, Stamped, StoreError};

use crate::{
    Users,
    device_cache::DeviceKey,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    remote_lists::check_origin,
    tables::{DEVICES, INBOX, TO_DEVICE_DONE, TO_DEVICE_DONE_ORDER},
};

pub use self::{inbox::Inbox, outgoing::OutgoingToDevice};

/// Devices that one request may send to.
const RECIPIENTS_MAX: usize = 20_000;

/// Longest transaction ID, message ID or type, in bytes.
const ID_BYTES_MAX: usize = 512;

/// Transactions and messages that are remembered of one device or remote user, at least.
const DONE_KEPT: usize = 1_000;

/// After how many messages it is looked for those that need not be remembered any more.
const DONE_SWEEP: u64 = 64;

/// Messages by user and device, or all devices of a user.
pub type ToDeviceMessages =
    BTreeMap<OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>;

/// Messages to devices.
#[derive(Clone, Debug)]
pub struct ToDevice {
    /// The type of all of them.
    pub kind: ToDeviceEventType,
    /// The transaction of the sending device, which is done once only.
    pub txn_id: String,
    /// What goes to whom.
    pub messages: ToDeviceMessages,
}

/// What names something that is done once.
#[derive(Clone, Debug)]
struct Once {
    user: String,
    device: String,
    kind: String,
    id: String,
}

impl Once {
    fn key(&self) -> (String, String, String, String) {
        (self.user.clone(), self.device.clone(), self.kind.clone(), self.id.clone())
    }

    fn stage(&self, batch: &mut Batch) {
        let Self { user, device, kind, id } = self.clone();
        batch.expect(&TO_DEVICE_DONE, &self.key(), None);
        batch.put(&TO_DEVICE_DONE, &self.key(), &Stamped::pending(()));
        batch.put(&TO_DEVICE_DONE_ORDER, &(user, device, Position::PENDING, kind, id), &());
    }
}

/// An event as a device gets it.
#[derive(Serialize)]
struct Event<'a> {
    content: &'a RawJsonValue,
    sender: &'a UserId,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl Users {
    /// Sends messages to devices here and on other servers. The same transaction of a device again
    /// does nothing. Devices that do not exist are passed over.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`], [`UsersError::Invalid`], [`UsersError::BadJson`] for impossible
    /// messages; when the store fails.
    pub async fn send_to_device(
        &self,
        sender: &UserId,
        device_id: &DeviceId,
        message: &ToDevice,
    ) -> Result<()> {
        check(&message.kind.to_string(), &message.txn_id, &message.messages)?;
        let once = Once {
            user: sender.to_string(),
            device: device_id.to_string(),
            kind: message.kind.to_string(),
            id: message.txn_id.clone(),
        };
        if self.store().get(&TO_DEVICE_DONE, &once.key()).await?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::new();
        once.stage(&mut batch);
        let kind = message.kind.to_string();
        let devices = self.stage_local(&mut batch, sender, &kind, &message.messages).await?;
        self.stage_outgoing(&mut batch, sender, message)?;
        self.deliver(batch, devices, once).await
    }

    /// Takes in messages from another server. The same message again does nothing.
    ///
    /// # Errors
    /// [`UsersError::Forbidden`] where the sender is not of that server; [`UsersError::TooLarge`],
    /// [`UsersError::Invalid`], [`UsersError::BadJson`] for impossible messages; when the store
    /// fails.
    pub async fn receive_to_device(
        &self,
        origin: &ServerName,
        content: &DirectDeviceContent,
    ) -> Result<()> {
        check_origin(origin, &content.sender)?;
        let kind = content.ev_type.to_string();
        check(&kind, content.message_id.as_str(), &content.messages)?;
        let once = Once {
            user: content.sender.to_string(),
            device: String::new(),
            kind: kind.clone(),
            id: content.message_id.to_string(),
        };
        if self.store().get(&TO_DEVICE_DONE, &once.key()).await?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::new();
        let sender = &content.sender;
        let devices = self.stage_local(&mut batch, sender, &kind, &content.messages).await?;
        if devices.is_empty() {
            return Ok(());
        }
        once.stage(&mut batch);
        self.deliver(batch, devices, once).await
    }

    /// Writes messages into the inboxes of our devices. Gives the devices.
    async fn stage_local(
        &self,
        batch: &mut Batch,
        sender: &UserId,
        kind: &str,
        messages: &ToDeviceMessages,
    ) -> Result<Vec<DeviceKey>> {
        let mut devices = Vec::new();
        for (user_id, targets) in messages.iter().filter(|(user_id, _)| self.is_local(user_id)) {
            let found = self.recipients(user_id, targets).await?;
            for (device_id, content) in found {
                let event = Event { content: content.json(), sender, kind };
                let json = serde_json::to_string(&event).map_err(UsersError::bad_row)?;
                let key = (user_id.to_string(), device_id.to_string(), Position::PENDING);
                batch.put(&INBOX, &key, &json);
                devices.push((user_id.clone(), device_id));
            }
            if devices.len() > RECIPIENTS_MAX {
                return Err(UsersError::TooLarge { what: "the number of devices" });
            }
        }
        if !devices.is_empty() {
            let user_ids: BTreeSet<_> = devices.iter().map(|(user_id, _)| user_id).collect();
            let user_ids = user_ids.into_iter().cloned().collect();
            batch.log(LOG_TOPIC, UsersLogRow::ToDevice { user_ids }.encode()?);
        }
        Ok(devices)
    }

    /// The devices of a user that a message goes to. A device that is named gets its own.
    async fn recipients<'a>(
        &self,
        user_id: &UserId,
        targets: &'a BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>,
    ) -> Result<BTreeMap<OwnedDeviceId, &'a Raw<AnyToDeviceEventContent>>> {
        let mut found = BTreeMap::new();
        if let Some(content) = targets.get(&DeviceIdOrAllDevices::AllDevices) {
            for (device_id, _) in self.device_rows(user_id).await? {
                found.insert(device_id, content);
            }
        }
        for (target, content) in targets {
            let DeviceIdOrAllDevices::DeviceId(device_id) = target else { continue };
            if self.device_row(user_id, device_id).await?.is_some() {
                found.insert(device_id.clone(), content);
            }
        }
        Ok(found)
    }

    /// Commits messages, and makes sure that none is left for a device that was removed meanwhile.
    async fn deliver(&self, batch: Batch, devices: Vec<DeviceKey>, once: Once) -> Result<()> {
        let changing = self.inner.inboxes.change(devices.clone());
        match self.commit_then(batch, move || drop(changing)).await {
            Ok(_) => {}
            // The same was done at the same moment.
            Err(UsersError::Store(StoreError::Conflict { .. })) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.remove_orphans(&devices).await?;
        self.sweep_done(&once).await
    }

    async fn remove_orphans(&self, devices: &[DeviceKey]) -> Result<()> {
        let key = |device: &DeviceKey| (device.0.to_string(), device.1.to_string());
        let keys: Vec<_> = devices.iter().map(key).collect();
        let rows = self.store().multi_get(&DEVICES, &keys).await?;
        let mut batch = Batch::new();
        for (key, _) in keys.iter().zip(rows).filter(|(_, row)| row.is_none()) {
            crate::removal::stage(self.store(), &mut batch, &INBOX, key).await?;
        }
        if !batch.is_empty() {
            self.store().commit(batch).await?;
        }
        Ok(())
    }

    /// Forgets, now and then, which of the oldest transactions of a device are done.
    async fn sweep_done(&self, once: &Once) -> Result<()> {
        use std::sync::atomic::Ordering;
        let sent = self.inner.to_device_sent.fetch_add(1, Ordering::Relaxed);
        if !sent.is_multiple_of(DONE_SWEEP) {
            return Ok(());
        }
        let range = TO_DEVICE_DONE_ORDER.prefix(&(once.user.clone(), once.device.clone()));
        let page = Page::last(4 * DONE_KEPT);
        let rows = self.store().scan(&TO_DEVICE_DONE_ORDER, range, page).await?;
        let mut batch = Batch::new();
        for (key, ()) in rows.into_iter().skip(DONE_KEPT) {
            batch.delete(&TO_DEVICE_DONE_ORDER, &key);
            let (user, device, _, kind, id) = key;
            batch.delete(&TO_DEVICE_DONE, &(user, device, kind, id));
        }
        if !batch.is_empty() {
            self.store().commit(batch).await?;
        }
        Ok(())
    }

    /// Writes the end of a device's inbox and transactions into a batch.
    pub(crate) async fn stage_inbox_removal(
        &self,
        batch: &mut Batch,
        device: &(String, String),
    ) -> Result<()> {
        crate::removal::stage(self.store(), batch, &INBOX, device).await?;
        crate::removal::stage(self.store(), batch, &TO_DEVICE_DONE, device).await?;
        crate::removal::stage(self.store(), batch, &TO_DEVICE_DONE_ORDER, device).await
    }
}

/// Largest message, in bytes of JSON.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Refuses impossible messages.
fn check(kind: &str, id: &str, messages: &ToDeviceMessages) -> Result<()> {
    if kind.is_empty() || kind.len() > ID_BYTES_MAX || id.len() > ID_BYTES_MAX {
        return Err(UsersError::invalid("a type and an ID of a message have at most 512 bytes"));
    }
    let count: usize = messages.values().map(BTreeMap::len).sum();
    if count > RECIPIENTS_MAX {
        return Err(UsersError::TooLarge { what: "the number of devices" });
    }
    let contents = messages.values().flat_map(BTreeMap::values);
    for content in contents {
        if content.json().get().len() > MESSAGE_BYTES_MAX {
            return Err(UsersError::TooLarge { what: "a message to a device" });
        }
        if !content.json().get().starts_with('{') {
            return Err(UsersError::BadJson { what: "a message is a JSON object".to_owned() });
        }
    }
    Ok(())
}

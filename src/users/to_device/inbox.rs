//! The messages that wait for a device.

use std::ops::Bound;

use ruma::{DeviceId, UserId, events::AnyToDeviceEvent, serde::Raw};
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Page, Position};

use crate::{
    Users,
    error::{Result, UsersError},
    tables::INBOX,
};

/// Rows deleted at once.
const PAGE_ROWS: usize = 1_000;

/// Most bytes of messages that are given at once, beyond the first.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// The next messages for a device.
#[derive(Clone, Debug)]
pub struct Inbox {
    /// The messages, the oldest first.
    pub events: Vec<Raw<AnyToDeviceEvent>>,
    /// Up to where the device has its messages once it has these.
    pub upto: Position,
    /// Whether there are more, which come next.
    pub more: bool,
}

impl Users {
    /// The oldest messages for a device that came after `after`, up to `upto` and including it: at
    /// most `limit`. They stay until [`Users::acknowledge_inbox`]. Mostly reads no disk where there
    /// are none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn inbox(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        after: Position,
        upto: Position,
        limit: usize,
    ) -> Result<Inbox> {
        let epoch = match self.inner.inboxes.get(user_id, device_id) {
            Ok(()) => return Ok(Inbox { events: Vec::new(), upto, more: false }),
            Err(epoch) => epoch,
        };
        let device = (user_id.to_string(), device_id.to_string());
        let lower = (device.0.clone(), device.1.clone(), after);
        let range = INBOX.between(Bound::Excluded(&lower), Bound::Included(&device));
        let rows = self.store().scan(&INBOX, range, Page::first(limit.saturating_add(1))).await?;
        if rows.is_empty() && after == Position::ZERO {
            self.inner.inboxes.remember(epoch, (user_id.to_owned(), device_id.to_owned()), ());
        }
        let mut inbox = Inbox { events: Vec::new(), upto, more: false };
        let (mut last, mut bytes) = (after, 0);
        for ((_, _, position), json) in rows {
            if position > upto {
                break;
            }
            bytes += json.len();
            let is_full = bytes > BYTES_MAX && !inbox.events.is_empty();
            if inbox.events.len() >= limit || is_full {
                inbox.more = true;
                inbox.upto = last;
                break;
            }
            last = position;
            let json = RawJsonValue::from_string(json).map_err(UsersError::bad_row)?;
            inbox.events.push(Raw::from_json(json));
        }
        Ok(inbox)
    }

    /// Deletes the messages that a device has told to have: those up to a position.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn acknowledge_inbox(
        &self,
        user_id: &UserId,
        device_id: &DeviceId,
        upto: Position,
    ) -> Result<()> {
        let epoch = match self.inner.inboxes.get(user_id, device_id) {
            Ok(()) => return Ok(()),
            Err(epoch) => epoch,
        };
        let device = (user_id.to_string(), device_id.to_string());
        let upper = (device.0.clone(), device.1.clone(), upto);
        let range = || INBOX.between(Bound::Included(&device), Bound::Included(&upper));
        loop {
            let rows = self.store().scan(&INBOX, range(), Page::first(PAGE_ROWS)).await?;
            let mut batch = Batch::new();
            for (key, _) in &rows {
                batch.delete(&INBOX, key);
            }
            if !batch.is_empty() {
                self.store().commit(batch).await?;
            }
            if rows.len() < PAGE_ROWS {
                break;
            }
        }
        let rest = self.store().scan(&INBOX, INBOX.prefix(&device), Page::first(1)).await?;
        if rest.is_empty() {
            self.inner.inboxes.remember(epoch, (user_id.to_owned(), device_id.to_owned()), ());
        }
        Ok(())
    }
}

//! The messages that wait for other servers.

use std::{collections::BTreeMap, ops::Bound};

use ruma::{
    OwnedServerName, OwnedUserId, ServerName, UserId,
    api::federation::transactions::edu::DirectDeviceContent,
};
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Page, Position};

use super::{ToDevice, ToDeviceMessages};
use crate::{
    Users,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    tables::TO_DEVICE_OUT,
    tokens::random,
};

/// Most bytes of messages in one EDU, beyond the first message.
const EDU_BYTES_MAX: usize = 48 * 1024;

/// Messages for devices of another server, that wait to be sent.
#[derive(Clone, Debug)]
pub struct OutgoingToDevice {
    /// The commit that put it there.
    pub position: Position,
    /// Its number within the commit.
    pub number: u32,
    /// The content of the `m.direct_to_device` EDU.
    pub content: Box<RawJsonValue>,
}

impl Users {
    /// The oldest messages that wait for a server, at most `limit`. They stay until
    /// [`Users::stage_to_device_sent`] is committed. Each is followed by a
    /// [`UsersLogRow::ToDeviceOut`] when it comes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn to_device_out(
        &self,
        destination: &ServerName,
        limit: usize,
    ) -> Result<Vec<OutgoingToDevice>> {
        let range = TO_DEVICE_OUT.prefix(&destination.to_string());
        let rows = self.store().scan(&TO_DEVICE_OUT, range, Page::first(limit)).await?;
        rows.into_iter()
            .map(|((_, position, number), json)| {
                let content = RawJsonValue::from_string(json).map_err(UsersError::bad_row)?;
                Ok(OutgoingToDevice { position, number, content })
            })
            .collect()
    }

    /// The servers for which messages wait.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn to_device_destinations(&self) -> Result<Vec<OwnedServerName>> {
        let mut found = Vec::new();
        let mut last: Option<String> = None;
        loop {
            // Skips from one server to the next.
            let lower = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let range = TO_DEVICE_OUT.between::<_, ()>(lower, Bound::Unbounded);
            let row = self.store().scan(&TO_DEVICE_OUT, range, Page::first(1)).await?.pop();
            let Some(((server, ..), _)) = row else { return Ok(found) };
            found.extend(ServerName::parse(&server).ok());
            last = Some(server);
        }
    }

    /// Writes into a batch that a server has got its messages.
    pub fn stage_to_device_sent(
        &self,
        batch: &mut Batch,
        destination: &ServerName,
        sent: &[OutgoingToDevice],
    ) {
        for item in sent {
            let key = (destination.to_string(), item.position, item.number);
            batch.delete(&TO_DEVICE_OUT, &key);
        }
    }

    /// Writes messages for other servers' devices into their queues.
    pub(super) fn stage_outgoing(
        &self,
        batch: &mut Batch,
        sender: &UserId,
        message: &ToDevice,
    ) -> Result<()> {
        let mut by_server: BTreeMap<OwnedServerName, ToDeviceMessages> = BTreeMap::new();
        for (user_id, targets) in &message.messages {
            if !self.is_local(user_id) && !targets.is_empty() {
                let server = by_server.entry(user_id.server_name().to_owned()).or_default();
                server.insert(user_id.clone(), targets.clone());
            }
        }
        for (destination, messages) in by_server {
            for (number, messages) in (0_u32..).zip(split(messages)) {
                let mut content = DirectDeviceContent::new(
                    sender.to_owned(),
                    message.kind.clone(),
                    message_id()?.into(),
                );
                content.messages = messages;
                let json = serde_json::to_string(&content).map_err(UsersError::bad_row)?;
                let key = (destination.to_string(), Position::PENDING, number);
                batch.put(&TO_DEVICE_OUT, &key, &json);
            }
            batch.log(LOG_TOPIC, UsersLogRow::ToDeviceOut { destination }.encode()?);
        }
        Ok(())
    }
}

/// Cuts messages into parts that are small enough for an EDU each.
fn split(messages: ToDeviceMessages) -> Vec<ToDeviceMessages> {
    let mut parts = Vec::new();
    let (mut part, mut bytes) = (ToDeviceMessages::new(), 0);
    for (user_id, targets) in messages {
        for (target, content) in targets {
            let size = content.json().get().len() + user_id.as_str().len() + 64;
            if bytes + size > EDU_BYTES_MAX && !part.is_empty() {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
            bytes += size;
            let of_user: &mut BTreeMap<_, _> =
                part.entry(OwnedUserId::clone(&user_id)).or_default();
            of_user.insert(target, content);
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// A name that no other message has.
fn message_id() -> Result<String> {
    Ok(random::<16>()?.into_iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use ruma::{serde::Raw, to_device::DeviceIdOrAllDevices, user_id};
    use serde_json::value::to_raw_value;

    use super::*;

    #[test]
    fn many_messages_become_several_edus() {
        let content = to_raw_value(&serde_json::json!({ "x": "y".repeat(10_000) })).unwrap();
        let targets: BTreeMap<_, _> = (0..20)
            .map(|number| {
                let device = DeviceIdOrAllDevices::DeviceId(format!("D{number}").into());
                (device, Raw::from_json(content.clone()))
            })
            .collect();
        let parts = split(BTreeMap::from([(user_id!("@a:x").to_owned(), targets)]));
        assert_eq!(parts.len(), 5);
        let count: usize = parts.iter().flat_map(BTreeMap::values).map(BTreeMap::len).sum();
        assert_eq!(count, 20);
    }
}

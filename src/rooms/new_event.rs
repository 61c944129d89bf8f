//! An event as a sender wishes it, before it has a place in the room.

use std::collections::BTreeMap;

use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId,
    events::{StateEventType, TimelineEventType},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;

use crate::error::{Result, RoomsError};

/// An event to be sent: what it says, not yet where in the room's graph it stands.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub(crate) kind: TimelineEventType,
    pub(crate) state_key: Option<String>,
    pub(crate) content: Content,
    pub(crate) redacts: Option<OwnedEventId>,
    pub(crate) txn: Option<TxnKey>,
    pub(crate) timestamp_ms: Option<u64>,
    /// Where aliases of other servers point that the event names.
    pub(crate) aliases: BTreeMap<OwnedRoomAliasId, OwnedRoomId>,
}

/// The content of an event to be sent.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// As the sender wrote it.
    Raw(Box<RawJsonValue>),
    /// Nothing but perhaps a reason.
    Reason(Option<String>),
}

impl Content {
    pub(crate) fn into_raw(self) -> Result<Box<RawJsonValue>> {
        match self {
            Self::Raw(raw) => Ok(raw),
            Self::Reason(Some(reason)) => to_raw(&serde_json::json!({ "reason": reason })),
            Self::Reason(None) => to_raw(&serde_json::json!({})),
        }
    }
}

/// Writes a value as raw JSON.
pub(crate) fn to_raw(value: &impl Serialize) -> Result<Box<RawJsonValue>> {
    serde_json::value::to_raw_value(value)
        .map_err(|error| RoomsError::invalid(format!("the content cannot be encoded: {error}")))
}

/// A client's transaction ID, in the scope of one device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TxnKey {
    /// The sending device.
    pub device_id: String,
    /// The ID that the client chose.
    pub txn_id: String,
}

impl NewEvent {
    /// A message event.
    #[must_use]
    pub fn message(kind: TimelineEventType, content: Box<RawJsonValue>) -> Self {
        Self {
            kind,
            state_key: None,
            content: Content::Raw(content),
            redacts: None,
            txn: None,
            timestamp_ms: None,
            aliases: BTreeMap::new(),
        }
    }

    /// A state event.
    #[must_use]
    pub fn state(kind: StateEventType, key: impl Into<String>, content: Box<RawJsonValue>) -> Self {
        Self { state_key: Some(key.into()), ..Self::message(kind.into(), content) }
    }

    /// A redaction of another event.
    #[must_use]
    pub fn redaction(redacts: OwnedEventId, reason: Option<&str>) -> Self {
        Self {
            kind: TimelineEventType::RoomRedaction,
            state_key: None,
            content: Content::Reason(reason.map(str::to_owned)),
            redacts: Some(redacts),
            txn: None,
            timestamp_ms: None,
            aliases: BTreeMap::new(),
        }
    }

    /// Whose membership it sets, if it does.
    pub(crate) fn member(&self) -> Option<OwnedUserId> {
        let key = self.state_key.as_deref()?;
        let is_member = self.kind == TimelineEventType::RoomMember;
        if is_member { key.try_into().ok() } else { None }
    }

    /// The event that it redacts, if it is a redaction: also one that names it in its content, for
    /// clients that send it like any event.
    pub(crate) fn target(&self) -> Option<OwnedEventId> {
        #[derive(Deserialize)]
        struct Named {
            redacts: OwnedEventId,
        }
        if self.kind != TimelineEventType::RoomRedaction {
            return None;
        }
        match (&self.redacts, &self.content) {
            (Some(target), _) => Some(target.clone()),
            (None, Content::Raw(raw)) => {
                serde_json::from_str::<Named>(raw.get()).ok().map(|named| named.redacts)
            }
            (None, Content::Reason(_)) => None,
        }
    }

    /// The same event, sent under a client's transaction ID: sending it again gives the same event.
    #[must_use]
    pub fn txn(mut self, txn: TxnKey) -> Self {
        self.txn = Some(txn);
        self
    }

    /// The same event with another `origin_server_ts`, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn timestamp(mut self, timestamp_ms: u64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

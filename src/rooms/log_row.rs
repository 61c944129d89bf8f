//! What this crate writes into the store's log, for those who follow it.

use ruma::{
    OwnedRoomId, OwnedUserId,
    events::{TimelineEventType, room::member::MembershipState},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, RoomsError},
    tables::{EventNumber, RoomNumber},
};

/// The topic of all our rows in the log.
pub const LOG_TOPIC: u16 = 1;

/// One change of a room, as its followers see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RoomsLogRow {
    /// An event was added to a room's timeline.
    Event {
        /// The room.
        room: RoomNumber,
        /// The room's ID.
        room_id: OwnedRoomId,
        /// The event.
        event: EventNumber,
        /// The type of the event.
        kind: TimelineEventType,
        /// The state key, for a state event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state_key: Option<String>,
        /// Who sent it.
        sender: OwnedUserId,
        /// Whose membership it sets, and to what, for an `m.room.member` event.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        member: Option<(OwnedUserId, MembershipState)>,
        /// Whether we have to tell the other servers of it though no user of ours sent it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        relay: bool,
    },
    /// A receipt was set.
    Receipt {
        /// The room.
        room: RoomNumber,
        /// The room's ID.
        room_id: OwnedRoomId,
        /// Whose receipt it is.
        user: OwnedUserId,
        /// Whether only the user themselves may see it.
        private: bool,
    },
    /// What a user of this server is in a room has changed, though this server is not in it: an
    /// invite came, a knock went out, or one of them was taken back.
    Outside {
        /// The room.
        room: RoomNumber,
        /// The room's ID.
        room_id: OwnedRoomId,
        /// The member event, an outlier.
        event: EventNumber,
        /// The user.
        user: OwnedUserId,
        /// What they are now.
        membership: MembershipState,
    },
    /// The whole state of a room is known that we had joined without it.
    Whole {
        /// The room.
        room: RoomNumber,
        /// The room's ID.
        room_id: OwnedRoomId,
    },
    /// A user has forgotten a room.
    Forgotten {
        /// The room.
        room: RoomNumber,
        /// The room's ID.
        room_id: OwnedRoomId,
        /// The user.
        user: OwnedUserId,
    },
}

impl RoomsLogRow {
    /// Reads a row of the topic [`LOG_TOPIC`].
    ///
    /// # Errors
    /// [`RoomsError::BadRow`] for what is no such row.
    pub fn decode(payload: &[u8]) -> Result<Self> {
        serde_json::from_slice(payload).map_err(|_| RoomsError::BadRow { why: "a row of the log" })
    }

    /// The bytes to put into the log.
    ///
    /// # Errors
    /// [`RoomsError::BadRow`] when the row cannot be encoded, which does not happen for real IDs.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|_| RoomsError::BadRow { why: "a row for the log" })
    }
}

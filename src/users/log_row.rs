//! What the change log tells its followers of users.

use ruma::{OwnedDeviceId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use crate::error::{Result, UsersError};

/// The log's topic for changes of users.
pub const LOG_TOPIC: u16 = 2;

/// A change of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
#[non_exhaustive]
pub enum UsersLogRow {
    /// An account was created, closed or given other rights.
    Account {
        /// Whose.
        user_id: OwnedUserId,
    },
    /// Account data was set.
    AccountData {
        /// Whose.
        user_id: OwnedUserId,
        /// For which room; `None` where it is global.
        room: Option<OwnedRoomId>,
        /// The type.
        kind: String,
    },
    /// A profile field was set or removed.
    Profile {
        /// Whose.
        user_id: OwnedUserId,
        /// The name of the field.
        field: String,
    },
    /// A new device logged in.
    DeviceAdded {
        /// Whose.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
    },
    /// A device was given another name.
    DeviceRenamed {
        /// Whose.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
    },
    /// A device logged out, or was removed.
    DeviceRemoved {
        /// Whose.
        user_id: OwnedUserId,
        /// The device.
        device_id: OwnedDeviceId,
    },
    /// What others may know of a user's devices or cross-signing keys has changed. For users of
    /// other servers, too.
    DeviceListChanged {
        /// Whose.
        user_id: OwnedUserId,
        /// The numbers of the changes that other servers are told of, each with
        /// [`crate::Users::device_list_update`]. Empty for users of other servers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stream_ids: Vec<u64>,
        /// Whether the master or self-signing key of a user of this server is among what changed:
        /// other servers are told with [`crate::Users::signing_key_update`].
        #[serde(default, skip_serializing_if = "is_false")]
        signing_keys: bool,
    },
    /// A user signed somebody else's master key, which only they see.
    Signed {
        /// Who.
        user_id: OwnedUserId,
    },
    /// A fallback key was used for the first time.
    FallbackKeyUsed {
        /// Whose.
        user_id: OwnedUserId,
        /// Of which device.
        device_id: OwnedDeviceId,
    },
    /// Messages came for devices of this server's users.
    ToDevice {
        /// Whose devices.
        user_ids: Vec<OwnedUserId>,
    },
    /// Messages wait for devices of another server, see [`crate::Users::to_device_out`].
    ToDeviceOut {
        /// Where they go.
        destination: OwnedServerName,
    },
}

fn is_false(value: &bool) -> bool {
    !value
}

impl UsersLogRow {
    /// Reads a row of the log.
    ///
    /// # Errors
    /// [`UsersError::BadRow`] when the bytes are not such a row.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(UsersError::bad_row)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(UsersError::bad_row)
    }
}

//! What a client asks of a sync.

use ruma::{
    OwnedDeviceId, OwnedUserId, api::client::filter::FilterDefinition, presence::PresenceState,
};

use crate::token::SyncToken;

/// A request for all that is new to a device since a point.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// Who asks.
    pub user_id: OwnedUserId,
    /// With which device.
    pub device_id: OwnedDeviceId,
    /// Up to where the device has been told; `None` where it has nothing.
    pub since: Option<SyncToken>,
    /// What it wants of it.
    pub filter: FilterDefinition,
    /// Whether it wants the whole state of all rooms, whatever it has.
    pub full_state: bool,
    /// Whether it wants the state up to the end of each timeline instead of its start.
    pub use_state_after: bool,
    /// How long to wait where there is nothing new, in milliseconds. At most
    /// [`crate::SYNC_TIMEOUT_MS_MAX`].
    pub timeout_ms: u64,
    /// As what the user is to be seen.
    pub set_presence: PresenceState,
}

impl SyncRequest {
    /// A request for everything, with default options.
    #[must_use]
    pub fn new(user_id: OwnedUserId, device_id: OwnedDeviceId) -> Self {
        Self {
            user_id,
            device_id,
            since: None,
            filter: FilterDefinition::default(),
            full_state: false,
            use_state_after: false,
            timeout_ms: 0,
            set_presence: PresenceState::Online,
        }
    }
}

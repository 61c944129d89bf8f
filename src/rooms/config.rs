//! What the rooms of a server must know about it.

use std::sync::Arc;

use event::ServerKey;
use ruma::{OwnedServerName, RoomVersionId};

use crate::{
    error::{Result, RoomsError},
    remote::{Nobody, Remote},
};

/// Memory of the caches where the configuration says nothing else, in bytes.
pub const CACHE_BYTES_DEFAULT: u64 = 128 * 1024 * 1024;

/// Settings of [`crate::Rooms`].
#[derive(Clone, Debug)]
pub struct RoomsConfig {
    /// The name of this server: the domain of its users, rooms and signatures.
    pub server_name: OwnedServerName,
    /// Version of new rooms where the creator names none.
    pub default_version: RoomVersionId,
    /// The key that signs our events.
    pub key: Arc<ServerKey>,
    /// Memory for all caches together, in bytes.
    pub cache_bytes: u64,
    /// Other servers.
    pub remote: Arc<dyn Remote>,
}

impl RoomsConfig {
    /// Settings with the default cache size and without other servers.
    #[must_use]
    pub fn new(
        server_name: OwnedServerName,
        default_version: RoomVersionId,
        key: Arc<ServerKey>,
    ) -> Self {
        Self {
            server_name,
            default_version,
            key,
            cache_bytes: CACHE_BYTES_DEFAULT,
            remote: Arc::new(Nobody),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if event::SUPPORTED.contains(&self.default_version) {
            return Ok(());
        }
        Err(RoomsError::UnsupportedVersion { version: self.default_version.clone() })
    }
}

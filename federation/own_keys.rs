//! The keys of this server.

use std::sync::Arc;

use event::{OldKey, ServerKey};
use ruma::{OwnedServerSigningKeyId, ServerName, serde::Base64, signatures::PublicKeyMap};

/// The key that signs for this server, and those that did so before.
#[derive(Clone, Debug)]
pub struct OwnKeys {
    current: Arc<ServerKey>,
    old: Arc<[OldKey]>,
}

impl OwnKeys {
    /// The keys, as the server's identity has them.
    #[must_use]
    pub fn new(current: Arc<ServerKey>, old: Vec<OldKey>) -> Self {
        Self { current, old: old.into() }
    }

    /// The key that signs.
    #[must_use]
    pub fn current(&self) -> Arc<ServerKey> {
        Arc::clone(&self.current)
    }

    /// The keys that signed once, and no longer do.
    #[must_use]
    pub fn old(&self) -> &[OldKey] {
        &self.old
    }

    /// All public halves, to verify what this server signed at any time.
    #[must_use]
    pub fn public_keys(&self, server_name: &ServerName) -> PublicKeyMap {
        let mut keys = self.current.public_keys(server_name);
        let ours = keys.entry(server_name.to_string()).or_default();
        for (key_id, key) in self.old_keys() {
            ours.insert(key_id.to_string(), key);
        }
        keys
    }

    fn old_keys(&self) -> impl Iterator<Item = (&OwnedServerSigningKeyId, Base64)> {
        self.old.iter().filter_map(|old| {
            let key = Base64::parse(&old.public_key_base64).ok()?;
            Some((&old.key_id, key))
        })
    }
}

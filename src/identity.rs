//! Who this server is, kept in its store: its name, which can never change, and the keys that sign
//! for it.

use std::sync::Arc;

use event::{EventError, OldKey, ServerKey};
use federation::OwnKeys;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, ServerName, UInt,
};
use serde::{Deserialize, Serialize};
use store::{Batch, Family, Json, Store, StoreError, Table};

/// The one row's key.
const KEY: u8 = 0;

/// Most keys that a server may have had: others keep so many.
const OLD_KEYS_MAX: usize = 200;

/// The server's name and signing keys. Key: always 0. Value: [`Identity`]. Written at the first
/// start, and when the key is rotated. The name never changes, and no key is ever forgotten.
const IDENTITY: Table<u8, Json<Identity>> = Table::new(0x0501, "identity", Family::Main);

/// The name and keys as they are stored.
#[derive(Clone, Serialize, Deserialize)]
struct Identity {
    server_name: OwnedServerName,
    key_version: String,
    key_seed: [u8; 32],
    /// Keys with which the server signed before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    old_keys: Vec<StoredOldKey>,
    /// The key with which it will sign from its next start on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_key: Option<StoredKey>,
}

/// A key with which the server no longer signs. Its secret half is gone.
#[derive(Clone, Serialize, Deserialize)]
struct StoredOldKey {
    key_id: OwnedServerSigningKeyId,
    public_key_base64: String,
    expired_ms: u64,
}

/// A key with its secret half.
#[derive(Clone, Serialize, Deserialize)]
struct StoredKey {
    version: String,
    seed: [u8; 32],
}

/// Why the server can't be who it shall be.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store belongs to a server with another name.
    #[error(
        "this data directory belongs to the server {stored}, but the configuration names {wanted}: a server's name can never \
         change; set server.name to {stored}, or server.data_dir to another directory"
    )]
    OtherName {
        /// The name in the store.
        stored: OwnedServerName,
        /// The name in the configuration.
        wanted: OwnedServerName,
    },
    /// The store was never used by a server.
    #[error(
        "there is no server in this data directory yet: start it once with `natterjack serve`, or give --server-name"
    )]
    Nobody,
    /// The key was rotated very often.
    #[error("this server has had {OLD_KEYS_MAX} keys, more than others would remember")]
    TooManyKeys,
    /// The key can't be made or read.
    #[error("the signing key: {0}")]
    Key(#[from] EventError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The name of the server that a store belongs to, if any.
pub(crate) async fn stored_name(store: &Store) -> Result<Option<OwnedServerName>, IdentityError> {
    Ok(store.get(&IDENTITY, &KEY).await?.map(|Json(identity)| identity.server_name))
}

/// The keys of a server; made at its first start. A key that was made by [`rotate`] meanwhile is
/// taken into use, as of `now_ms`.
pub(crate) async fn load(
    store: &Store,
    server_name: &ServerName,
    now_ms: u64,
) -> Result<OwnKeys, IdentityError> {
    let Some(Json(identity)) = store.get(&IDENTITY, &KEY).await? else {
        let key = ServerKey::generate(&key_version()?)?;
        let identity = Identity {
            server_name: server_name.to_owned(),
            key_version: key.version().to_owned(),
            key_seed: key.seed(),
            old_keys: Vec::new(),
            next_key: None,
        };
        let mut batch = Batch::new();
        batch.expect(&IDENTITY, &KEY, None);
        batch.put(&IDENTITY, &KEY, &Json(identity));
        store.commit(batch).await?;
        return Ok(OwnKeys::new(Arc::new(key), Vec::new()));
    };
    if identity.server_name != server_name {
        return Err(IdentityError::OtherName {
            stored: identity.server_name,
            wanted: server_name.to_owned(),
        });
    }
    let identity = match &identity.next_key {
        None => identity,
        Some(next) => {
            let renewed = identity.renewed(next.clone(), now_ms)?;
            replace(store, identity, renewed).await?
        }
    };
    identity.keys()
}

/// Makes a new key, with which the server will sign from its next start on. Gives its ID.
pub(crate) async fn rotate(store: &Store) -> Result<OwnedServerSigningKeyId, IdentityError> {
    let stored = store.get(&IDENTITY, &KEY).await?;
    let Json(identity) = stored.ok_or(IdentityError::Nobody)?;
    if identity.old_keys.len() >= OLD_KEYS_MAX {
        return Err(IdentityError::TooManyKeys);
    }
    let key = ServerKey::generate(&key_version()?)?;
    let next_key = StoredKey { version: key.version().to_owned(), seed: key.seed() };
    let changed = Identity { next_key: Some(next_key), ..identity.clone() };
    replace(store, identity, changed).await?;
    Ok(key.key_id().to_owned())
}

/// Writes the row, if it is still what it was.
async fn replace(
    store: &Store,
    before: Identity,
    after: Identity,
) -> Result<Identity, IdentityError> {
    let after = Json(after);
    let mut batch = Batch::new();
    batch.expect(&IDENTITY, &KEY, Some(&Json(before)));
    batch.put(&IDENTITY, &KEY, &after);
    store.commit(batch).await?;
    Ok(after.0)
}

impl Identity {
    fn key(&self) -> Result<ServerKey, EventError> {
        ServerKey::from_parts(self.key_seed, &self.key_version)
    }

    fn keys(&self) -> Result<OwnKeys, IdentityError> {
        let old = self.old_keys.iter().map(|old| OldKey {
            key_id: old.key_id.clone(),
            public_key_base64: old.public_key_base64.clone(),
            expired_ts: MilliSecondsSinceUnixEpoch(UInt::new_saturating(old.expired_ms)),
        });
        Ok(OwnKeys::new(Arc::new(self.key()?), old.collect()))
    }

    /// The same server with another key. The secret half of the one before is forgotten.
    fn renewed(&self, next: StoredKey, now_ms: u64) -> Result<Self, EventError> {
        let current = self.key()?;
        let mut old_keys = self.old_keys.clone();
        old_keys.push(StoredOldKey {
            key_id: current.key_id().to_owned(),
            public_key_base64: current.public_key_base64(),
            expired_ms: now_ms,
        });
        Ok(Self {
            server_name: self.server_name.clone(),
            key_version: next.version,
            key_seed: next.seed,
            old_keys,
            next_key: None,
        })
    }
}

/// A name for a new key that no other key of this server has, even if the data directory was lost
/// in between.
fn key_version() -> Result<String, EventError> {
    use rand::TryRngCore as _;
    let number = rand::rngs::OsRng
        .try_next_u32()
        .map_err(|error| EventError::BadKey(format!("no randomness: {error}")))?;
    Ok(format!("a_{number:08x}"))
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[tokio::test]
    async fn the_key_stays_and_the_name_can_never_change() {
        let store = Store::memory();
        assert_eq!(stored_name(&store).await.unwrap(), None);
        let name = server_name!("example.org");
        let first = load(&store, name, 1).await.unwrap().current();
        let again = load(&store, name, 2).await.unwrap().current();
        assert_eq!(first.seed(), again.seed());
        assert_eq!(first.key_id(), again.key_id());
        assert_eq!(stored_name(&store).await.unwrap().as_deref(), Some(name));
        let error = load(&store, server_name!("example.com"), 3).await.unwrap_err();
        assert!(error.to_string().contains("belongs to the server example.org"), "{error}");
    }

    #[tokio::test]
    async fn a_rotated_key_signs_from_the_next_start_on_and_the_old_one_is_remembered() {
        let store = Store::memory();
        let name = server_name!("example.org");
        assert!(matches!(rotate(&store).await, Err(IdentityError::Nobody)));
        let before = load(&store, name, 1).await.unwrap().current();
        let next = rotate(&store).await.unwrap();
        assert_ne!(next, before.key_id());
        let after = load(&store, name, 5_000).await.unwrap();
        assert_eq!(after.current().key_id(), next);
        let [old] = after.old() else { panic!("{after:?}") };
        assert_eq!(old.key_id, before.key_id());
        assert_eq!(old.public_key_base64, before.public_key_base64());
        assert_eq!(u64::from(old.expired_ts.get()), 5_000);
        let keys = after.public_keys(name);
        assert_eq!(keys[name.as_str()].len(), 2);
        let again = load(&store, name, 6_000).await.unwrap();
        assert_eq!(again.current().key_id(), next);
        assert_eq!(again.old().len(), 1);
    }
}

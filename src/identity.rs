//! Who this server is, kept in its store: its name, which can never change, and the key that signs
//! for it.

use event::{EventError, ServerKey};
use ruma::{OwnedServerName, ServerName};
use serde::{Deserialize, Serialize};
use store::{Batch, Family, Json, Store, StoreError, Table};

/// The one row's key.
const KEY: u8 = 0;

/// The server's name and signing key. Key: always 0. Value: [`Identity`]. Written once, at the
/// first start, and never again.
const IDENTITY: Table<u8, Json<Identity>> = Table::new(0x0501, "identity", Family::Main);

/// The name and key as they are stored.
#[derive(Clone, Serialize, Deserialize)]
struct Identity {
    server_name: OwnedServerName,
    key_version: String,
    key_seed: [u8; 32],
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

/// The key that signs for a server; made at its first start.
pub(crate) async fn load(
    store: &Store,
    server_name: &ServerName,
) -> Result<ServerKey, IdentityError> {
    if let Some(Json(identity)) = store.get(&IDENTITY, &KEY).await? {
        if identity.server_name != server_name {
            return Err(IdentityError::OtherName {
                stored: identity.server_name,
                wanted: server_name.to_owned(),
            });
        }
        return Ok(ServerKey::from_parts(identity.key_seed, &identity.key_version)?);
    }
    let key = ServerKey::generate(&key_version()?)?;
    let identity = Identity {
        server_name: server_name.to_owned(),
        key_version: key.version().to_owned(),
        key_seed: key.seed(),
    };
    let mut batch = Batch::new();
    batch.expect(&IDENTITY, &KEY, None);
    batch.put(&IDENTITY, &KEY, &Json(identity));
    store.commit(batch).await?;
    Ok(key)
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
        let first = load(&store, name).await.unwrap();
        let again = load(&store, name).await.unwrap();
        assert_eq!(first.seed(), again.seed());
        assert_eq!(first.key_id(), again.key_id());
        assert_eq!(stored_name(&store).await.unwrap().as_deref(), Some(name));
        let error = load(&store, server_name!("example.com")).await.unwrap_err();
        assert!(error.to_string().contains("belongs to the server example.org"), "{error}");
    }
}

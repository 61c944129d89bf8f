//! The document in which a server publishes its keys.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, MilliSecondsSinceUnixEpoch, OwnedServerSigningKeyId,
    ServerName,
};

use crate::{EventError, ServerKey, format::write_canonical};

/// A key with which the server no longer signs.
#[derive(Clone, Debug)]
pub struct OldKey {
    /// The key's ID, like `ed25519:a_Qv1`.
    pub key_id: OwnedServerSigningKeyId,
    /// The public half in unpadded base64.
    pub public_key_base64: String,
    /// Since when the key is not used.
    pub expired_ts: MilliSecondsSinceUnixEpoch,
}

/// The signed answer to `GET /_matrix/key/v2/server`, as canonical JSON.
///
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server)
///
/// # Errors
/// None for a sound key; [`EventError::BadJson`] if the object could not be written.
pub fn key_document(
    server_name: &ServerName,
    key: &ServerKey,
    old_keys: &[OldKey],
    valid_until_ts: MilliSecondsSinceUnixEpoch,
) -> Result<String, EventError> {
    let verify_keys =
        object([(key.key_id().as_str(), object([("key", key.public_key_base64().into())]).into())]);
    let old_verify_keys = object(old_keys.iter().map(|old| {
        let value = object([
            ("expired_ts", old.expired_ts.0.into()),
            ("key", old.public_key_base64.as_str().into()),
        ]);
        (old.key_id.as_str(), value.into())
    }));
    let mut document = object([
        ("old_verify_keys", old_verify_keys.into()),
        ("server_name", server_name.as_str().into()),
        ("valid_until_ts", valid_until_ts.0.into()),
        ("verify_keys", verify_keys.into()),
    ]);
    key.sign_json(server_name, &mut document)?;
    write_canonical(&document)
}

fn object<'a>(
    fields: impl IntoIterator<Item = (&'a str, CanonicalJsonValue)>,
) -> CanonicalJsonObject {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

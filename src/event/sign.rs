//! The key with which a server signs.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};
use rand::{TryRngCore, rngs::OsRng};
use ruma::{
    CanonicalJsonObject, OwnedServerSigningKeyId, ServerName, ServerSigningKeyId,
    SigningKeyAlgorithm, SigningKeyId,
    room_version_rules::RoomVersionRules,
    serde::Base64,
    signatures::{KeyPair, PublicKeyMap, Signature, sign_json},
};

use crate::{EventError, Pdu, object::EventObject};

/// An ed25519 key of a server with its name.
///
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#publishing-keys)
pub struct ServerKey {
    signing_key: SigningKey,
    key_id: OwnedServerSigningKeyId,
}

impl ServerKey {
    /// Makes a new key from the operating system's randomness. `version` becomes a part of its ID.
    ///
    /// # Errors
    /// [`EventError::BadKey`] when there is no randomness, or `version` has anything but
    /// `[a-zA-Z0-9_]`.
    pub fn generate(version: &str) -> Result<Self, EventError> {
        let mut seed = [0; 32];
        OsRng
            .try_fill_bytes(&mut seed)
            .map_err(|error| EventError::BadKey(format!("no randomness: {error}")))?;
        Self::from_parts(seed, version)
    }

    /// Restores a key from its seed.
    ///
    /// # Errors
    /// [`EventError::BadKey`] when `version` is empty or has anything but `[a-zA-Z0-9_]`.
    pub fn from_parts(seed: [u8; 32], version: &str) -> Result<Self, EventError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if version.is_empty() || !version.bytes().all(allowed) {
            return Err(EventError::BadKey(format!("`{version}` cannot name a key")));
        }
        let key_id = ServerSigningKeyId::parse(format!("ed25519:{version}"))
            .map_err(|error| EventError::BadKey(error.to_string()))?;
        Ok(Self { signing_key: SigningKey::from_bytes(&seed), key_id })
    }

    /// The secret from which [`ServerKey::from_parts`] restores the key.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.signing_key.to_bytes()
    }

    /// The key's ID, like `ed25519:a_Qv1`.
    #[must_use]
    pub fn key_id(&self) -> &ServerSigningKeyId {
        &self.key_id
    }

    /// The part of the ID behind the algorithm.
    #[must_use]
    pub fn version(&self) -> &str {
        self.key_id.key_name().as_str()
    }

    /// The public half in unpadded base64.
    #[must_use]
    pub fn public_key_base64(&self) -> String {
        STANDARD_NO_PAD.encode(self.signing_key.verifying_key().as_bytes())
    }

    /// This key alone as a key ring, to verify what `server_name` signed with it.
    #[must_use]
    pub fn public_keys(&self, server_name: &ServerName) -> PublicKeyMap {
        let public_key = Base64::new(self.signing_key.verifying_key().to_bytes().to_vec());
        let keys = [(self.key_id.to_string(), public_key)].into();
        [(server_name.to_string(), keys)].into()
    }

    /// The signature of a text in unpadded base64.
    pub(crate) fn signature_base64(&self, text: &[u8]) -> String {
        STANDARD_NO_PAD.encode(self.signing_key.sign(text).to_bytes())
    }

    /// Signs an object as `server_name`, adding to its `signatures`.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/appendices/#signing-details)
    ///
    /// # Errors
    /// [`EventError::BadJson`] when the object has a malformed `signatures`.
    pub fn sign_json(
        &self,
        server_name: &ServerName,
        object: &mut CanonicalJsonObject,
    ) -> Result<(), EventError> {
        Ok(sign_json(server_name.as_str(), self, object)?)
    }
}

impl KeyPair for ServerKey {
    fn sign(&self, message: &[u8]) -> Signature {
        Signature::new(
            SigningKeyId::from_parts(SigningKeyAlgorithm::Ed25519, self.version().into()),
            self.signing_key.sign(message).to_bytes().to_vec(),
        )
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServerKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

/// Adds the signature of `server_name` to an event that another server made, as invites and
/// restricted joins need.
///
/// # Errors
/// [`EventError::BadJson`] when the event's `signatures` are malformed.
pub fn countersign(
    pdu: &Pdu,
    server_name: &ServerName,
    key: &ServerKey,
    rules: &RoomVersionRules,
) -> Result<Pdu, EventError> {
    let mut object = EventObject::parse(&pdu.json, rules)?;
    object.sign(server_name, key, rules)?;
    let mut signed = Pdu::from_stored(pdu.event_id.clone(), object.write()?.into(), rules)?;
    signed.rejected = pdu.rejected;
    Ok(signed)
}

//! The document in which a server publishes its keys, as it comes from the server or from a
//! notary, and what is remembered of it.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, OwnedServerSigningKeyId, ServerName, SigningKeyAlgorithm,
    serde::Base64,
    signatures::{PublicKeyMap, verify_json},
};
use serde::{Deserialize, Serialize};

use crate::OwnKeys;

/// Largest document, in bytes.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 64 * 1024;

/// Most keys of one server that are remembered.
const KEYS_MAX: usize = 256;

/// Longest that a document is relied on, whatever it says, in milliseconds: 7 days.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixkeyv2server)
const RELIANCE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;

/// What is known of a server's keys.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ServerKeys {
    /// Every key that was ever seen.
    pub(crate) keys: BTreeMap<OwnedServerSigningKeyId, KnownKey>,
    /// The newest document, with the signatures that it came with; for those who ask us for it.
    pub(crate) document: Option<String>,
    /// Until when the newest document holds, by its own words, in milliseconds.
    pub(crate) document_valid_until_ms: u64,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownKey {
    /// The public key.
    pub(crate) key: Base64,
    /// Until when it was or is valid, in milliseconds.
    pub(crate) valid_until_ms: u64,
    /// Whether the server no longer signs with it.
    pub(crate) is_old: bool,
}

/// What a key is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyUse {
    /// An event of a room version that accepts every key that the server ever had.
    AnyTime,
    /// An event that was sent at this time, in milliseconds.
    At(u64),
    /// A request that is made at this time, in milliseconds.
    Request(u64),
}

impl KnownKey {
    pub(crate) fn is_good_for(&self, key_use: KeyUse) -> bool {
        match key_use {
            KeyUse::AnyTime => true,
            KeyUse::At(sent_ms) => sent_ms <= self.valid_until_ms,
            KeyUse::Request(now_ms) => !self.is_old && now_ms <= self.valid_until_ms,
        }
    }
}

impl ServerKeys {
    /// The keys of this server, which are never fetched.
    pub(crate) fn of_this_server(own: &OwnKeys) -> Self {
        let current = own.current();
        let key = Base64::parse(current.public_key_base64()).ok();
        let valid_until_ms = u64::MAX;
        let current = key.map(|key| {
            (current.key_id().to_owned(), KnownKey { key, valid_until_ms, is_old: false })
        });
        let old = own.old().iter().filter_map(|old| {
            let key = Base64::parse(&old.public_key_base64).ok()?;
            let valid_until_ms = old.expired_ts.get().into();
            Some((old.key_id.clone(), KnownKey { key, valid_until_ms, is_old: true }))
        });
        Self { keys: old.chain(current).collect(), ..Self::default() }
    }

    /// The keys among those named that may be used, ready for verifying.
    pub(crate) fn usable<'a>(
        &self,
        key_ids: impl IntoIterator<Item = &'a OwnedServerSigningKeyId>,
        key_use: KeyUse,
    ) -> BTreeMap<String, Base64> {
        key_ids
            .into_iter()
            .filter_map(|key_id| Some((key_id, self.keys.get(key_id)?)))
            .filter(|(_, known)| known.is_good_for(key_use))
            .map(|(key_id, known)| (key_id.to_string(), known.key.clone()))
            .collect()
    }

    /// Adds what a document says.
    pub(crate) fn learn(&mut self, document: Document) {
        for (key_id, fresh) in document.keys {
            if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&key_id) {
                continue;
            }
            let merged = match self.keys.get(&key_id) {
                // The same key may be said to be valid for longer by now, but not for shorter,
                // unless it was taken out of use.
                Some(known) if known.key == fresh.key && known.is_old == fresh.is_old => KnownKey {
                    valid_until_ms: known.valid_until_ms.max(fresh.valid_until_ms),
                    ..fresh
                },
                // A notary may have an older document, from before the key was taken out of use.
                Some(known) if known.key == fresh.key && known.is_old => known.clone(),
                _ => fresh,
            };
            self.keys.insert(key_id, merged);
        }
        if document.valid_until_ms >= self.document_valid_until_ms {
            self.document = Some(document.json);
            self.document_valid_until_ms = document.valid_until_ms;
        }
    }
}

/// A document whose own signature holds.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) json: String,
    pub(crate) keys: BTreeMap<OwnedServerSigningKeyId, KnownKey>,
    pub(crate) valid_until_ms: u64,
    object: CanonicalJsonObject,
}

#[derive(Deserialize)]
struct Form {
    server_name: String,
    valid_until_ts: u64,
    verify_keys: BTreeMap<String, VerifyKey>,
    #[serde(default)]
    old_verify_keys: BTreeMap<String, OldVerifyKey>,
}

#[derive(Deserialize)]
struct VerifyKey {
    key: String,
}

#[derive(Deserialize)]
struct OldVerifyKey {
    key: String,
    expired_ts: u64,
}

impl Document {
    /// Reads a document and checks that it is of the server and signed with one of the keys in it.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn read(json: &str, server: &ServerName, now_ms: u64) -> Result<Self, String> {
        if json.len() > DOCUMENT_BYTES_MAX {
            return Err(format!("the keys take more than {DOCUMENT_BYTES_MAX} bytes"));
        }
        let object: CanonicalJsonObject =
            serde_json::from_str(json).map_err(|error| format!("malformed keys: {error}"))?;
        let form: Form =
            serde_json::from_str(json).map_err(|error| format!("malformed keys: {error}"))?;
        if form.server_name != server.as_str() {
            return Err(format!("the keys are those of {}", form.server_name));
        }
        let reliable_until_ms = form.valid_until_ts.min(now_ms.saturating_add(RELIANCE_MS_MAX));
        let mut keys = BTreeMap::new();
        for (id, old) in form.old_verify_keys.into_iter().take(KEYS_MAX) {
            let valid_until_ms = old.expired_ts;
            keys.extend(known_key(&id, &old.key, valid_until_ms, true));
        }
        let mut current = BTreeMap::new();
        for (id, new) in form.verify_keys.into_iter().take(KEYS_MAX) {
            current.extend(known_key(&id, &new.key, reliable_until_ms, false));
        }
        let public = current.iter().map(|(id, known)| (id.to_string(), known.key.clone()));
        let public: PublicKeyMap = [(server.to_string(), public.collect())].into();
        // A key that is in both lists is in use.
        keys.extend(current);
        let json = json.to_owned();
        let document = Self { json, keys, valid_until_ms: form.valid_until_ts, object };
        document.check_signature(server, &public)?;
        Ok(document)
    }

    /// Checks that `server` signed the document with one of its keys.
    ///
    /// # Errors
    /// A sentence for people.
    pub(crate) fn check_signature(
        &self,
        server: &ServerName,
        keys: &PublicKeyMap,
    ) -> Result<(), String> {
        let signature = self
            .object
            .get("signatures")
            .and_then(|all| all.as_object()?.get(server.as_str()))
            .ok_or_else(|| format!("the keys are not signed by {server}"))?;
        // The others' signatures are looked at by others.
        let only = CanonicalJsonObject::from([(server.to_string(), signature.clone())]);
        let mut object = self.object.clone();
        object.insert("signatures".to_owned(), only.into());
        verify_json(keys, &object)
            .map_err(|error| format!("the signature of {server} on the keys: {error}"))
    }
}

/// A key with which events can be signed; none of another algorithm, or that is malformed.
fn known_key(
    id: &str,
    key: &str,
    valid_until_ms: u64,
    is_old: bool,
) -> Option<(OwnedServerSigningKeyId, KnownKey)> {
    let id = OwnedServerSigningKeyId::try_from(id).ok()?;
    let key: Base64 = Base64::parse(key).ok()?;
    let is_right = id.algorithm() == SigningKeyAlgorithm::Ed25519 && key.as_bytes().len() == 32;
    is_right.then_some((id, KnownKey { key, valid_until_ms, is_old }))
}

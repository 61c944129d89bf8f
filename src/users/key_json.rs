//! Keys as the JSON objects that clients and servers exchange, and their signatures.

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, UserId,
    canonical_json::to_canonical_value,
    serde::{Base64, Raw, base64::Standard},
    signatures::{PublicKeyMap, verify_json},
};
use serde_json::{Value as JsonValue, value::RawValue as RawJsonValue};
use sha2::{Digest, Sha256};

use crate::error::{Result, UsersError};

/// Largest object with the keys of a device, or a cross-signing key, in bytes.
const KEY_BYTES_MAX: usize = 64 * 1024;

/// What is not signed.
const UNSIGNED: [&str; 2] = ["signatures", "unsigned"];

/// An object with keys, readable and small enough to be signed and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyObject(pub(crate) CanonicalJsonObject);

impl KeyObject {
    /// Reads an object that came from outside.
    ///
    /// # Errors
    /// [`UsersError::BadJson`] for what is no object, or cannot be signed;
    /// [`UsersError::TooLarge`].
    pub(crate) fn parse(json: &RawJsonValue) -> Result<Self> {
        if json.get().len() > KEY_BYTES_MAX {
            return Err(UsersError::TooLarge { what: "the key" });
        }
        let bad = |what: String| UsersError::BadJson { what };
        let value: JsonValue =
            serde_json::from_str(json.get()).map_err(|error| bad(error.to_string()))?;
        match to_canonical_value(value) {
            Ok(CanonicalJsonValue::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(bad("a key is a JSON object".to_owned())),
            Err(error) => Err(bad(format!("the key cannot be signed: {error}"))),
        }
    }

    /// Reads an object from the store.
    pub(crate) fn stored(json: &str) -> Result<Self> {
        serde_json::from_str(json).map(Self).map_err(UsersError::bad_row)
    }

    /// Reads an object of either origin where a damaged one counts as none.
    pub(crate) fn read<T>(json: &Raw<T>) -> Option<Self> {
        Self::parse(json.json()).ok()
    }

    pub(crate) fn text(&self) -> Result<String> {
        serde_json::to_string(&self.0).map_err(UsersError::bad_row)
    }

    /// Refuses a key that has grown too large by signatures.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] then.
    pub(crate) fn check_size(&self) -> Result<()> {
        if self.text()?.len() > KEY_BYTES_MAX {
            return Err(UsersError::TooLarge { what: "the key with its signatures" });
        }
        Ok(())
    }

    pub(crate) fn raw<T>(&self) -> Result<Raw<T>> {
        let json = RawJsonValue::from_string(self.text()?).map_err(UsersError::bad_row)?;
        Ok(Raw::from_json(json))
    }

    pub(crate) fn str(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// What is signed of it.
    pub(crate) fn unsigned(&self) -> Self {
        let mut object = self.0.clone();
        object.retain(|field, _| !UNSIGNED.contains(&field.as_str()));
        Self(object)
    }

    /// Whether two are the same but for their signatures.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.unsigned() == other.unsigned()
    }

    /// The public keys: each ID with its key.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&str, &str)> {
        let keys = self.0.get("keys").and_then(CanonicalJsonValue::as_object);
        let keys = keys.into_iter().flatten();
        keys.filter_map(|(id, key)| Some((id.as_str(), key.as_str()?)))
    }

    /// The key of an ID.
    pub(crate) fn key(&self, id: &str) -> Option<&str> {
        self.keys().find(|(found, _)| *found == id).map(|(_, key)| key)
    }

    /// The one Ed25519 key of a cross-signing key: its ID and itself.
    pub(crate) fn only_key(&self) -> Option<(&str, &str)> {
        let mut keys = self.keys();
        let (id, key) = keys.next()?;
        (keys.next().is_none() && id.strip_prefix("ed25519:")? == key).then_some((id, key))
    }

    /// The signatures of a user: the ID of each key with the signature.
    pub(crate) fn signatures_of(&self, user_id: &UserId) -> BTreeMap<String, String> {
        let signatures = self.0.get("signatures").and_then(CanonicalJsonValue::as_object);
        let own = signatures.and_then(|users| users.get(user_id.as_str()));
        let own = own.and_then(CanonicalJsonValue::as_object).into_iter().flatten();
        own.filter_map(|(id, signature)| Some((id.clone(), signature.as_str()?.to_owned())))
            .collect()
    }

    /// Leaves the signatures of one user only, and nothing that servers add.
    #[must_use]
    pub(crate) fn with_signatures_of(&self, user_id: &UserId) -> Self {
        let mut object = self.unsigned();
        if self.0.contains_key("signatures") {
            object.add_signatures(user_id, self.signatures_of(user_id));
        }
        object
    }

    /// Adds signatures of a user.
    pub(crate) fn add_signatures(
        &mut self,
        user_id: &UserId,
        signatures: BTreeMap<String, String>,
    ) {
        if signatures.is_empty() {
            return;
        }
        let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
        let all = self.0.entry("signatures".to_owned()).or_insert_with(empty);
        let Some(all) = all.as_object_mut() else { return };
        let own = all.entry(user_id.to_string()).or_insert_with(empty);
        let Some(own) = own.as_object_mut() else { return };
        own.extend(signatures.into_iter().map(|(id, text)| (id, text.into())));
    }

    /// Whether a key of a user has signed this.
    pub(crate) fn is_signed_by(&self, user_id: &UserId, key_id: &str, public_key: &str) -> bool {
        let Some(signature) = self.signatures_of(user_id).remove(key_id) else { return false };
        let Ok(public_key) = Base64::<Standard>::parse(public_key) else { return false };
        // Only this one is looked at: others cannot make it look right or wrong.
        let mut object = self.unsigned();
        object.add_signatures(user_id, BTreeMap::from([(key_id.to_owned(), signature)]));
        let keys = BTreeMap::from([(key_id.to_owned(), public_key)]);
        let map = PublicKeyMap::from([(user_id.to_string(), keys)]);
        verify_json(&map, &object.0).is_ok()
    }
}

/// The SHA-256 of a value's canonical JSON.
///
/// # Errors
/// [`UsersError::BadJson`] for what has no such form.
pub(crate) fn canonical_hash(json: &RawJsonValue) -> Result<[u8; 32]> {
    let bad = |what: String| UsersError::BadJson { what };
    let value: JsonValue =
        serde_json::from_str(json.get()).map_err(|error| bad(error.to_string()))?;
    let value = to_canonical_value(value).map_err(|error| bad(error.to_string()))?;
    Ok(Sha256::digest(value.to_string()).into())
}

/// The keys of a device with its name, as they are shown to others.
pub(crate) fn with_name(mut object: KeyObject, name: Option<&str>) -> KeyObject {
    let name = name.map(|name| ("device_display_name".to_owned(), name.to_owned().into()));
    let unsigned: CanonicalJsonObject = name.into_iter().collect();
    object.0.insert("unsigned".to_owned(), CanonicalJsonValue::Object(unsigned));
    object
}

/// Whether an object is about a device of a user.
pub(crate) fn is_of_device(object: &KeyObject, user_id: &str, device_id: &str) -> bool {
    object.str("user_id") == Some(user_id) && object.str("device_id") == Some(device_id)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;
    use serde_json::{json, value::to_raw_value};

    use super::*;

    fn object(json: &JsonValue) -> KeyObject {
        KeyObject::parse(&to_raw_value(json).unwrap()).unwrap()
    }

    #[test]
    fn signatures_of_others_are_not_kept() {
        let key = object(&json!({
            "user_id": "@a:x", "keys": {"ed25519:K": "K"}, "unsigned": {"x": 1},
            "signatures": {"@a:x": {"ed25519:D": "s"}, "@b:x": {"ed25519:E": "t"}},
        }));
        let kept = key.with_signatures_of(user_id!("@a:x"));
        let expected = object(&json!({
            "user_id": "@a:x", "keys": {"ed25519:K": "K"},
            "signatures": {"@a:x": {"ed25519:D": "s"}},
        }));
        assert_eq!(kept, expected);
        assert!(kept.is_same_key(&key));
        assert_eq!(key.only_key(), Some(("ed25519:K", "K")));
    }

    #[test]
    fn what_cannot_be_signed_is_refused() {
        for bad in [json!([1]), json!({"a": 1.5}), json!("x")] {
            assert!(KeyObject::parse(&to_raw_value(&bad).unwrap()).is_err(), "{bad}");
        }
    }

    #[test]
    fn signatures_are_checked_one_by_one() {
        let mut key = object(&json!({"user_id": "@a:x"}));
        assert!(!key.is_signed_by(user_id!("@a:x"), "ed25519:K", "AAAA"));
        let wrong = BTreeMap::from([("ed25519:K".to_owned(), "AAAA".to_owned())]);
        key.add_signatures(user_id!("@a:x"), wrong);
        assert!(!key.is_signed_by(user_id!("@a:x"), "ed25519:K", "AAAA"));
    }
}

//! An event as a JSON object: canonical, or in room versions 1 to 5 with numbers of any kind.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use ruma::{
    CanonicalJsonObject, EventId, OwnedEventId, ServerName, ServerSigningKeyId,
    SigningKeyAlgorithm,
    canonical_json::{CanonicalJsonObjectExt, redact_in_place},
    room_version_rules::{EventIdFormatVersion, RoomVersionRules},
    signatures::{
        PublicKeyMap, Verified, content_hash, reference_hash,
        required_server_signatures_to_verify_event, sign_event, verify_canonical_json_bytes,
        verify_event,
    },
};
use sha2::{Digest, Sha256};

use crate::{
    EventError, ServerKey,
    format::write_canonical,
    lax::{self, LaxObject, LaxValue},
    parse_canonical,
    verify::reference_event_id,
};

/// An event as a JSON object.
pub(crate) enum EventObject {
    /// Canonical JSON.
    Canonical(CanonicalJsonObject),
    /// JSON with numbers that canonical JSON does not allow.
    Lax {
        /// The event.
        object: LaxObject,
        /// The event with allowed numbers, to look at its fields.
        fields: CanonicalJsonObject,
    },
}

impl EventObject {
    /// Reads an event as the room version demands: from version 6 on it must be canonical JSON.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/rooms/v6/#canonical-json)
    pub(crate) fn parse(json: &str, rules: &RoomVersionRules) -> Result<Self, EventError> {
        match parse_canonical(json) {
            Err(_) if !rules.authorization.strict_canonical_json => {
                let object = lax::parse(json)?;
                let fields = lax::to_canonical(&object);
                Ok(Self::Lax { object, fields })
            }
            canonical => canonical.map(Self::Canonical),
        }
    }

    /// The fields of the event, to be looked at.
    pub(crate) fn fields(&self) -> &CanonicalJsonObject {
        match self {
            Self::Canonical(object) => object,
            Self::Lax { fields, .. } => fields,
        }
    }

    /// Takes a field away.
    pub(crate) fn remove(&mut self, field: &str) {
        match self {
            Self::Canonical(object) => drop(object.remove(field)),
            Self::Lax { object, fields } => {
                object.remove(field);
                fields.remove(field);
            }
        }
    }

    /// The one text of the event: what is stored, sent and measured.
    pub(crate) fn write(&self) -> Result<String, EventError> {
        match self {
            Self::Canonical(object) => write_canonical(object),
            Self::Lax { object, .. } => lax::write(object),
        }
    }

    /// Takes everything away that the room version does not protect from redaction.
    pub(crate) fn redact(&mut self, rules: &RoomVersionRules) -> Result<(), EventError> {
        match self {
            Self::Canonical(object) => redact_in_place(object, &rules.redaction, None)?,
            Self::Lax { object, fields } => {
                redact_in_place(fields, &rules.redaction, None)?;
                lax::prune(object, fields);
            }
        }
        Ok(())
    }

    /// The event's ID: its reference hash, or what it says itself in room versions 1 and 2.
    pub(crate) fn event_id(&self, rules: &RoomVersionRules) -> Result<OwnedEventId, EventError> {
        if rules.event_format.require_event_id {
            return reference_event_id(self.fields(), rules);
        }
        let id = format!("${}", self.reference_hash(rules)?);
        EventId::parse(id).map_err(|error| EventError::BadJson(error.to_string()))
    }

    /// The reference hash in the base64 of the room version.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event)
    pub(crate) fn reference_hash(&self, rules: &RoomVersionRules) -> Result<String, EventError> {
        match self {
            Self::Canonical(object) => Ok(reference_hash(object, rules)?),
            Self::Lax { .. } => {
                let hash = Sha256::digest(self.signed_text(rules)?);
                let engine = match rules.event_id_format {
                    EventIdFormatVersion::V1 | EventIdFormatVersion::V2 => STANDARD_NO_PAD,
                    _ => base64::engine::general_purpose::URL_SAFE_NO_PAD,
                };
                Ok(engine.encode(hash))
            }
        }
    }

    /// Whether the event has the content hash that it states.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#calculating-the-content-hash-for-an-event)
    pub(crate) fn has_its_hash(&self) -> Result<bool, EventError> {
        let hashes = self.fields().get_as_required_object("hashes", "hashes")?;
        let stated = hashes.get_as_required_string("sha256", "hashes.sha256")?;
        let hash = match self {
            Self::Canonical(object) => content_hash(object)?.encode(),
            Self::Lax { object, .. } => {
                let mut hashed = object.clone();
                hashed.retain(|key, _| !matches!(&**key, "hashes" | "signatures" | "unsigned"));
                STANDARD_NO_PAD.encode(Sha256::digest(lax::write(&hashed)?))
            }
        };
        Ok(stated.trim_end_matches('=') == hash)
    }

    /// Checks the signatures of all servers that must sign the event, then its hash.
    pub(crate) fn verify(
        &self,
        keys: &PublicKeyMap,
        rules: &RoomVersionRules,
    ) -> Result<Verified, EventError> {
        if let Self::Canonical(object) = self {
            return Ok(verify_event(keys, object, rules)?);
        }
        let text = self.signed_text(rules)?;
        let fields = self.fields();
        let signatures = fields.get_as_required_object("signatures", "signatures")?;
        for server in required_server_signatures_to_verify_event(fields, &rules.signatures)? {
            let unverified = |why: &str| EventError::Unverified(format!("{why} {server}"));
            let keys = keys.get(server.as_str()).ok_or_else(|| unverified("no keys of"))?;
            let signed = signatures.get_as_required_object(server.as_str(), "signatures")?;
            let mut checked = false;
            for (key_id, signature) in signed {
                let algorithm = ServerSigningKeyId::parse(key_id).map(|id| id.algorithm());
                let (Some(key), Ok(SigningKeyAlgorithm::Ed25519)) = (keys.get(key_id), algorithm)
                else {
                    continue;
                };
                let signature = signature.as_str().unwrap_or_default().trim_end_matches('=');
                let signature = STANDARD_NO_PAD
                    .decode(signature)
                    .map_err(|_| unverified("no base64 in the signature of"))?;
                verify_canonical_json_bytes(
                    &SigningKeyAlgorithm::Ed25519,
                    key.as_bytes(),
                    &signature,
                    text.as_bytes(),
                )?;
                checked = true;
            }
            if !checked {
                return Err(unverified("no usable signature of"));
            }
        }
        Ok(if self.has_its_hash()? { Verified::All } else { Verified::Signatures })
    }

    /// Adds a signature.
    pub(crate) fn sign(
        &mut self,
        server_name: &ServerName,
        key: &ServerKey,
        rules: &RoomVersionRules,
    ) -> Result<(), EventError> {
        let signature = match self {
            Self::Canonical(object) => {
                return Ok(sign_event(server_name.as_str(), key, object, &rules.redaction)?);
            }
            Self::Lax { .. } => key.signature_base64(self.signed_text(rules)?.as_bytes()),
        };
        let Self::Lax { object, fields } = self else { return Ok(()) };
        let put = |map: &mut LaxObject| -> Result<(), EventError> {
            let mut map = map;
            for level in ["signatures", server_name.as_str()] {
                let next = map
                    .entry(level.to_owned())
                    .or_insert_with(|| LaxValue::Object(LaxObject::new()));
                let LaxValue::Object(next) = next else {
                    return Err(EventError::BadJson("bad `signatures`".to_owned()));
                };
                map = next;
            }
            map.insert(key.key_id().to_string(), LaxValue::String(signature.clone()));
            Ok(())
        };
        put(object)?;
        *fields = lax::to_canonical(object);
        Ok(())
    }

    /// What is signed, and hashed for the reference hash: the redacted event without signatures.
    fn signed_text(&self, rules: &RoomVersionRules) -> Result<String, EventError> {
        let mut redacted = match self {
            Self::Canonical(object) => Self::Canonical(object.clone()),
            Self::Lax { object, fields } => {
                Self::Lax { object: object.clone(), fields: fields.clone() }
            }
        };
        redacted.redact(rules)?;
        redacted.remove("signatures");
        redacted.remove("unsigned");
        redacted.write()
    }
}

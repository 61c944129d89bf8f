//! Signatures that users add to keys: to their own devices and master key, which everybody sees,
//! and to other users' master keys, which only they see.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keyssignaturesupload)

use std::collections::BTreeMap;

use ruma::{DeviceId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Json, Page, Position, Stamped, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    cross_signing::Usage,
    device_lists::ListChange,
    error::{Result, UsersError},
    key_json::KeyObject,
    log_row::{LOG_TOPIC, UsersLogRow},
    tables::{CROSS_SIGNING_KEYS, DEVICE_KEYS, SIGNED_MASTERS, SIGNED_MASTERS_CHANGES},
};

/// Other users whose master keys one user may have signed.
pub(crate) const SIGNED_MASTERS_MAX: usize = 20_000;

/// Objects that may be signed in one request.
const SIGNED_AT_ONCE_MAX: usize = 2_000;

/// What a user has signed of somebody's master key, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedMasterRow {
    /// The public key that was signed: for another one this counts for nothing.
    pub(crate) public_key: String,
    /// The ID of each key that signed with its signature.
    pub(crate) signatures: BTreeMap<String, String>,
}

/// Signed objects by user, and by device ID or public key.
pub type SignedKeys = BTreeMap<OwnedUserId, BTreeMap<String, Box<RawJsonValue>>>;

/// Why signatures were not taken, by user, and by device ID or public key.
pub type SignatureFailures = BTreeMap<OwnedUserId, BTreeMap<String, UsersError>>;

impl Users {
    /// Takes in what a user has signed. Each object stands for itself.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`] for too many at once; when the store fails.
    pub async fn upload_signatures(
        &self,
        signer: &UserId,
        signed: &SignedKeys,
    ) -> Result<SignatureFailures> {
        let count: usize = signed.values().map(BTreeMap::len).sum();
        if count > SIGNED_AT_ONCE_MAX {
            return Err(UsersError::TooLarge { what: "the number of signed keys" });
        }
        let mut failures = SignatureFailures::new();
        for (user_id, objects) in signed {
            for (name, json) in objects {
                let result = if user_id == signer {
                    self.sign_own(signer, name, json).await
                } else {
                    self.sign_other(signer, user_id, name, json).await
                };
                match result {
                    Ok(()) => {}
                    Err(UsersError::Store(error)) => return Err(error.into()),
                    Err(error) => {
                        let of_user = failures.entry(user_id.clone()).or_default();
                        of_user.insert(name.clone(), error);
                    }
                }
            }
        }
        Ok(failures)
    }

    /// Takes in what a user has signed of their own.
    async fn sign_own(&self, signer: &UserId, name: &str, json: &RawJsonValue) -> Result<()> {
        let object = KeyObject::parse(json)?;
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            let device_id: &DeviceId = name.into();
            match self.device_keys_object(signer, device_id).await? {
                Some(stored) => {
                    self.stage_signed_device(&mut batch, signer, device_id, stored, &object)
                        .await?;
                }
                None => self.stage_signed_master(&mut batch, signer, name, &object).await?,
            }
            if batch.is_empty() {
                return Ok(());
            }
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// A device signed by the self-signing key of its user.
    async fn stage_signed_device(
        &self,
        batch: &mut Batch,
        signer: &UserId,
        device_id: &DeviceId,
        stored: KeyObject,
        object: &KeyObject,
    ) -> Result<()> {
        if !stored.is_same_key(object) {
            return Err(UsersError::invalid("these are not the keys of the device"));
        }
        let key = self.signing_key(signer, Usage::SelfSigning).await?;
        let key = key.ok_or(UsersError::NotFound { what: "self-signing key" })?;
        let new = signatures_by(object, signer, key.keys());
        let Some(new) = new else { return Err(bad_signature()) };
        let mut signed = stored.clone();
        signed.add_signatures(signer, new);
        if signed == stored {
            return Ok(());
        }
        let row = (signer.to_string(), device_id.to_string());
        batch.expect(&DEVICE_KEYS, &row, Some(&stored.text()?));
        batch.put(&DEVICE_KEYS, &row, &signed.text()?);
        self.stage_list_change(batch, signer, ListChange::device(device_id)).await
    }

    /// The own master key signed by some of the user's devices.
    async fn stage_signed_master(
        &self,
        batch: &mut Batch,
        signer: &UserId,
        public_key: &str,
        object: &KeyObject,
    ) -> Result<()> {
        let stored = self.signing_key(signer, Usage::Master).await?;
        let stored = stored.filter(|key| key.only_key().is_some_and(|(_, key)| key == public_key));
        let stored = stored.ok_or(UsersError::NotFound { what: "device or master key" })?;
        if !stored.is_same_key(object) {
            return Err(UsersError::invalid("this is not your master key"));
        }
        let mut new = BTreeMap::new();
        for (key_id, signature) in object.signatures_of(signer) {
            let Some(device_id) = key_id.strip_prefix("ed25519:") else { continue };
            let Some(device) = self.device_keys_object(signer, device_id.into()).await? else {
                continue;
            };
            let key = device.key(&key_id);
            if !key.is_some_and(|key| object.is_signed_by(signer, &key_id, key)) {
                return Err(bad_signature());
            }
            new.insert(key_id, signature);
        }
        if new.is_empty() {
            return Err(bad_signature());
        }
        let mut signed = stored.clone();
        signed.add_signatures(signer, new);
        if signed == stored {
            return Ok(());
        }
        let row = (signer.to_string(), Usage::Master.name().to_owned());
        batch.expect(&CROSS_SIGNING_KEYS, &row, Some(&stored.text()?));
        batch.put(&CROSS_SIGNING_KEYS, &row, &signed.text()?);
        let change = ListChange { devices: Vec::new(), signing_keys: true };
        self.stage_list_change(batch, signer, change).await
    }

    /// Takes in that a user has signed another's master key.
    async fn sign_other(
        &self,
        signer: &UserId,
        signed: &UserId,
        name: &str,
        json: &RawJsonValue,
    ) -> Result<()> {
        let object = KeyObject::parse(json)?;
        let master = self.master_key_of(signed).await?;
        let master = master.filter(|key| key.only_key().is_some_and(|(_, key)| key == name));
        let master = master.ok_or(UsersError::NotFound { what: "master key" })?;
        if !master.is_same_key(&object) {
            return Err(UsersError::invalid("this is not the user's master key"));
        }
        let key = self.signing_key(signer, Usage::UserSigning).await?;
        let key = key.ok_or(UsersError::NotFound { what: "user-signing key" })?;
        let signatures = signatures_by(&object, signer, key.keys()).ok_or_else(bad_signature)?;
        let row = SignedMasterRow { public_key: name.to_owned(), signatures };
        self.put_signed_master(signer, signed, row).await
    }

    async fn put_signed_master(
        &self,
        signer: &UserId,
        signed: &UserId,
        row: SignedMasterRow,
    ) -> Result<()> {
        let key = (signer.to_string(), signed.to_string());
        for _ in 0..TRIES {
            let old = self.store().get(&SIGNED_MASTERS, &key).await?;
            let mut batch = Batch::new();
            match &old {
                Some(old) if old.value.0 == row => return Ok(()),
                Some(old) => {
                    let change = (key.0.clone(), old.position, key.1.clone());
                    batch.delete(&SIGNED_MASTERS_CHANGES, &change);
                }
                None => self.check_room_for_signed(signer).await?,
            }
            batch.expect(&SIGNED_MASTERS, &key, old.as_ref());
            batch.put(&SIGNED_MASTERS, &key, &Stamped::pending(Json(row.clone())));
            let change = (key.0.clone(), Position::PENDING, key.1.clone());
            batch.put(&SIGNED_MASTERS_CHANGES, &change, &());
            batch.log(LOG_TOPIC, UsersLogRow::Signed { user_id: signer.to_owned() }.encode()?);
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    async fn check_room_for_signed(&self, signer: &UserId) -> Result<()> {
        let range = SIGNED_MASTERS_CHANGES.prefix(&signer.to_string());
        let page = Page::first(SIGNED_MASTERS_MAX);
        let rows = self.store().scan(&SIGNED_MASTERS_CHANGES, range, page).await?;
        if rows.len() >= SIGNED_MASTERS_MAX {
            return Err(UsersError::TooLarge { what: "the number of signed users" });
        }
        Ok(())
    }

    /// Adds to a master key what the viewer has signed of it.
    pub(crate) async fn add_own_signatures(
        &self,
        viewer: &UserId,
        user_id: &UserId,
        master: &mut KeyObject,
    ) -> Result<()> {
        let key = (viewer.to_string(), user_id.to_string());
        let Some(row) = self.store().get(&SIGNED_MASTERS, &key).await? else { return Ok(()) };
        let Json(row) = row.value;
        if master.only_key().is_some_and(|(_, key)| key == row.public_key) {
            master.add_signatures(viewer, row.signatures);
        }
        Ok(())
    }

    /// Writes the end of all that a user has signed into a batch.
    pub(crate) async fn stage_signed_removal(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
    ) -> Result<()> {
        let user = user_id.to_string();
        crate::removal::stage(self.store(), batch, &SIGNED_MASTERS, &user).await?;
        crate::removal::stage(self.store(), batch, &SIGNED_MASTERS_CHANGES, &user).await
    }
}

/// The signatures of a user's keys on an object, where there is one and all of them are right.
fn signatures_by<'a>(
    object: &KeyObject,
    signer: &UserId,
    keys: impl Iterator<Item = (&'a str, &'a str)>,
) -> Option<BTreeMap<String, String>> {
    let all = object.signatures_of(signer);
    let mut found = BTreeMap::new();
    for (key_id, public_key) in keys {
        let Some(signature) = all.get(key_id) else { continue };
        if !object.is_signed_by(signer, key_id, public_key) {
            return None;
        }
        found.insert(key_id.to_owned(), signature.clone());
    }
    (!found.is_empty()).then_some(found)
}

fn bad_signature() -> UsersError {
    UsersError::InvalidSignature { what: "the signature is missing or not valid".to_owned() }
}

//! Cross-signing keys: with them users vouch for their own devices and for each other.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#cross-signing)

use ruma::{OwnedDeviceId, UserId, encryption::CrossSigningKey, serde::Raw};
use store::{Batch, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    device_lists::ListChange,
    error::{Result, UsersError},
    key_json::KeyObject,
    tables::CROSS_SIGNING_KEYS,
};

/// What a cross-signing key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Usage {
    Master,
    SelfSigning,
    UserSigning,
}

impl Usage {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }
}

/// Cross-signing keys that a user uploads.
#[derive(Clone, Debug, Default)]
pub struct NewSigningKeys {
    /// The master key, which signs the others.
    pub master: Option<Raw<CrossSigningKey>>,
    /// The key that signs the user's own devices.
    pub self_signing: Option<Raw<CrossSigningKey>>,
    /// The key that signs other users' master keys.
    pub user_signing: Option<Raw<CrossSigningKey>>,
}

/// Cross-signing keys that were read and found to be possible.
struct Checked(Vec<(Usage, KeyObject)>);

impl Checked {
    fn read(user_id: &UserId, new: &NewSigningKeys) -> Result<Self> {
        let all = [
            (Usage::Master, &new.master),
            (Usage::SelfSigning, &new.self_signing),
            (Usage::UserSigning, &new.user_signing),
        ];
        let mut keys = Vec::new();
        for (usage, json) in all {
            if let Some(json) = json {
                keys.push((usage, read_key(user_id, usage, json)?));
            }
        }
        Ok(Self(keys))
    }

    fn get(&self, wanted: Usage) -> Option<&KeyObject> {
        self.0.iter().find(|(usage, _)| *usage == wanted).map(|(_, key)| key)
    }
}

impl Users {
    /// Whether a user has to prove who they are before these keys are taken: only where they
    /// replace or complete a set that is there.
    ///
    /// # Errors
    /// [`UsersError::BadJson`], [`UsersError::Invalid`] for impossible keys;
    /// [`UsersError::Missing`] where the user has no master key.
    pub async fn signing_keys_need_proof(
        &self,
        user_id: &UserId,
        new: &NewSigningKeys,
    ) -> Result<bool> {
        let new = Checked::read(user_id, new)?;
        let Some(master) = self.signing_key(user_id, Usage::Master).await? else {
            return match new.get(Usage::Master) {
                Some(_) => Ok(false),
                None => Err(UsersError::Missing { what: "there is no master key" }),
            };
        };
        for (usage, key) in &new.0 {
            let old = match usage {
                Usage::Master => Some(master.clone()),
                usage => self.signing_key(user_id, *usage).await?,
            };
            if !old.is_some_and(|old| old.is_same_key(key)) {
                return Ok(true);
            }
        }
        Ok(new.get(Usage::Master).is_none() && !new.0.is_empty())
    }

    /// Publishes cross-signing keys of a user.
    ///
    /// # Errors
    /// [`UsersError::BadJson`], [`UsersError::Invalid`] for impossible keys;
    /// [`UsersError::InvalidSignature`] where the master key has not signed the others;
    /// [`UsersError::Missing`] where there is no master key; [`UsersError::Forbidden`] where a key
    /// is called as a device is.
    pub async fn upload_signing_keys(&self, user_id: &UserId, new: &NewSigningKeys) -> Result<()> {
        let new = Checked::read(user_id, new)?;
        for _ in 0..TRIES {
            let mut batch = Batch::new();
            self.stage_signing_keys(&mut batch, user_id, &new).await?;
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

    async fn stage_signing_keys(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
        new: &Checked,
    ) -> Result<()> {
        let stored = self.signing_key(user_id, Usage::Master).await?;
        let master = new.get(Usage::Master).or(stored.as_ref());
        let master = master.ok_or(UsersError::Missing { what: "there is no master key" })?;
        let (master_id, master_key) =
            master.only_key().ok_or_else(|| UsersError::bad_row("a master key"))?;
        let mut change = ListChange::default();
        let mut is_changed = false;
        for (usage, key) in &new.0 {
            self.check_no_device(user_id, key).await?;
            if *usage != Usage::Master && !key.is_signed_by(user_id, master_id, master_key) {
                let what = format!("the master key has not signed the {} key", usage.name());
                return Err(UsersError::InvalidSignature { what });
            }
            let row_key = (user_id.to_string(), usage.name().to_owned());
            let old = self.store().get(&CROSS_SIGNING_KEYS, &row_key).await?;
            let mut key = key.with_signatures_of(user_id);
            if let Some(old) = old.as_deref().map(KeyObject::stored).transpose()?
                && old.is_same_key(&key)
            {
                // What was signed since the key was made stays.
                let mut kept = old.clone();
                kept.add_signatures(user_id, key.signatures_of(user_id));
                if kept == old {
                    continue;
                }
                kept.check_size()?;
                key = kept;
            }
            batch.expect(&CROSS_SIGNING_KEYS, &row_key, old.as_ref());
            batch.put(&CROSS_SIGNING_KEYS, &row_key, &key.text()?);
            is_changed = true;
            change.signing_keys |= *usage != Usage::UserSigning;
        }
        if is_changed {
            self.stage_list_change(batch, user_id, change).await?;
        }
        Ok(())
    }

    /// Refuses a key that could be taken for one of the user's devices.
    async fn check_no_device(&self, user_id: &UserId, key: &KeyObject) -> Result<()> {
        let Some((_, public_key)) = key.only_key() else { return Ok(()) };
        let device_id = OwnedDeviceId::from(public_key);
        if self.device_row(user_id, &device_id).await?.is_some() {
            let what = "the key is the ID of one of your devices".to_owned();
            return Err(UsersError::Forbidden { what });
        }
        Ok(())
    }

    /// A cross-signing key of one of our users, with the user's own signatures.
    pub(crate) async fn signing_key(
        &self,
        user_id: &UserId,
        usage: Usage,
    ) -> Result<Option<KeyObject>> {
        let key = (user_id.to_string(), usage.name().to_owned());
        let row = self.store().get(&CROSS_SIGNING_KEYS, &key).await?;
        row.as_deref().map(KeyObject::stored).transpose()
    }

    /// Writes the end of a user's cross-signing keys into a batch.
    pub(crate) async fn stage_signing_keys_removal(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
    ) -> Result<()> {
        let user = user_id.to_string();
        crate::removal::stage(self.store(), batch, &CROSS_SIGNING_KEYS, &user).await
    }
}

/// Reads a cross-signing key that came from outside.
fn read_key(user_id: &UserId, usage: Usage, json: &Raw<CrossSigningKey>) -> Result<KeyObject> {
    let key = KeyObject::parse(json.json())?;
    let refused = |why: &str| Err(UsersError::invalid(format!("{} key: {why}", usage.name())));
    if key.str("user_id") != Some(user_id.as_str()) {
        return refused("it is not of the user who uploads it");
    }
    let usages = key.0.get("usage").and_then(|usage| usage.as_array());
    let is_meant =
        usages.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(usage.name())));
    if !is_meant {
        return refused("its usage does not say so");
    }
    if key.only_key().is_none() {
        return refused("it has exactly one ed25519 key, named as the key is");
    }
    Ok(key)
}

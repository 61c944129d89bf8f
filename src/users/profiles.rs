//! Profiles: what everybody may know of a user.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#profiles)

use std::collections::BTreeMap;

use ruma::UserId;
use serde_json::Value as JsonValue;
use store::{Batch, Json, StoreError};

use crate::{
    Users,
    account_data::json_text,
    accounts::TRIES,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    tables::PROFILES,
};

/// Largest profile, as JSON, in bytes.
pub const PROFILE_BYTES_MAX: usize = 64 * 1024;

/// Longest name of a profile field, in bytes.
pub const PROFILE_KEY_BYTES_MAX: usize = 255;

impl Users {
    /// All profile fields of a user. Empty for users of other servers, and those who set none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn profile(&self, user_id: &UserId) -> Result<BTreeMap<String, JsonValue>> {
        let row = self.store().get(&PROFILES, &user_id.to_string()).await?;
        Ok(row.map(|Json(fields)| fields).unwrap_or_default())
    }

    /// Sets a profile field.
    ///
    /// # Errors
    /// [`UsersError::KeyTooLarge`], [`UsersError::ProfileTooLarge`], [`UsersError::Invalid`] for an
    /// impossible name,
    /// [`UsersError::BadJson`] where a field that everybody knows is no string.
    pub async fn set_profile_field(
        &self,
        user_id: &UserId,
        field: &str,
        value: JsonValue,
    ) -> Result<()> {
        check_name(field)?;
        if matches!(field, "displayname" | "avatar_url" | "m.tz") && !value.is_string() {
            return Err(UsersError::BadJson { what: format!("{field} is a string") });
        }
        self.update_profile(user_id, field, |fields| {
            fields.insert(field.to_owned(), value.clone());
        })
        .await
    }

    /// Removes a profile field. Nothing happens where there is none.
    ///
    /// # Errors
    /// [`UsersError::KeyTooLarge`], [`UsersError::Invalid`] for an impossible name.
    pub async fn delete_profile_field(&self, user_id: &UserId, field: &str) -> Result<()> {
        check_name(field)?;
        self.update_profile(user_id, field, |fields| {
            fields.remove(field);
        })
        .await
    }

    async fn update_profile(
        &self,
        user_id: &UserId,
        field: &str,
        change: impl Fn(&mut BTreeMap<String, JsonValue>),
    ) -> Result<()> {
        let key = user_id.to_string();
        for _ in 0..TRIES {
            let old = self.store().get(&PROFILES, &key).await?;
            let before = old.clone().map(|Json(fields)| fields).unwrap_or_default();
            let mut after = before.clone();
            change(&mut after);
            if after == before {
                return Ok(());
            }
            if json_text(&after)?.len() > PROFILE_BYTES_MAX {
                return Err(UsersError::ProfileTooLarge);
            }
            let mut batch = Batch::new();
            batch.expect(&PROFILES, &key, old.as_ref());
            batch.put(&PROFILES, &key, &Json(after));
            let (user_id, field) = (user_id.to_owned(), field.to_owned());
            batch.log(LOG_TOPIC, UsersLogRow::Profile { user_id, field }.encode()?);
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }
}

/// Refuses names outside of the grammar for profile fields.
/// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3profileuseridkeyname)
fn check_name(field: &str) -> Result<()> {
    if field.len() > PROFILE_KEY_BYTES_MAX {
        return Err(UsersError::KeyTooLarge);
    }
    let begins_well = field.starts_with(|c: char| c.is_ascii_lowercase());
    let goes_on_well =
        field.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'));
    if begins_well && goes_on_well {
        return Ok(());
    }
    Err(UsersError::invalid("the name of a profile field begins with a-z and holds a-z 0-9 - _ ."))
}

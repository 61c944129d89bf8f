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

/// Longest name that a user shows, in bytes.
pub const DISPLAYNAME_BYTES_MAX: usize = 256;

/// Longest address of a picture, in bytes.
pub const AVATAR_URL_BYTES_MAX: usize = 1_000;

/// The field with the name that a user shows.
pub(crate) const DISPLAYNAME: &str = "displayname";

/// The field with the address of a user's picture.
const AVATAR_URL: &str = "avatar_url";

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
    /// impossible name or too long a value,
    /// [`UsersError::BadJson`] where a field that everybody knows is no string.
    pub async fn set_profile_field(
        &self,
        user_id: &UserId,
        field: &str,
        value: JsonValue,
    ) -> Result<()> {
        check_name(field)?;
        check_value(field, &value)?;
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

/// The profile that a new account begins with.
///
/// # Errors
/// [`UsersError::Invalid`] for too long a name.
pub(crate) fn first_profile(displayname: String) -> Result<BTreeMap<String, JsonValue>> {
    let value = JsonValue::String(displayname);
    check_value(DISPLAYNAME, &value)?;
    Ok(BTreeMap::from([(DISPLAYNAME.to_owned(), value)]))
}

/// Refuses impossible values of those fields that everybody knows.
fn check_value(field: &str, value: &JsonValue) -> Result<()> {
    if !matches!(field, DISPLAYNAME | AVATAR_URL | "m.tz") {
        return Ok(());
    }
    let Some(text) = value.as_str() else {
        return Err(UsersError::BadJson { what: format!("{field} is a string") });
    };
    let bytes_max = match field {
        DISPLAYNAME => DISPLAYNAME_BYTES_MAX,
        AVATAR_URL => AVATAR_URL_BYTES_MAX,
        _ => return Ok(()),
    };
    if text.len() > bytes_max {
        return Err(UsersError::invalid(format!("{field} has at most {bytes_max} bytes")));
    }
    Ok(())
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

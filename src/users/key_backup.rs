//! Key backups: room keys that clients keep with us, encrypted for themselves.
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups)

mod keys;

use ruma::UserId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as JsonValue};
use store::{Batch, Json, Page, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    error::{Result, UsersError},
    tables::{BACKUP_KEYS, BACKUPS},
};

pub(crate) use self::keys::BackupKeyRow;
pub use self::keys::{BackupPart, BackupSelect};

/// Largest `auth_data` of a backup, in bytes.
const AUTH_DATA_BYTES_MAX: usize = 64 * 1024;

/// Longest name of an algorithm, in bytes.
const ALGORITHM_BYTES_MAX: usize = 255;

/// Backups of one user, deleted ones included.
const BACKUPS_MAX: u64 = 10_000;

/// A backup as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupRow {
    algorithm: String,
    auth_data: Map<String, JsonValue>,
    count: u64,
    /// Grows with each change of a key.
    etag: u64,
    #[serde(default)]
    deleted: bool,
}

/// A key backup of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its version.
    pub version: u64,
    /// How its keys are encrypted.
    pub algorithm: String,
    /// What the algorithm needs to know.
    pub auth_data: Map<String, JsonValue>,
    /// How many keys are in it.
    pub count: u64,
    /// Changes with each change of a key.
    pub etag: u64,
}

impl Backup {
    fn new(version: u64, row: BackupRow) -> Self {
        let BackupRow { algorithm, auth_data, count, etag, .. } = row;
        Self { version, algorithm, auth_data, count, etag }
    }
}

impl Users {
    /// Begins a new backup of a user's keys, and gives its version.
    ///
    /// # Errors
    /// [`UsersError::TooLarge`], [`UsersError::Invalid`].
    pub async fn create_backup(
        &self,
        user_id: &UserId,
        algorithm: &str,
        auth_data: Map<String, JsonValue>,
    ) -> Result<u64> {
        check(algorithm, &auth_data)?;
        for _ in 0..TRIES {
            let version = self.last_backup(user_id).await?.map_or(1, |(version, _)| version + 1);
            if version > BACKUPS_MAX {
                return Err(UsersError::TooLarge { what: "the number of backups" });
            }
            let row = BackupRow {
                algorithm: algorithm.to_owned(),
                auth_data: auth_data.clone(),
                count: 0,
                etag: 0,
                deleted: false,
            };
            let key = (user_id.to_string(), version);
            let mut batch = Batch::new();
            batch.expect(&BACKUPS, &key, None);
            batch.put(&BACKUPS, &key, &Json(row));
            match self.store().commit(batch).await {
                Ok(_) => return Ok(version),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// A backup of a user: the newest where no version is named.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is none.
    pub async fn backup(&self, user_id: &UserId, version: Option<u64>) -> Result<Backup> {
        let (version, row) = match version {
            Some(version) => (version, self.load_backup(user_id, version).await?),
            None => self.newest_backup(user_id).await?.ok_or_else(no_backup)?,
        };
        Ok(Backup::new(version, row))
    }

    /// Changes what the algorithm of a backup needs to know.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is no such backup; [`UsersError::Invalid`] for another
    /// algorithm; [`UsersError::TooLarge`].
    pub async fn update_backup(
        &self,
        user_id: &UserId,
        version: u64,
        algorithm: &str,
        auth_data: Map<String, JsonValue>,
    ) -> Result<()> {
        check(algorithm, &auth_data)?;
        for _ in 0..TRIES {
            let old = self.load_backup(user_id, version).await?;
            if old.algorithm != algorithm {
                return Err(UsersError::invalid("the algorithm of a backup does not change"));
            }
            let row = BackupRow { auth_data: auth_data.clone(), ..old.clone() };
            let key = (user_id.to_string(), version);
            let mut batch = Batch::new();
            batch.expect(&BACKUPS, &key, Some(&Json(old)));
            batch.put(&BACKUPS, &key, &Json(row));
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// Deletes a backup with all its keys. One that is deleted already is passed over.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there never was one.
    pub async fn delete_backup(&self, user_id: &UserId, version: u64) -> Result<()> {
        let key = (user_id.to_string(), version);
        for _ in 0..TRIES {
            let old = self.store().get(&BACKUPS, &key).await?.ok_or_else(no_backup)?;
            if old.0.deleted {
                return Ok(());
            }
            let row = BackupRow { deleted: true, count: 0, auth_data: Map::new(), ..old.0.clone() };
            let mut batch = Batch::new();
            batch.expect(&BACKUPS, &key, Some(&old));
            batch.put(&BACKUPS, &key, &Json(row));
            crate::removal::stage(self.store(), &mut batch, &BACKUP_KEYS, &key).await?;
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// Writes the end of all backups of a user into a batch.
    pub(crate) async fn stage_backups_removal(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
    ) -> Result<()> {
        let user = user_id.to_string();
        crate::removal::stage(self.store(), batch, &BACKUPS, &user).await?;
        crate::removal::stage(self.store(), batch, &BACKUP_KEYS, &user).await
    }

    /// A backup that is not deleted.
    async fn load_backup(&self, user_id: &UserId, version: u64) -> Result<BackupRow> {
        let row = self.store().get(&BACKUPS, &(user_id.to_string(), version)).await?;
        row.map(|Json(row)| row).filter(|row| !row.deleted).ok_or_else(no_backup)
    }

    /// The newest backup that is not deleted.
    async fn newest_backup(&self, user_id: &UserId) -> Result<Option<(u64, BackupRow)>> {
        let range = BACKUPS.prefix(&user_id.to_string());
        let limit = usize::try_from(BACKUPS_MAX).unwrap_or(usize::MAX);
        // Mostly the last one is it.
        for page in [Page::last(1), Page::last(limit)] {
            let rows = self.store().scan(&BACKUPS, range.clone(), page).await?;
            let found = rows.into_iter().find(|(_, Json(row))| !row.deleted);
            if let Some(((_, version), Json(row))) = found {
                return Ok(Some((version, row)));
            }
        }
        Ok(None)
    }

    /// The last backup that was ever made.
    async fn last_backup(&self, user_id: &UserId) -> Result<Option<(u64, BackupRow)>> {
        let range = BACKUPS.prefix(&user_id.to_string());
        let rows = self.store().scan(&BACKUPS, range, Page::last(1)).await?;
        Ok(rows.into_iter().next().map(|((_, version), Json(row))| (version, row)))
    }
}

fn no_backup() -> UsersError {
    UsersError::NotFound { what: "key backup" }
}

fn check(algorithm: &str, auth_data: &Map<String, JsonValue>) -> Result<()> {
    if algorithm.is_empty() || algorithm.len() > ALGORITHM_BYTES_MAX {
        return Err(UsersError::invalid("the name of an algorithm has 1 to 255 bytes"));
    }
    let bytes = serde_json::to_string(auth_data).map_or(usize::MAX, |json| json.len());
    if bytes > AUTH_DATA_BYTES_MAX {
        return Err(UsersError::TooLarge { what: "the auth_data" });
    }
    Ok(())
}

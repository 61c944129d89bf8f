//! The keys in a backup, and which of two for the same session is kept.

use std::{collections::BTreeMap, ops::Bound};

use ruma::{OwnedRoomId, RoomId, UserId, api::client::backup::KeyBackupData, serde::Raw};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Json, Key, Page, StoreError};

use super::{Backup, BackupRow, no_backup};
use crate::{
    Users,
    accounts::TRIES,
    error::{Result, UsersError},
    tables::{BACKUP_KEYS, BACKUPS},
};

/// Rows read at once.
const PAGE_ROWS: usize = 1_000;

/// Largest key in a backup, in bytes.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// Longest session ID, in bytes.
const SESSION_ID_BYTES_MAX: usize = 255;

/// Keys that a backup may have.
const KEYS_MAX: u64 = 1_000_000;

/// A key in a backup as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackupKeyRow {
    /// The JSON as the client sent it.
    json: String,
    rank: Rank,
}

/// What decides which of two keys for the same session is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Rank {
    is_verified: bool,
    first_message_index: u64,
    forwarded_count: u64,
}

impl Rank {
    /// Whether this one replaces another.
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keyskeysroomidsessionid)
    fn is_better_than(self, old: Self) -> bool {
        if self.is_verified != old.is_verified {
            return self.is_verified;
        }
        if self.first_message_index != old.first_message_index {
            return self.first_message_index < old.first_message_index;
        }
        self.forwarded_count < old.forwarded_count
    }
}

/// Keys of a backup, by room and session.
pub type BackupPart = BTreeMap<OwnedRoomId, BTreeMap<String, Raw<KeyBackupData>>>;

/// Which keys of a backup are meant.
#[derive(Clone, Copy, Debug)]
pub enum BackupSelect<'a> {
    /// All.
    All,
    /// Those of a room.
    Room(&'a RoomId),
    /// The one of a session in a room.
    Session(&'a RoomId, &'a str),
}

type Rows = Vec<((String, u64, String, String), Json<BackupKeyRow>)>;

impl Users {
    /// Puts keys into the newest backup. A worse key than the one that is there is passed over.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is no such backup; [`UsersError::WrongBackup`] where
    /// there is a newer one; [`UsersError::BadJson`], [`UsersError::TooLarge`].
    pub async fn put_backup_keys(
        &self,
        user_id: &UserId,
        version: u64,
        keys: &BackupPart,
    ) -> Result<Backup> {
        let mut new = Vec::new();
        for (room, sessions) in keys {
            for (session, json) in sessions {
                let key = (user_id.to_string(), version, room.to_string(), session.clone());
                new.push((key, read(session, json)?));
            }
        }
        let row_keys: Vec<_> = new.iter().map(|(key, _)| key.clone()).collect();
        for _ in 0..TRIES {
            let backup = self.load_newest(user_id, version).await?;
            let old = self.store().multi_get(&BACKUP_KEYS, &row_keys).await?;
            let mut batch = Batch::new();
            let mut row = backup.clone();
            for ((key, new), old) in new.iter().zip(old) {
                match old {
                    Some(Json(old)) if !new.rank.is_better_than(old.rank) => continue,
                    Some(_) => {}
                    None => row.count += 1,
                }
                batch.put(&BACKUP_KEYS, key, &Json(new.clone()));
            }
            if batch.is_empty() {
                return Ok(Backup::new(version, backup));
            }
            if row.count > KEYS_MAX {
                return Err(UsersError::TooLarge { what: "the backup" });
            }
            if let Some(changed) = self.swap(batch, user_id, version, backup, row).await? {
                return Ok(changed);
            }
        }
        Err(UsersError::Contended)
    }

    /// The keys of a backup that are meant.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is no such backup.
    pub async fn backup_keys(
        &self,
        user_id: &UserId,
        version: u64,
        select: BackupSelect<'_>,
    ) -> Result<BackupPart> {
        self.load_backup(user_id, version).await?;
        let mut part = BackupPart::new();
        for ((_, _, room, session), Json(row)) in self.rows(user_id, version, select).await? {
            let room = RoomId::parse(room).map_err(UsersError::bad_row)?;
            let json = RawJsonValue::from_string(row.json).map_err(UsersError::bad_row)?;
            part.entry(room).or_default().insert(session, Raw::from_json(json));
        }
        Ok(part)
    }

    /// Deletes the keys of a backup that are meant.
    ///
    /// # Errors
    /// [`UsersError::NotFound`] where there is no such backup.
    pub async fn delete_backup_keys(
        &self,
        user_id: &UserId,
        version: u64,
        select: BackupSelect<'_>,
    ) -> Result<Backup> {
        for _ in 0..TRIES {
            let backup = self.load_backup(user_id, version).await?;
            let mut batch = Batch::new();
            let mut row = backup.clone();
            for (key, _) in self.rows(user_id, version, select).await? {
                batch.delete(&BACKUP_KEYS, &key);
                row.count = row.count.saturating_sub(1);
            }
            if batch.is_empty() {
                return Ok(Backup::new(version, backup));
            }
            if let Some(changed) = self.swap(batch, user_id, version, backup, row).await? {
                return Ok(changed);
            }
        }
        Err(UsersError::Contended)
    }

    /// Commits a change of keys. `None` where somebody else was quicker.
    async fn swap(
        &self,
        mut batch: Batch,
        user_id: &UserId,
        version: u64,
        old: BackupRow,
        mut new: BackupRow,
    ) -> Result<Option<Backup>> {
        new.etag = old.etag + 1;
        let key = (user_id.to_string(), version);
        batch.expect(&BACKUPS, &key, Some(&Json(old)));
        batch.put(&BACKUPS, &key, &Json(new.clone()));
        match self.store().commit(batch).await {
            Ok(_) => Ok(Some(Backup::new(version, new))),
            Err(StoreError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The newest backup, if it is the one that is meant.
    async fn load_newest(&self, user_id: &UserId, version: u64) -> Result<BackupRow> {
        let (current, row) = self.newest_backup(user_id).await?.ok_or_else(no_backup)?;
        if current == version {
            return Ok(row);
        }
        // A deleted or unknown one is wrong as well.
        Err(UsersError::WrongBackup { current })
    }

    async fn rows(&self, user_id: &UserId, version: u64, select: BackupSelect<'_>) -> Result<Rows> {
        let user = user_id.to_string();
        match select {
            BackupSelect::All => self.rows_below((user, version)).await,
            BackupSelect::Room(room) => self.rows_below((user, version, room.to_string())).await,
            BackupSelect::Session(room, session) => {
                let key = (user, version, room.to_string(), session.to_owned());
                let row = self.store().get(&BACKUP_KEYS, &key).await?;
                Ok(row.map(|row| (key, row)).into_iter().collect())
            }
        }
    }

    async fn rows_below<P: Key + Sync>(&self, prefix: P) -> Result<Rows> {
        let mut range = BACKUP_KEYS.prefix(&prefix);
        let mut rows = Rows::new();
        loop {
            let page = self.store().scan(&BACKUP_KEYS, range, Page::first(PAGE_ROWS)).await?;
            let more = page.len() == PAGE_ROWS;
            rows.extend(page);
            match rows.last() {
                Some((last, _)) if more => {
                    range = BACKUP_KEYS.between(Bound::Excluded(last), Bound::Included(&prefix));
                }
                _ => return Ok(rows),
            }
        }
    }
}

/// Reads a key that came from outside.
fn read(session: &str, json: &Raw<KeyBackupData>) -> Result<BackupKeyRow> {
    #[derive(Deserialize)]
    struct Data {
        is_verified: bool,
        first_message_index: u64,
        forwarded_count: u64,
        session_data: serde_json::Map<String, serde_json::Value>,
    }
    if session.is_empty() || session.len() > SESSION_ID_BYTES_MAX {
        return Err(UsersError::invalid("a session ID has 1 to 255 bytes"));
    }
    let text = json.json().get();
    if text.len() > KEY_BYTES_MAX {
        return Err(UsersError::TooLarge { what: "a key" });
    }
    let data: Data = serde_json::from_str(text)
        .map_err(|error| UsersError::BadJson { what: format!("a key: {error}") })?;
    if data.session_data.is_empty() {
        return Err(UsersError::BadJson { what: "a key has no session_data".to_owned() });
    }
    let Data { is_verified, first_message_index, forwarded_count, .. } = data;
    let rank = Rank { is_verified, first_message_index, forwarded_count };
    Ok(BackupKeyRow { json: text.to_owned(), rank })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verified_wins_then_the_earlier_then_the_more_direct() {
        let rank = |is_verified, first_message_index, forwarded_count| Rank {
            is_verified,
            first_message_index,
            forwarded_count,
        };
        for (new, old, wins) in [
            (rank(true, 9, 9), rank(false, 0, 0), true),
            (rank(false, 0, 0), rank(true, 9, 9), false),
            (rank(false, 1, 9), rank(false, 2, 0), true),
            (rank(false, 2, 0), rank(false, 1, 9), false),
            (rank(true, 1, 1), rank(true, 1, 2), true),
            (rank(true, 1, 1), rank(true, 1, 1), false),
        ] {
            assert_eq!(new.is_better_than(old), wins, "{new:?} {old:?}");
        }
    }
}

//! Account data: what clients keep with us for themselves, globally and per room, and in which
//! order it changed.

use std::ops::Bound;

use ruma::{OwnedRoomId, RoomId, UserId};
use serde_json::value::{RawValue as RawJsonValue, to_raw_value};
use store::{Batch, Page, Position, Stamped, StoreError};

use crate::{
    Users,
    accounts::TRIES,
    error::{Result, UsersError},
    log_row::{LOG_TOPIC, UsersLogRow},
    tables::{ACCOUNT_DATA, ACCOUNT_DATA_CHANGES},
};

/// Rows read at once.
const PAGE_ROWS: usize = 500;

/// Longest type of account data, in bytes.
const KIND_BYTES_MAX: usize = 255;

/// Largest content of a piece of account data, in bytes.
pub(crate) const CONTENT_BYTES_MAX: usize = 256 * 1024;

/// Pieces of account data that a user has at most, about: those added at the same moment do not see
/// each other.
pub(crate) const ROWS_MAX: usize = 10_000;

/// One piece of account data.
#[derive(Clone, Debug)]
pub struct AccountDataRow {
    /// The room that it is about; `None` where it is global.
    pub room: Option<OwnedRoomId>,
    /// The type.
    pub kind: String,
    /// The content, an object.
    pub content: Box<RawJsonValue>,
    /// When it was set last.
    pub position: Position,
}

impl Users {
    /// A piece of account data.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account_data(
        &self,
        user_id: &UserId,
        room: Option<&RoomId>,
        kind: &str,
    ) -> Result<Option<Box<RawJsonValue>>> {
        let row = self.store().get(&ACCOUNT_DATA, &key(user_id, room, kind)).await?;
        row.map(|row| raw(row.value)).transpose()
    }

    /// Sets a piece of account data.
    ///
    /// # Errors
    /// [`UsersError::BadJson`] where the content is no object; [`UsersError::Invalid`] for an
    /// impossible type; [`UsersError::TooLarge`] for too large a content, or too many types.
    pub async fn set_account_data(
        &self,
        user_id: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        content: &RawJsonValue,
    ) -> Result<()> {
        if !content.get().trim_start().starts_with('{') {
            return Err(UsersError::BadJson { what: "account data is a JSON object".to_owned() });
        }
        self.update_account_data(user_id, room, kind, |_| Ok(Some(content.get().to_owned()))).await
    }

    /// All account data of a user, global first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_account_data(&self, user_id: &UserId) -> Result<Vec<AccountDataRow>> {
        let user = user_id.to_string();
        let mut rows = Vec::new();
        let mut range = ACCOUNT_DATA.prefix(&user);
        loop {
            let page = self.store().scan(&ACCOUNT_DATA, range, Page::first(PAGE_ROWS)).await?;
            let last = page.last().map(|(key, _)| key.clone());
            let more = page.len() == PAGE_ROWS;
            for ((_, room, kind), stamped) in page {
                rows.push(account_data_row(room, kind, stamped)?);
            }
            match last {
                Some(last) if more => {
                    range = ACCOUNT_DATA.between(Bound::Excluded(&last), Bound::Included(&user));
                }
                _ => return Ok(rows),
            }
        }
    }

    /// The account data of a user that changed after `after`, up to `upto` and including it, oldest
    /// change first. What changed again after `upto` is left out.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn account_data_changes(
        &self,
        user_id: &UserId,
        after: Position,
        upto: Position,
    ) -> Result<Vec<AccountDataRow>> {
        let user = user_id.to_string();
        let upper = (user.clone(), upto);
        let lower = (user.clone(), after);
        let mut range =
            ACCOUNT_DATA_CHANGES.between(Bound::Excluded(&lower), Bound::Included(&upper));
        let mut rows = Vec::new();
        loop {
            let page =
                self.store().scan(&ACCOUNT_DATA_CHANGES, range, Page::first(PAGE_ROWS)).await?;
            let last = page.last().map(|(key, ())| key.clone());
            let more = page.len() == PAGE_ROWS;
            let keys: Vec<_> = page
                .into_iter()
                .map(|((_, _, room, kind), ())| (user.clone(), room, kind))
                .collect();
            let values = self.store().multi_get(&ACCOUNT_DATA, &keys).await?;
            for ((_, room, kind), stamped) in keys.into_iter().zip(values) {
                match stamped {
                    Some(stamped) if stamped.position <= upto => {
                        rows.push(account_data_row(room, kind, stamped)?);
                    }
                    _ => {}
                }
            }
            match last {
                Some(last) if more => {
                    range = ACCOUNT_DATA_CHANGES
                        .between(Bound::Excluded(&last), Bound::Included(&upper));
                }
                _ => return Ok(rows),
            }
        }
    }

    /// Reads, changes and writes a piece of account data, again where others were quicker. `None`
    /// changes nothing.
    pub(crate) async fn update_account_data(
        &self,
        user_id: &UserId,
        room: Option<&RoomId>,
        kind: &str,
        change: impl Fn(Option<&str>) -> Result<Option<String>>,
    ) -> Result<()> {
        if kind.is_empty() || kind.len() > KIND_BYTES_MAX {
            return Err(UsersError::invalid("the type of account data has 1 to 255 bytes"));
        }
        for _ in 0..TRIES {
            let old = self.store().get(&ACCOUNT_DATA, &key(user_id, room, kind)).await?;
            let Some(json) = change(old.as_ref().map(|row| row.value.as_str()))? else {
                return Ok(());
            };
            if json.len() > CONTENT_BYTES_MAX {
                return Err(UsersError::TooLarge { what: "the account data" });
            }
            if old.is_none() {
                self.check_room_for_more(user_id).await?;
            }
            let mut batch = Batch::new();
            stage_account_data(&mut batch, user_id, room, kind, old.as_ref(), json)?;
            match self.store().commit(batch).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UsersError::Contended)
    }

    /// Refuses a piece of account data more than a user may have. Reads keys only.
    async fn check_room_for_more(&self, user_id: &UserId) -> Result<()> {
        let range = ACCOUNT_DATA_CHANGES.prefix(&user_id.to_string());
        let rows = self.store().scan(&ACCOUNT_DATA_CHANGES, range, Page::first(ROWS_MAX)).await?;
        if rows.len() >= ROWS_MAX {
            return Err(UsersError::TooLarge { what: "the number of pieces of account data" });
        }
        Ok(())
    }

    /// Writes the removal of all account data into a batch.
    pub(crate) async fn stage_account_data_removal(
        &self,
        batch: &mut Batch,
        user_id: &UserId,
    ) -> Result<()> {
        let user = user_id.to_string();
        for row in self.list_account_data(user_id).await? {
            let room = row.room.map(String::from);
            let change = (user.clone(), row.position, room.clone(), row.kind.clone());
            batch.delete(&ACCOUNT_DATA_CHANGES, &change);
            batch.delete(&ACCOUNT_DATA, &(user.clone(), room, row.kind));
        }
        Ok(())
    }
}

/// Writes a piece of account data into a batch. `old` is its row as it was read.
pub(crate) fn stage_account_data(
    batch: &mut Batch,
    user_id: &UserId,
    room: Option<&RoomId>,
    kind: &str,
    old: Option<&Stamped<String>>,
    json: String,
) -> Result<()> {
    let key = key(user_id, room, kind);
    let (user, room_key, kind_key) = key.clone();
    batch.expect(&ACCOUNT_DATA, &key, old);
    if let Some(old) = old {
        let change = (user.clone(), old.position, room_key.clone(), kind_key.clone());
        batch.delete(&ACCOUNT_DATA_CHANGES, &change);
    }
    batch.put(&ACCOUNT_DATA, &key, &Stamped::pending(json));
    batch.put(&ACCOUNT_DATA_CHANGES, &(user, Position::PENDING, room_key, kind_key), &());
    let log = UsersLogRow::AccountData {
        user_id: user_id.to_owned(),
        room: room.map(RoomId::to_owned),
        kind: kind.to_owned(),
    };
    batch.log(LOG_TOPIC, log.encode()?);
    Ok(())
}

fn key(user_id: &UserId, room: Option<&RoomId>, kind: &str) -> (String, Option<String>, String) {
    (user_id.to_string(), room.map(ToString::to_string), kind.to_owned())
}

fn account_data_row(
    room: Option<String>,
    kind: String,
    stamped: Stamped<String>,
) -> Result<AccountDataRow> {
    let room = room.map(RoomId::parse).transpose().map_err(UsersError::bad_row)?;
    Ok(AccountDataRow { room, kind, content: raw(stamped.value)?, position: stamped.position })
}

fn raw(json: String) -> Result<Box<RawJsonValue>> {
    RawJsonValue::from_string(json).map_err(UsersError::bad_row)
}

/// The JSON text of a value.
pub(crate) fn json_text(value: &impl serde::Serialize) -> Result<String> {
    let raw =
        to_raw_value(value).map_err(|error| UsersError::BadJson { what: error.to_string() })?;
    Ok(raw.get().to_owned())
}

//! Account data that is new to a client.

use std::collections::BTreeMap;

use rooms::Position;
use ruma::{
    OwnedRoomId, RoomId, UserId,
    events::{AnyGlobalAccountDataEvent, AnyRoomAccountDataEvent},
    serde::Raw,
};
use serde::Serialize;
use serde_json::value::{RawValue as RawJsonValue, to_raw_value};
use users::AccountDataRow;

use super::Stretch;
use crate::{
    Syncing,
    error::Result,
    filter::{Candidate, EventFilter},
};

/// The type of account data that holds push rules. Everybody has some.
const PUSH_RULES: &str = "m.push_rules";

/// The account data of one user that is new, and how to get more.
#[derive(Debug)]
pub(super) struct AccountData {
    global: Vec<AccountDataRow>,
    rooms: BTreeMap<OwnedRoomId, Vec<AccountDataRow>>,
    /// Whether this is all there is.
    is_all: bool,
}

#[derive(Serialize)]
struct Event<'a> {
    content: &'a RawJsonValue,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl AccountData {
    /// Loads what is new. Reads nothing where nothing can be.
    pub(super) async fn load(
        syncing: &Syncing,
        user_id: &UserId,
        stretch: Stretch,
    ) -> Result<Self> {
        let users = &syncing.inner.users;
        let rows = match stretch.since {
            None => {
                let mut rows = users.list_account_data(user_id).await?;
                rows.retain(|row| row.content.get() != "{}");
                if !rows.iter().any(|row| row.room.is_none() && row.kind == PUSH_RULES) {
                    rows.push(default_push_rules(syncing, user_id).await?);
                }
                rows
            }
            Some(since) if may_be_new(syncing, user_id, since.position) => {
                let (after, upto) = (since.position, stretch.upto.position);
                users.account_data_changes(user_id, after, upto).await?
            }
            Some(_) => Vec::new(),
        };
        let mut data =
            Self { global: Vec::new(), rooms: BTreeMap::new(), is_all: stretch.since.is_none() };
        for row in rows {
            match row.room.clone() {
                None => data.global.push(row),
                Some(room_id) => data.rooms.entry(room_id).or_default().push(row),
            }
        }
        Ok(data)
    }

    /// Whether there is something new for a room.
    pub(super) fn concerns(&self, room_id: &RoomId) -> bool {
        self.rooms.contains_key(room_id)
    }

    /// The global events that a client wants.
    pub(super) fn global(
        &self,
        filter: &EventFilter,
    ) -> Result<Vec<Raw<AnyGlobalAccountDataEvent>>> {
        let rows = self.global.iter().filter(|row| takes(filter, row)).take(filter.limit());
        rows.map(|row| Ok(Raw::from_json(event(row)?))).collect()
    }

    /// The events about a room that a client wants: those that are new.
    pub(super) fn of_room(
        &self,
        filter: &EventFilter,
        room_id: &RoomId,
    ) -> Result<Vec<Raw<AnyRoomAccountDataEvent>>> {
        let rows = self.rooms.get(room_id).map_or(&[][..], Vec::as_slice);
        room_events(filter, room_id, rows)
    }

    /// All events about a room that a client wants.
    pub(super) async fn all_of_room(
        &self,
        syncing: &Syncing,
        user_id: &UserId,
        filter: &EventFilter,
        room_id: &RoomId,
    ) -> Result<Vec<Raw<AnyRoomAccountDataEvent>>> {
        if self.is_all {
            return self.of_room(filter, room_id);
        }
        let mut rows = syncing.inner.users.list_account_data(user_id).await?;
        rows.retain(|row| row.room.as_deref() == Some(room_id) && row.content.get() != "{}");
        room_events(filter, room_id, &rows)
    }
}

fn room_events(
    filter: &EventFilter,
    room_id: &RoomId,
    rows: &[AccountDataRow],
) -> Result<Vec<Raw<AnyRoomAccountDataEvent>>> {
    if !filter.takes_some_of(room_id) {
        return Ok(Vec::new());
    }
    let rows = rows.iter().filter(|row| takes(filter, row)).take(filter.limit());
    rows.map(|row| Ok(Raw::from_json(event(row)?))).collect()
}

fn may_be_new(syncing: &Syncing, user_id: &UserId, since: Position) -> bool {
    syncing.inner.notifier.marks().user_account_data(user_id) > since
}

async fn default_push_rules(syncing: &Syncing, user_id: &UserId) -> Result<AccountDataRow> {
    #[derive(Serialize)]
    struct Content<T> {
        global: T,
    }
    let global = syncing.inner.users.push_rules(user_id).await?;
    Ok(AccountDataRow {
        room: None,
        kind: PUSH_RULES.to_owned(),
        content: to_raw_value(&Content { global })?,
        position: Position::ZERO,
    })
}

fn takes(filter: &EventFilter, row: &AccountDataRow) -> bool {
    filter.takes(Candidate { kind: &row.kind, sender: None, content: &row.content })
}

fn event(row: &AccountDataRow) -> Result<Box<RawJsonValue>> {
    Ok(to_raw_value(&Event { content: &row.content, kind: &row.kind })?)
}

//! The tables that do not begin with a room, and those that are read backwards.

use store::{Key, StoreError, Table, Value};

use super::{Check, pages::Pages};
use crate::{
    error::RoomsError,
    stored_event::Txn,
    tables::{
        ALIASES, DIRECTORY, EVENT_META, EVENT_NUMBERS, EVENT_ROOMS, HEADS, MEMBERSHIPS, RECEIPTS,
        RECEIPTS_BY_POSITION, ROOM_ALIASES, ROOM_NUMBERS, ROOMS, TRANSACTIONS,
    },
};

impl Check<'_> {
    /// Checks each of the tables; one that cannot be read does not hide the others.
    pub(super) async fn tables(&mut self) {
        let results = [
            self.event_rooms().await,
            self.transactions().await,
            self.rows_for_each().await,
            self.aliases().await,
            self.directory().await,
            self.receipts().await,
        ];
        for error in results.into_iter().filter_map(Result::err) {
            self.report.say(format!("a table cannot be read on: {error}"));
        }
    }

    async fn event_rooms(&mut self) -> Result<(), RoomsError> {
        let mut rows = 0;
        let mut pages = Pages::new(self.store, &EVENT_ROOMS, ());
        while let Some(page) = pages.next().await? {
            rows += page.len() as u64;
            let keys: Vec<_> = page.into_iter().map(|(event_id, room)| (room, event_id)).collect();
            let numbers = self.store.multi_get(&EVENT_NUMBERS, &keys).await?;
            for ((_, event_id), number) in keys.into_iter().zip(numbers) {
                if number.is_none() {
                    self.report
                        .say(format!("event {event_id} is not in the room that it leads to"));
                }
            }
        }
        self.report.same("event IDs that lead to rooms", rows, self.report.events);
        Ok(())
    }

    async fn transactions(&mut self) -> Result<(), RoomsError> {
        let mut pages = Pages::new(self.store, &TRANSACTIONS, ());
        while let Some(page) = pages.next().await? {
            let keys: Vec<_> = page.iter().map(|(key, event)| (key.0, *event)).collect();
            let metas = self.store.multi_get(&EVENT_META, &keys).await?;
            for (((room, user, device_id, _, txn_id), event), meta) in page.into_iter().zip(metas) {
                let made = meta.and_then(|meta| meta.value.txn);
                let same = made.is_some_and(|txn: Txn| {
                    txn.user_id == user && txn.device_id == device_id && txn.txn_id == txn_id
                });
                if !same {
                    self.report.say(format!(
                        "transaction {txn_id} of {user} leads to event {event} of room {room}, \
                         which it did not make"
                    ));
                }
            }
        }
        Ok(())
    }

    /// As many rows as there are rooms and members: those were looked up already.
    async fn rows_for_each(&mut self) -> Result<(), RoomsError> {
        let heads = self.count(&HEADS).await?;
        self.report.same("heads of rooms", heads, self.report.rooms);
        let numbers = self.count(&ROOM_NUMBERS).await?;
        self.report.same("room IDs", numbers, self.report.rooms);
        let memberships = self.count(&MEMBERSHIPS).await?;
        self.report.same("memberships of our users", memberships, self.local_members);
        Ok(())
    }

    async fn aliases(&mut self) -> Result<(), RoomsError> {
        let mut rows = 0;
        let mut pages = Pages::new(self.store, &ALIASES, ());
        while let Some(page) = pages.next().await? {
            for (alias, row) in page {
                rows += 1;
                let row = row.0;
                let record = self.store.get(&ROOMS, &row.room).await?;
                if record.is_none_or(|record| record.0.room_id != row.room_id) {
                    self.report.say(format!("alias {alias} leads to no room"));
                }
                if self.store.get(&ROOM_ALIASES, &(row.room, alias.clone())).await?.is_none() {
                    self.report.say(format!("alias {alias} is not among those of its room"));
                }
            }
        }
        let reverse = self.count(&ROOM_ALIASES).await?;
        self.report.same("aliases of rooms", reverse, rows);
        Ok(())
    }

    async fn directory(&mut self) -> Result<(), RoomsError> {
        let mut pages = Pages::new(self.store, &DIRECTORY, ());
        while let Some(page) = pages.next().await? {
            for (room, _) in page {
                if self.store.get(&ROOMS, &room).await?.is_none() {
                    self.report.say(format!("the directory lists room {room}, which is missing"));
                }
            }
        }
        Ok(())
    }

    async fn receipts(&mut self) -> Result<(), RoomsError> {
        let mut rows = 0;
        let mut pages = Pages::new(self.store, &RECEIPTS, ());
        while let Some(page) = pages.next().await? {
            for ((room, kind, thread, user), row) in page {
                rows += 1;
                let key = (room, row.position, kind, thread, user);
                if self.store.get(&RECEIPTS_BY_POSITION, &key).await?.is_none() {
                    let user = &key.4;
                    self.report.say(format!("a receipt of {user} in room {room} has no position"));
                }
            }
        }
        let reverse = self.count(&RECEIPTS_BY_POSITION).await?;
        self.report.same("receipts by position", reverse, rows);
        Ok(())
    }

    async fn count<K: Key + Clone, V: Value>(
        &self,
        table: &Table<K, V>,
    ) -> Result<u64, StoreError> {
        Pages::new(self.store, table, ()).count().await
    }
}

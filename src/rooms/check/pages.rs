//! Reading all rows of a table, or those below a leading part of their keys, by pages.

use std::ops::Bound;

use store::{Key, Page, Store, StoreError, Table, Value};

/// Rows of a page.
const PAGE_ROWS: usize = 500;

/// The pages of a table.
pub(super) struct Pages<'a, K, V, P> {
    store: &'a Store,
    table: &'a Table<K, V>,
    prefix: P,
    last: Option<K>,
}

impl<'a, K: Key + Clone, V: Value, P: Key> Pages<'a, K, V, P> {
    /// The pages of the rows whose keys begin with `prefix`; `()` begins them all.
    pub(super) fn new(store: &'a Store, table: &'a Table<K, V>, prefix: P) -> Self {
        Self { store, table, prefix, last: None }
    }

    /// The next page; never an empty one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<(K, V)>>, StoreError> {
        let range = match &self.last {
            None => self.table.prefix(&self.prefix),
            Some(last) => self.table.between(Bound::Excluded(last), Bound::Included(&self.prefix)),
        };
        let page = self.store.scan(self.table, range, Page::first(PAGE_ROWS)).await?;
        match page.last() {
            Some((last, _)) => self.last = Some(last.clone()),
            None => return Ok(None),
        }
        Ok(Some(page))
    }

    /// How many rows there are from here on.
    pub(super) async fn count(mut self) -> Result<u64, StoreError> {
        let mut count = 0;
        while let Some(page) = self.next().await? {
            count += page.len() as u64;
        }
        Ok(count)
    }
}

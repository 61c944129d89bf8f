//! Writing the end of many rows into a batch.

use std::ops::Bound;

use store::{Batch, Key, Page, Store, Table, Value};

use crate::error::Result;

/// Rows read at once.
const PAGE_ROWS: usize = 1_000;

/// Writes the removal of all rows whose keys begin with `prefix` into a batch.
pub(crate) async fn stage<K: Key, V: Value, P: Key>(
    store: &Store,
    batch: &mut Batch,
    table: &Table<K, V>,
    prefix: &P,
) -> Result<()> {
    let mut range = table.prefix(prefix);
    loop {
        let page = store.scan(table, range, Page::first(PAGE_ROWS)).await?;
        for (key, _) in &page {
            batch.delete(table, key);
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE_ROWS => {
                range = table.between(Bound::Excluded(last), Bound::Included(prefix));
            }
            _ => return Ok(()),
        }
    }
}

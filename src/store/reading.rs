//! Typed reads over encoded ones, for the store and its snapshots alike.

use crate::{Key, KeyRange, Page, Reads, StoreError, Table, Value};

/// Reads one row.
pub(crate) async fn get<K: Key, V: Value>(
    reads: &dyn Reads,
    table: &Table<K, V>,
    key: &K,
) -> Result<Option<V>, StoreError> {
    let key = table.key(key).into_bytes()?;
    let value = reads.get(table.family(), &key).await?;
    value.map(|bytes| table.decode_value(&bytes)).transpose()
}

/// Reads several rows of one table.
pub(crate) async fn multi_get<K: Key, V: Value>(
    reads: &dyn Reads,
    table: &Table<K, V>,
    keys: &[K],
) -> Result<Vec<Option<V>>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys
        .iter()
        .map(|key| table.key(key).into_bytes())
        .collect::<Result<Vec<_>, StoreError>>()?;
    let values = reads.multi_get(table.family(), &keys).await?;
    values
        .into_iter()
        .map(|value| value.map(|bytes| table.decode_value(&bytes)).transpose())
        .collect()
}

/// Reads a page of a range.
pub(crate) async fn scan<K: Key, V: Value>(
    reads: &dyn Reads,
    table: &Table<K, V>,
    range: &KeyRange,
    page: Page,
) -> Result<Vec<(K, V)>, StoreError> {
    if range.is_empty() || page.limit == 0 {
        return Ok(Vec::new());
    }
    let rows = reads.scan(table.family(), range, page).await?;
    rows.iter()
        .map(|(key, value)| Ok((table.decode_key(key)?, table.decode_value(value)?)))
        .collect()
}

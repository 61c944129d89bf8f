//! Schema versions: each component's tables have one, and steps lead from each to the next.

use std::{future::Future, ops::Bound, pin::Pin};

use crate::{Batch, Key, Page, Store, StoreError, Table, Value, tables::SCHEMA};

#[cfg(test)]
mod tests;

/// Rows that a step moves in one batch.
const PAGE_ROWS: usize = 1_000;

/// What a step does. It may be killed at any moment and is then run again from its beginning, so
/// it must not mind what it has already done.
pub type Run =
    for<'a> fn(&'a Store) -> Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'a>>;

/// A step from the version before to `to`.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The version that the tables have afterwards.
    pub to: u64,
    /// What it does, for the log.
    pub name: &'static str,
    /// Does it.
    pub run: Run,
}

/// Brings a component's tables to version `newest` by the steps that lead there, in order.
///
/// A component that the store has never seen has nothing to migrate.
///
/// # Errors
/// [`StoreError::SchemaTooNew`] where a newer program has written the tables;
/// [`StoreError::Corrupt`] where no step leads on; errors of the steps.
pub async fn run(
    store: &Store,
    component: &str,
    newest: u64,
    steps: &[Step],
) -> Result<(), StoreError> {
    let component = component.to_owned();
    let Some(mut version) = store.get(&SCHEMA, &component).await? else {
        let mut batch = Batch::new();
        batch.expect(&SCHEMA, &component, None);
        batch.put(&SCHEMA, &component, &newest);
        store.commit(batch).await?;
        return Ok(());
    };
    if version > newest {
        return Err(StoreError::SchemaTooNew { component, found: version, known: newest });
    }
    while version < newest {
        let next = version + 1;
        let Some(step) = steps.iter().find(|step| step.to == next) else {
            return Err(StoreError::corrupt(format!(
                "no step leads {component} from schema version {version} to {next}"
            )));
        };
        tracing::info!(component, version = next, step = step.name, "migrating");
        (step.run)(store).await?;
        let mut batch = Batch::new();
        batch.expect(&SCHEMA, &component, Some(&version));
        batch.put(&SCHEMA, &component, &next);
        store.commit(batch).await?;
        version = next;
    }
    Ok(())
}

/// Moves every row of one table into another, page by page, each page in one batch.
///
/// It can be killed and run again: a row is in one table or the other. The tables have different
/// numbers.
///
/// # Errors
/// Where rows can't be read or written, or `change` fails.
pub async fn move_rows<K: Key, V: Value, L: Key, W: Value>(
    store: &Store,
    from: &Table<K, V>,
    to: &Table<L, W>,
    change: impl Fn(&K, V) -> Result<(L, W), StoreError>,
) -> Result<(), StoreError> {
    let mut range = from.all();
    loop {
        let mut batch = Batch::new();
        let mut last = None;
        for (key, value) in store.scan(from, range, Page::first(PAGE_ROWS)).await? {
            let (new_key, new_value) = change(&key, value)?;
            batch.put(to, &new_key, &new_value);
            batch.delete(from, &key);
            last = Some(key);
        }
        let Some(last) = last else { return Ok(()) };
        range = from.between::<_, ()>(Bound::Excluded(&last), Bound::Unbounded);
        store.commit(batch).await?;
    }
}

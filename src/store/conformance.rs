//! What every engine must do, as tests: run by the tests of both engines here.

use std::{future::Future, ops::Bound, pin::Pin, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Family, Position, Stamped, Store, StoreError, Table};

mod commits;
mod logs;
mod model;
mod reads;

/// How an engine fails the suite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It does something else than it must.
    #[error("{rule}: {what}")]
    Rule {
        /// What it must do.
        rule: &'static str,
        /// What it did.
        what: String,
    },
    /// It could not do what was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes stores on the engine that is tested.
#[async_trait]
pub trait Rig: Send + Sync {
    /// Makes an empty store.
    async fn fresh(&self) -> Result<Store, StoreError>;

    /// Gives up a store as if the program had stopped, and opens it anew.
    async fn reopen(&self, store: Store) -> Result<Store, StoreError>;
}

/// A test of the suite.
type Case =
    for<'a> fn(&'a dyn Rig) -> Pin<Box<dyn Future<Output = Result<(), Broken>> + Send + 'a>>;

/// Runs the whole suite.
///
/// # Errors
/// The first rule that the engine breaks.
pub async fn run(rig: &dyn Rig) -> Result<(), Broken> {
    let cases: [Case; 14] = [
        |rig| Box::pin(reads::finds_what_was_put(rig)),
        |rig| Box::pin(reads::scans_pages_both_ways(rig)),
        |rig| Box::pin(reads::keeps_tables_and_families_apart(rig)),
        |rig| Box::pin(reads::keeps_a_snapshot_as_it_was(rig)),
        |rig| Box::pin(reads::reads_after_reopening(rig)),
        |rig| Box::pin(commits::numbers_commits_without_gaps(rig)),
        |rig| Box::pin(commits::fills_every_hole(rig)),
        |rig| Box::pin(commits::writes_nothing_on_conflict(rig)),
        |rig| Box::pin(commits::lets_one_of_many_win(rig)),
        |rig| Box::pin(commits::shows_commits_in_order(rig)),
        |rig| Box::pin(commits::refuses_after_closing(rig)),
        |rig| Box::pin(logs::tails_every_row_once(rig)),
        |rig| Box::pin(logs::reads_the_log_from_anywhere(rig)),
        |rig| Box::pin(model::agrees_with_a_model(rig)),
    ];
    for case in cases {
        case(rig).await?;
    }
    Ok(())
}

const MAIN: Table<(String, u64), String> = Table::new(0x00f0, "conformance_main", Family::Main);
const INDEX: Table<(u64, Position, u32), ()> =
    Table::new(0x00f1, "conformance_index", Family::Index);
const EVENTS: Table<u64, Bytes> = Table::new(0x00f2, "conformance_events", Family::Events);
const STAMPED: Table<u64, Stamped<String>> =
    Table::new(0x00f3, "conformance_stamped", Family::Main);
const COUNTER: Table<(), u64> = Table::new(0x00f4, "conformance_counter", Family::Main);

/// Breaks the rule unless both are equal.
fn same<T: PartialEq + std::fmt::Debug>(
    rule: &'static str,
    found: &T,
    right: &T,
) -> Result<(), Broken> {
    if found == right {
        return Ok(());
    }
    Err(Broken::Rule { rule, what: format!("found {found:?}, not {right:?}") })
}

/// Breaks the rule unless `holds`.
fn holds(rule: &'static str, holds: bool, what: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::Rule { rule, what: what() }) }
}

/// Runs tasks side by side and waits for all.
async fn together<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = Result<T, Broken>> + Send + 'static>,
) -> Result<Vec<T>, Broken> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::with_capacity(tasks.len());
    for task in tasks {
        let result = task.await.map_err(|error| Broken::Rule {
            rule: "a task of the suite ends by itself",
            what: error.to_string(),
        })?;
        results.push(result?);
    }
    Ok(results)
}

/// Begins at a bound.
fn from<T>(bound: &T) -> Bound<&T> {
    Bound::Included(bound)
}

/// Shares one store among tasks.
fn shared(store: &Store) -> Arc<Store> {
    Arc::new(store.clone())
}

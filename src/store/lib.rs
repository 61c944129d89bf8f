//! Ordered bytes that survive: tables, batches, the change log, followers and outboxes.
//!
//! A [`Batch`] is written whole or not at all, and is durable when [`Store::commit`] returns. Each
//! commit has a [`Position`]; positions become visible in order and without gaps. This crate knows
//! nothing of Matrix, and lets no type of an engine out.

mod batch;
mod codec;
pub mod conformance;
mod engine;
mod error;
pub mod faults;
pub mod follower;
mod key;
mod log;
mod memory;
pub mod migrate;
mod number_key;
pub mod outbox;
mod poison;
mod position;
mod reading;
mod rocks;
mod snapshot;
mod store;
mod table;
mod tables;
mod value;

pub use crate::{
    batch::{Batch, COMMIT_BYTES_MAX, Expectation, Row},
    codec::{Reader, Writer},
    engine::{Engine, Reads, RowBytes},
    error::StoreError,
    follower::Follower,
    key::{Key, Leading},
    log::{LogEntry, Recent, Tail},
    memory::MemoryEngine,
    outbox::Outbox,
    poison::Poison,
    position::Position,
    rocks::{RocksEngine, RocksOptions},
    snapshot::Snapshot,
    store::{Health, Store},
    table::{Direction, Family, KeyRange, Page, Table},
    value::{Json, Stamped, Value},
};

/// What the macros of this crate need; not part of its face.
#[doc(hidden)]
pub mod macro_support {
    pub use serde;
}

//! What can go wrong in the store.

/// Why the store could not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Someone else changed the row first; nothing of the batch was written.
    #[error("a row of table {table:#06x} no longer holds what was expected")]
    Conflict {
        /// Number of the table whose row differs.
        table: u16,
    },
    /// The bytes of a row do not mean what its table says.
    #[error("a stored row can't be read: {what}")]
    Corrupt {
        /// What is wrong with them.
        what: String,
    },
    /// A key or value can't be written in its stored form; nothing of the batch was written.
    #[error("a row can't be written: {what}")]
    Encode {
        /// What is wrong with it.
        what: String,
    },
    /// The batch is larger than one commit may be; nothing of it was written.
    #[error("a batch of {bytes} bytes is larger than one commit may be")]
    TooLarge {
        /// Size of the batch, in bytes.
        bytes: usize,
    },
    /// The store met an error after which it can't be trusted, and answers nothing any more.
    #[error("the store has failed and must be opened anew: {reason}")]
    Failed {
        /// The first error that it met.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// Another process uses the same directory.
    #[error("the store in {path} is in use by another process: {reason}")]
    Locked {
        /// The directory of the store.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// The store was written by a newer version of the program.
    #[error("{component} has schema version {found}, but this program knows only up to {known}")]
    SchemaTooNew {
        /// The part of the store whose version it is.
        component: String,
        /// Version found in the store.
        found: u64,
        /// Newest version that the program knows.
        known: u64,
    },
    /// The engine below could not read or open its files.
    #[error("the storage engine failed: {reason}")]
    Engine {
        /// What the engine said.
        reason: String,
    },
}

impl StoreError {
    /// Makes an error that says why a stored row can't be read.
    #[must_use]
    pub fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

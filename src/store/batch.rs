//! Batches: changes that become durable together or not at all.

use bytes::Bytes;

use crate::{Family, Key, LogEntry, Position, StoreError, Table, Value, Writer, tables};

/// Most bytes of keys and values that one batch may have: 64 MiB.
pub const COMMIT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Puts, deletes, expectations and log rows that are committed together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    writes: Vec<Write>,
    expectations: Vec<Expectation>,
    log: Vec<(u16, Bytes)>,
    items: u32,
    bytes: usize,
    failure: Option<StoreError>,
}

/// A row to be put or deleted, with holes where the position is not known yet.
#[derive(Clone, Debug)]
struct Write {
    family: Family,
    key: Writer,
    value: Option<Writer>,
}

/// A row that must hold this value when the batch is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Number of the row's table.
    pub table: u16,
    /// Family of the row's table.
    pub family: Family,
    /// Encoded key.
    pub key: Vec<u8>,
    /// Encoded value; `None` where no such row may exist.
    pub value: Option<Vec<u8>>,
}

/// A row to be put or deleted, as an engine writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Family of the row's table.
    pub family: Family,
    /// Encoded key.
    pub key: Vec<u8>,
    /// Encoded value; `None` deletes the row.
    pub value: Option<Vec<u8>>,
}

impl Batch {
    /// Makes an empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a row, over what was there. Among changes of one row in a batch the last one holds.
    pub fn put<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &K, value: &V) {
        let mut out = Writer::new();
        value.encode(&mut out);
        self.write(table.family(), table.key(key), Some(out));
    }

    /// Deletes a row, where it exists.
    pub fn delete<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &K) {
        self.write(table.family(), table.key(key), None);
    }

    /// Lets the commit fail with [`StoreError::Conflict`] unless the row holds exactly this value,
    /// or does not exist where `value` is `None`. What the batch itself writes does not count.
    pub fn expect<K: Key, V: Value>(&mut self, table: &Table<K, V>, key: &K, value: Option<&V>) {
        let key = table.key(key).into_bytes();
        let value = value.map(|value| {
            let mut out = Writer::new();
            value.encode(&mut out);
            out.into_bytes()
        });
        match (key, value.transpose()) {
            (Ok(key), Ok(value)) => self.expectations.push(Expectation {
                table: table.number(),
                family: table.family(),
                key,
                value,
            }),
            (Err(failure), _) | (_, Err(failure)) => {
                self.failure.get_or_insert(failure);
            }
        }
    }

    /// Appends a row to the change log. Rows of one batch keep their order.
    pub fn log(&mut self, topic: u16, payload: impl Into<Bytes>) {
        let payload = payload.into();
        self.bytes = self.bytes.saturating_add(payload.len());
        self.log.push((topic, payload));
    }

    /// Adds everything of another batch after what is in this one.
    ///
    /// Outbox items pushed into both batches stay distinct only if they go to different
    /// destinations or outboxes; push them into one batch instead.
    pub fn extend(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.expectations.extend(other.expectations);
        self.log.extend(other.log);
        self.items = self.items.max(other.items);
        self.bytes = self.bytes.saturating_add(other.bytes);
        if let Some(failure) = other.failure {
            self.failure.get_or_insert(failure);
        }
    }

    /// Tells whether the batch changes, expects and logs nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
            && self.expectations.is_empty()
            && self.log.is_empty()
            && self.failure.is_none()
    }

    /// Returns the number of bytes of keys, values and log rows.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what must hold before the batch may be written.
    #[must_use]
    pub fn expectations(&self) -> &[Expectation] {
        &self.expectations
    }

    /// Numbers the items that the batch puts into outboxes.
    pub(crate) const fn next_item(&mut self) -> u32 {
        let item = self.items;
        self.items = self.items.saturating_add(1);
        item
    }

    /// Adds one change.
    fn write(&mut self, family: Family, key: Writer, value: Option<Writer>) {
        let failure = key.failure().or_else(|| value.as_ref().and_then(Writer::failure));
        if let Some(failure) = failure {
            self.failure.get_or_insert(failure.clone());
            return;
        }
        let length = key.len().saturating_add(value.as_ref().map_or(0, Writer::len));
        self.bytes = self.bytes.saturating_add(length);
        self.writes.push(Write { family, key, value });
    }

    /// Checks that the batch can be written at all.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.bytes > COMMIT_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: self.bytes });
        }
        Ok(())
    }

    /// Fills the holes, and returns the rows to write in order and the log rows among them.
    #[must_use]
    pub fn resolve(self, position: Position) -> (Vec<Row>, Vec<LogEntry>) {
        let mut rows = Vec::with_capacity(self.writes.len() + self.log.len());
        rows.extend(self.writes.into_iter().map(|write| Row {
            family: write.family,
            key: write.key.fill(position),
            value: write.value.map(|value| value.fill(position)),
        }));
        let entries: Vec<_> = (0..)
            .zip(self.log)
            .map(|(index, (topic, payload))| LogEntry { position, index, topic, payload })
            .collect();
        rows.extend(entries.iter().map(|entry| {
            let mut value = Writer::new();
            entry.row().encode(&mut value);
            Row {
                family: tables::LOG.family(),
                key: tables::LOG.key(&(entry.position, entry.index)).fill(position),
                value: Some(value.fill(position)),
            }
        }));
        (rows, entries)
    }
}

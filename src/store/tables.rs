//! The store's own tables, numbers `0x00xx`.

use bytes::Bytes;

use crate::{Family, Position, Reader, StoreError, Table, Value, Writer};

/// Position of the newest commit. Key: nothing. Value: the position.
/// Written by the engine with every group of commits. Never decreases.
pub(crate) const NEWEST: Table<(), Position> = Table::new(0x0001, "newest", Family::Main);

/// The change log. Key: position, place within its batch. Value: topic and payload.
/// Written by [`crate::Batch::resolve`] only. Never changed once written.
pub(crate) const LOG: Table<(Position, u32), LogRow> = Table::new(0x0002, "log", Family::Log);

/// Place up to which each follower has done its work. Key: its name. Value: position and place
/// within the batch of the last log row done. Written by [`crate::Follower::advance`] only.
pub(crate) const FOLLOWERS: Table<String, LogPlace> = Table::new(0x0003, "followers", Family::Main);

/// Schema version of each component. Key: its name. Value: the version.
/// Written by [`crate::migrate::run`] only. Never decreases.
pub(crate) const SCHEMA: Table<String, u64> = Table::new(0x0004, "schema", Family::Main);

/// A log row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    /// What kind of row it is.
    pub(crate) topic: u16,
    /// What it says.
    pub(crate) payload: Bytes,
}

impl Value for LogRow {
    fn encode(&self, out: &mut Writer) {
        out.extend(&self.topic.to_be_bytes());
        out.extend(&self.payload);
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Reader::new(bytes);
        let topic = u16::from_be_bytes(input.array()?);
        Ok(Self { topic, payload: Bytes::copy_from_slice(input.rest()) })
    }
}

/// The place of a row in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogPlace {
    /// Position of its batch.
    pub(crate) position: Position,
    /// Place within its batch.
    pub(crate) index: u32,
}

impl LogPlace {
    /// Returns the place after every row at the position.
    pub(crate) const fn after(position: Position) -> Self {
        Self { position, index: u32::MAX }
    }
}

impl Value for LogPlace {
    fn encode(&self, out: &mut Writer) {
        out.position(self.position);
        out.extend(&self.index.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Reader::new(bytes);
        let position = Position::new(u64::from_be_bytes(input.array()?));
        let index = u32::from_be_bytes(input.array()?);
        input.finish()?;
        Ok(Self { position, index })
    }
}

//! Bytes with holes: what keys and values are written into and read from.

use smallvec::SmallVec;

use crate::{Position, StoreError};

/// Takes the encoded form of one key or value, and remembers where a position is still missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writer {
    bytes: Vec<u8>,
    holes: SmallVec<[u32; 2]>,
    failure: Option<StoreError>,
}

impl Writer {
    /// Makes an empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends bytes as they are.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends one byte.
    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    /// Appends a position: 8 bytes, big endian. [`Position::PENDING`] becomes a hole, which the
    /// commit fills.
    pub fn position(&mut self, position: Position) {
        if position == Position::PENDING {
            match u32::try_from(self.bytes.len()) {
                Ok(offset) => self.holes.push(offset),
                Err(_) => self.fail("a position lies beyond 4 GiB"),
            }
        }
        self.extend(&position.get().to_be_bytes());
    }

    /// Says that what was to be written has no stored form; the commit of the batch will fail.
    pub fn fail(&mut self, what: impl Into<String>) {
        self.failure.get_or_insert(StoreError::Encode { what: what.into() });
    }

    /// Returns the bytes so far; holes hold `0xff`.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of bytes so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Tells whether nothing was written so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns why what was written has no stored form, if so.
    pub(crate) fn failure(&self) -> Option<&StoreError> {
        self.failure.as_ref()
    }

    /// Returns the bytes, holes as they are.
    ///
    /// # Errors
    /// Where the writer was told to [`Writer::fail`].
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, StoreError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.bytes),
        }
    }

    /// Fills every hole with the position and returns the bytes.
    pub(crate) fn fill(mut self, position: Position) -> Vec<u8> {
        let number = position.get().to_be_bytes();
        for offset in self.holes {
            let start = offset as usize;
            if let Some(hole) = self.bytes.get_mut(start..start + number.len()) {
                hole.copy_from_slice(&number);
            }
        }
        self.bytes
    }
}

/// Gives the bytes of one key or value from front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Makes a reader of these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns the next `count` bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], StoreError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(StoreError::corrupt(format!(
                "it ends early: {count} bytes wanted, {} left",
                self.rest.len()
            )));
        };
        self.rest = rest;
        Ok(taken)
    }

    /// Returns the next `N` bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(StoreError::corrupt(format!(
                "it ends early: {N} bytes wanted, {} left",
                self.rest.len()
            )));
        };
        self.rest = rest;
        Ok(*taken)
    }

    /// Returns the next byte.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where none is left.
    pub fn byte(&mut self) -> Result<u8, StoreError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Returns all that is left, and leaves nothing.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Returns the number of bytes left.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Tells whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that everything was read.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where bytes are left.
    pub fn finish(&self) -> Result<(), StoreError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(StoreError::corrupt(format!("{} bytes follow its end", self.rest.len())))
    }
}

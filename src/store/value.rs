//! Values: what a row holds.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Position, Reader, StoreError, Writer};

/// The value of a row.
pub trait Value: Sized {
    /// Appends the encoded form.
    fn encode(&self, out: &mut Writer);

    /// Reads a value from all of its bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the bytes are no such value.
    fn decode(bytes: &[u8]) -> Result<Self, StoreError>;
}

impl Value for () {
    fn encode(&self, _: &mut Writer) {}

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        Reader::new(bytes).finish()
    }
}

macro_rules! integer_value {
    ($($integer:ty),*) => {$(
        impl Value for $integer {
            fn encode(&self, out: &mut Writer) {
                out.extend(&self.to_be_bytes());
            }

            fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
                let mut input = Reader::new(bytes);
                let number = input.array().map(<$integer>::from_be_bytes)?;
                input.finish()?;
                Ok(number)
            }
        }
    )*};
}

integer_value!(u8, u16, u32, u64, i64);

impl Value for String {
    fn encode(&self, out: &mut Writer) {
        out.extend(self.as_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        match str::from_utf8(bytes) {
            Ok(string) => Ok(string.to_owned()),
            Err(error) => Err(StoreError::corrupt(format!("a string is not UTF-8: {error}"))),
        }
    }
}

impl Value for Vec<u8> {
    fn encode(&self, out: &mut Writer) {
        out.extend(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        Ok(bytes.to_vec())
    }
}

impl Value for Bytes {
    fn encode(&self, out: &mut Writer) {
        out.extend(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        Ok(Self::copy_from_slice(bytes))
    }
}

impl<const N: usize> Value for [u8; N] {
    fn encode(&self, out: &mut Writer) {
        out.extend(self);
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Reader::new(bytes);
        let array = input.array()?;
        input.finish()?;
        Ok(array)
    }
}

/// A value stored as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned> Value for Json<T> {
    fn encode(&self, out: &mut Writer) {
        match serde_json::to_vec(&self.0) {
            Ok(json) => out.extend(&json),
            Err(error) => out.fail(format!("a value has no JSON form: {error}")),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes)
            .map(Self)
            .map_err(|error| StoreError::corrupt(format!("a value's JSON is unexpected: {error}")))
    }
}

/// A value and the position of the commit that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamped<V> {
    /// The position of the commit; [`Position::PENDING`] while writing.
    pub position: Position,
    /// The value.
    pub value: V,
}

impl<V> Stamped<V> {
    /// Marks a value to be stamped by the commit that writes it.
    #[must_use]
    pub const fn pending(value: V) -> Self {
        Self { position: Position::PENDING, value }
    }
}

impl<V: Value> Value for Stamped<V> {
    fn encode(&self, out: &mut Writer) {
        out.position(self.position);
        self.value.encode(out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut input = Reader::new(bytes);
        let position = Position::new(u64::from_be_bytes(input.array()?));
        Ok(Self { position, value: V::decode(input.rest())? })
    }
}

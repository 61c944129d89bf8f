//! Keys: encoded so that bytes sort as the values do, and each part knows its own end.

use crate::{Reader, StoreError, Writer};

#[cfg(test)]
mod tests;

/// Follows a zero byte that is part of a string.
const ESCAPED: u8 = 0xff;
/// Follows a zero byte that ends a string.
const END: u8 = 0x00;

/// The key of a row, or a leading part of one.
///
/// `a < b` exactly if `encode(a) < encode(b)`, and no encoding is the beginning of another.
pub trait Key: Sized {
    /// Appends the encoded form.
    fn encode(&self, out: &mut Writer);

    /// Reads one encoded key, and not more.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the bytes are no such key.
    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError>;
}

macro_rules! integer_key {
    ($($integer:ty),*) => {$(
        impl Key for $integer {
            fn encode(&self, out: &mut Writer) {
                out.extend(&self.to_be_bytes());
            }

            fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
                input.array().map(<$integer>::from_be_bytes)
            }
        }
    )*};
}

integer_key!(u8, u16, u32, u64);

impl Key for i64 {
    fn encode(&self, out: &mut Writer) {
        (self.cast_unsigned() ^ (1 << 63)).encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        u64::decode(input).map(|number| (number ^ (1 << 63)).cast_signed())
    }
}

impl Key for bool {
    fn encode(&self, out: &mut Writer) {
        out.byte(u8::from(*self));
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        match input.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(StoreError::corrupt(format!("{other} is neither false nor true"))),
        }
    }
}

/// Appends bytes with each zero escaped, without an end.
fn escape(bytes: &[u8], out: &mut Writer) {
    let mut parts = bytes.split(|byte| *byte == 0);
    if let Some(first) = parts.next() {
        out.extend(first);
    }
    for part in parts {
        out.extend(&[0, ESCAPED]);
        out.extend(part);
    }
}

impl Key for Vec<u8> {
    fn encode(&self, out: &mut Writer) {
        escape(self, out);
        out.extend(&[0, END]);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        let mut bytes = Self::new();
        loop {
            match input.byte()? {
                0 => match input.byte()? {
                    END => return Ok(bytes),
                    ESCAPED => bytes.push(0),
                    other => {
                        return Err(StoreError::corrupt(format!(
                            "a zero byte in a string is followed by {other:#04x}"
                        )));
                    }
                },
                byte => bytes.push(byte),
            }
        }
    }
}

impl Key for String {
    fn encode(&self, out: &mut Writer) {
        escape(self.as_bytes(), out);
        out.extend(&[0, END]);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        Self::from_utf8(Vec::<u8>::decode(input)?)
            .map_err(|error| StoreError::corrupt(format!("a string is not UTF-8: {error}")))
    }
}

/// The beginning of a string, as the last part of a prefix: finds every string that starts so.
///
/// For ranges only; no table has it in its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leading(pub String);

impl Key for Leading {
    fn encode(&self, out: &mut Writer) {
        escape(self.0.as_bytes(), out);
    }

    fn decode(_: &mut Reader<'_>) -> Result<Self, StoreError> {
        Err(StoreError::corrupt("the beginning of a string is no key"))
    }
}

impl<const N: usize> Key for [u8; N] {
    fn encode(&self, out: &mut Writer) {
        out.extend(self);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        input.array()
    }
}

impl Key for () {
    fn encode(&self, _: &mut Writer) {}

    fn decode(_: &mut Reader<'_>) -> Result<Self, StoreError> {
        Ok(())
    }
}

impl<K: Key> Key for Option<K> {
    fn encode(&self, out: &mut Writer) {
        match self {
            None => out.byte(0),
            Some(key) => {
                out.byte(1);
                key.encode(out);
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
        match input.byte()? {
            0 => Ok(None),
            1 => K::decode(input).map(Some),
            other => Err(StoreError::corrupt(format!("{other} is neither none nor some"))),
        }
    }
}

macro_rules! tuple_key {
    ($($part:ident $index:tt),+) => {
        impl<$($part: Key),+> Key for ($($part,)+) {
            fn encode(&self, out: &mut Writer) {
                $(self.$index.encode(out);)+
            }

            fn decode(input: &mut Reader<'_>) -> Result<Self, StoreError> {
                Ok(($($part::decode(input)?,)+))
            }
        }
    };
}

tuple_key!(A 0);
tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);
tuple_key!(A 0, B 1, C 2, D 3, E 4);

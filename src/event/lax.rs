//! JSON as room versions 1 to 5 take it: with floats, and integers of any size.
//!
//! Events are hashed over the text of their numbers, so that all servers have to write them alike:
//! integers with all their digits, floats in the shortest form that reads back as the same IEEE 754
//! double, with an exponent below 10⁻⁴ and from 10¹⁶ on. That is what the servers of those room
//! versions do. [Spec](https://spec.matrix.org/v1.19/rooms/v1/#canonical-json)

mod read;

use std::collections::BTreeMap;

use ruma::{CanonicalJsonObject, CanonicalJsonValue, Int};

use crate::EventError;

/// A JSON object with numbers that canonical JSON does not allow.
pub(crate) type LaxObject = BTreeMap<String, LaxValue>;

/// A JSON value with numbers that canonical JSON does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LaxValue {
    /// `null`, `true` or `false`.
    Word(&'static str),
    /// A number, as it is written.
    Number(String),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Self>),
    /// An object.
    Object(LaxObject),
}

/// Reads a JSON object.
pub(crate) fn parse(json: &str) -> Result<LaxObject, EventError> {
    match read::value(json)? {
        LaxValue::Object(object) => Ok(object),
        _ => Err(EventError::BadJson("not an object".to_owned())),
    }
}

/// Writes JSON in the one way in which events of room versions 1 to 5 are hashed and signed: as
/// canonical JSON, but with numbers of any kind. Linear in its length.
///
/// Requests may hold such events, and are signed over this text. Canonical JSON stays what it is.
///
/// # Errors
/// [`EventError::BadJson`] for what is no JSON, nested more than 127 levels deep, or has a float
/// that no double can hold.
pub fn write_lax(json: &str) -> Result<String, EventError> {
    let mut out = String::with_capacity(json.len());
    read::value(json)?.push(&mut out)?;
    Ok(out)
}

/// Writes an object with sorted keys and without spaces.
pub(crate) fn write(object: &LaxObject) -> Result<String, EventError> {
    let mut out = String::new();
    push_object(&mut out, object)?;
    Ok(out)
}

/// The object with numbers of canonical JSON: integers are cut to what it can hold as long as they
/// have 64 bits, all other numbers become `null`.
pub(crate) fn to_canonical(object: &LaxObject) -> CanonicalJsonObject {
    object.iter().map(|(key, value)| (key.clone(), value.to_canonical())).collect()
}

/// The object with integers for all numbers: floats lose what is behind the point.
pub(crate) fn with_integers(object: &LaxObject) -> CanonicalJsonObject {
    object.iter().map(|(key, value)| (key.clone(), value.with_integers())).collect()
}

/// Takes everything away that is not in `kept`, a part of the object in canonical JSON.
pub(crate) fn prune(object: &mut LaxObject, kept: &CanonicalJsonObject) {
    object.retain(|key, value| match (value, kept.get(key)) {
        (_, None) => false,
        (LaxValue::Object(object), Some(CanonicalJsonValue::Object(kept))) => {
            prune(object, kept);
            true
        }
        _ => true,
    });
}

impl LaxValue {
    fn to_canonical(&self) -> CanonicalJsonValue {
        match self {
            Self::Word("true") => CanonicalJsonValue::Bool(true),
            Self::Word("false") => CanonicalJsonValue::Bool(false),
            Self::Word(_) => CanonicalJsonValue::Null,
            Self::Number(text) => match text.parse::<i64>() {
                Ok(number) => CanonicalJsonValue::Integer(Int::new_saturating(number)),
                Err(_) => CanonicalJsonValue::Null,
            },
            Self::String(text) => CanonicalJsonValue::String(text.clone()),
            Self::Array(values) => {
                CanonicalJsonValue::Array(values.iter().map(Self::to_canonical).collect())
            }
            Self::Object(object) => CanonicalJsonValue::Object(to_canonical(object)),
        }
    }

    fn with_integers(&self) -> CanonicalJsonValue {
        match self {
            Self::Number(text) => {
                // A cast cuts a float to an integer, and one that is out of range to the range.
                let float = text.parse::<f64>().unwrap_or_default();
                let number = text.parse::<i64>().unwrap_or(float as i64);
                CanonicalJsonValue::Integer(Int::new_saturating(number))
            }
            Self::Array(values) => {
                CanonicalJsonValue::Array(values.iter().map(Self::with_integers).collect())
            }
            Self::Object(object) => CanonicalJsonValue::Object(with_integers(object)),
            other => other.to_canonical(),
        }
    }

    fn push(&self, out: &mut String) -> Result<(), EventError> {
        match self {
            Self::Word(text) => out.push_str(text),
            Self::Number(text) => out.push_str(text),
            Self::String(text) => out.push_str(&serde_json::to_string(text)?),
            Self::Array(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.push(out)?;
                }
                out.push(']');
            }
            Self::Object(object) => push_object(out, object)?,
        }
        Ok(())
    }
}

fn push_object(out: &mut String, object: &LaxObject) -> Result<(), EventError> {
    out.push('{');
    for (index, (key, value)) in object.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(key)?);
        out.push(':');
        value.push(out)?;
    }
    out.push('}');
    Ok(())
}

#[cfg(test)]
mod tests;

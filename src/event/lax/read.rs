//! Reading JSON without losing a digit of its numbers.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue as RawJsonValue;

use super::{LaxObject, LaxValue};
use crate::EventError;

/// Most digits of an integer; more cannot be read by servers written in Python.
const DIGITS_MAX: usize = 4_300;
/// Numbers from 10 to this power on, and below 10⁻⁴, are written with an exponent.
const EXPONENT_MAX: i32 = 16;
const EXPONENT_MIN: i32 = -4;

/// Reads any JSON.
///
/// serde_json makes doubles of large integers. It is given the text with the place of each number
/// in a list instead of the number.
pub(super) fn value(json: &str) -> Result<LaxValue, EventError> {
    let (text, numbers) = take_numbers(json)?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let value = Reader(&numbers).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// The text with numbers replaced by their indexes, and the numbers as they are to be written.
fn take_numbers(json: &str) -> Result<(String, Vec<String>), EventError> {
    let mut text = String::with_capacity(json.len());
    let mut numbers = Vec::new();
    let mut rest = json;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        let length = if from.starts_with('"') { string_length(from) } else { number_length(from) };
        let (token, after) = from.split_at(length);
        if token.starts_with('"') {
            text.push_str(token);
        } else {
            text.push_str(&numbers.len().to_string());
            numbers.push(number(token)?);
        }
        rest = after;
    }
    text.push_str(rest);
    Ok((text, numbers))
}

/// Bytes of the string at the start, with its quotation marks.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// Bytes of the number at the start.
fn number_length(text: &str) -> usize {
    let of_number = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    text.find(|c: char| !of_number(c)).unwrap_or(text.len())
}

/// The one way to write a number.
fn number(text: &str) -> Result<String, EventError> {
    serde_json::from_str::<&RawJsonValue>(text)?;
    if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return float(text);
    }
    if text.len() > DIGITS_MAX {
        return Err(EventError::BadJson("an integer with too many digits".to_owned()));
    }
    Ok(if text == "-0" { "0" } else { text }.to_owned())
}

fn float(text: &str) -> Result<String, EventError> {
    let bad = || EventError::BadJson(format!("a number out of range: {text:.40}"));
    let value: f64 = text.parse().map_err(|_| bad())?;
    if !value.is_finite() {
        return Err(bad());
    }
    // The shortest digits that read back as the same number, like `-1.25e-7`.
    let shortest = format!("{value:e}");
    let (mantissa, exponent) = shortest.split_once('e').ok_or_else(bad)?;
    let exponent: i32 = exponent.parse().map_err(|_| bad())?;
    if value == 0.0 || (EXPONENT_MIN..EXPONENT_MAX).contains(&exponent) {
        let plain = value.to_string();
        return Ok(if plain.contains('.') { plain } else { plain + ".0" });
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    Ok(format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()))
}

struct Reader<'a>(&'a [String]);

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = LaxValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<LaxValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = LaxValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<LaxValue, E> {
        Ok(LaxValue::Word("null"))
    }

    fn visit_bool<E>(self, value: bool) -> Result<LaxValue, E> {
        Ok(LaxValue::Word(if value { "true" } else { "false" }))
    }

    fn visit_u64<E: serde::de::Error>(self, index: u64) -> Result<LaxValue, E> {
        let number = usize::try_from(index).ok().and_then(|index| self.0.get(index));
        number.cloned().map(LaxValue::Number).ok_or_else(|| E::custom("a number out of place"))
    }

    fn visit_str<E>(self, text: &str) -> Result<LaxValue, E> {
        Ok(LaxValue::String(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<LaxValue, E> {
        Ok(LaxValue::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<LaxValue, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element_seed(Reader(self.0))? {
            values.push(value);
        }
        Ok(LaxValue::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<LaxValue, A::Error> {
        let mut object = LaxObject::new();
        while let Some(key) = access.next_key::<String>()? {
            object.insert(key, access.next_value_seed(Reader(self.0))?);
        }
        Ok(LaxValue::Object(object))
    }
}

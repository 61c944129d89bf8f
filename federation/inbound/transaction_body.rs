//! The body of a transaction, cut into PDUs and EDUs.
//!
//! A pure file, which the fuzz targets include by its path: it uses `serde`, `serde_json` and the
//! standard library alone.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// Most PDUs of a transaction.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#transactions)
pub(crate) const PDUS_MAX: usize = 50;

/// Most EDUs of a transaction.
pub(crate) const EDUS_MAX: usize = 100;

/// Most bytes of a PDU as it comes: twice of what it may have as canonical JSON, since that may be
/// shorter than what was sent.
pub(crate) const PDU_BYTES_MAX: usize = 131_072;

/// Most bytes of an EDU.
pub(crate) const EDU_BYTES_MAX: usize = 262_144;

/// A transaction, cut into its parts. What is in a part is looked at by whom it concerns.
#[derive(Debug)]
pub(crate) struct TransactionBody<'a> {
    /// The persistent data units, each a JSON object.
    pub(crate) pdus: Vec<PduPart<'a>>,
    /// The ephemeral data units.
    pub(crate) edus: Vec<EduPart<'a>>,
    /// How many parts were no such thing and are left out.
    pub(crate) malformed: usize,
}

/// A PDU with what says where it belongs.
#[derive(Debug)]
pub(crate) struct PduPart<'a> {
    /// The whole event.
    pub(crate) json: &'a RawValue,
    /// The room, as the event says.
    pub(crate) room_id: Option<String>,
    /// The ID, where the event says one itself.
    pub(crate) event_id: Option<String>,
}

/// An EDU.
#[derive(Debug)]
pub(crate) struct EduPart<'a> {
    /// Its type, like `m.typing`.
    pub(crate) kind: String,
    /// What it says, a JSON object.
    pub(crate) content: &'a RawValue,
}

/// Cuts the body of a transaction into its parts.
///
/// # Errors
/// When it is no JSON object with a list of `pdus`, or has more parts than are allowed: then none
/// of it is looked at.
pub(crate) fn parse(body: &str) -> Result<TransactionBody<'_>, serde_json::Error> {
    if !is_object(body) {
        return Err(serde_json::Error::custom("not a JSON object"));
    }
    let fields: Fields<'_> = serde_json::from_str(body)?;
    let mut malformed = 0;
    let mut pdus = Vec::with_capacity(fields.pdus.0.len());
    for json in fields.pdus.0 {
        match place_of(json) {
            Some(pdu) => pdus.push(pdu),
            None => malformed += 1,
        }
    }
    let mut edus = Vec::with_capacity(fields.edus.0.len());
    for json in fields.edus.0 {
        match edu(json) {
            Some(edu) => edus.push(edu),
            None => malformed += 1,
        }
    }
    Ok(TransactionBody { pdus, edus, malformed })
}

/// Whether a JSON text is an object. Structures are read from lists, too.
fn is_object(json: &str) -> bool {
    json.trim_ascii_start().starts_with('{')
}

/// Where an event says that it belongs.
fn place_of(json: &RawValue) -> Option<PduPart<'_>> {
    /// Fields that are no texts are as if they were missing.
    #[derive(Deserialize)]
    struct Place {
        #[serde(default, deserialize_with = "text")]
        room_id: Option<String>,
        #[serde(default, deserialize_with = "text")]
        event_id: Option<String>,
    }
    if json.get().len() > PDU_BYTES_MAX || !is_object(json.get()) {
        return None;
    }
    let Place { room_id, event_id } = serde_json::from_str(json.get()).ok()?;
    Some(PduPart { json, room_id, event_id })
}

fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let json = <&RawValue>::deserialize(input)?;
    Ok(serde_json::from_str(json.get()).ok())
}

fn edu(json: &RawValue) -> Option<EduPart<'_>> {
    #[derive(Deserialize)]
    struct Edu<'a> {
        edu_type: String,
        #[serde(borrow)]
        content: &'a RawValue,
    }
    if json.get().len() > EDU_BYTES_MAX || !is_object(json.get()) {
        return None;
    }
    let Edu { edu_type, content } = serde_json::from_str(json.get()).ok()?;
    is_object(content.get()).then_some(EduPart { kind: edu_type, content })
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    pdus: Parts<'a, PDUS_MAX>,
    #[serde(borrow, default)]
    edus: Parts<'a, EDUS_MAX>,
}

/// A list of at most `N` parts; reading stops at the first one too many.
#[derive(Default)]
struct Parts<'a, const N: usize>(Vec<&'a RawValue>);

impl<'de: 'a, 'a, const N: usize> Deserialize<'de> for Parts<'a, N> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_seq(PartsVisitor::<N>).map(Self)
    }
}

struct PartsVisitor<const N: usize>;

impl<'de, const N: usize> Visitor<'de> for PartsVisitor<N> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a list of at most {N} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = list.next_element()? {
            if parts.len() >= N {
                return Err(A::Error::custom(format_args!("more than {N} entries in a list")));
            }
            parts.push(part);
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_cut_into_its_parts() {
        let body = r#"{"origin":"a","pdus":[{"room_id":"!r","type":"m","x":1.5e3},7,[],
            {"room_id":9,"event_id":"$e:a"}],
            "edus":[{"edu_type":"m.typing","content":{"a":1}},{"edu_type":1,"content":{}},
            {"edu_type":"x","content":[]},null]}"#;
        let parts = parse(body).unwrap();
        assert_eq!(parts.pdus.len(), 2);
        assert_eq!(parts.pdus[0].room_id.as_deref(), Some("!r"));
        assert!(parts.pdus[0].json.get().contains("1.5e3"));
        assert_eq!(parts.pdus[1].room_id, None);
        assert_eq!(parts.pdus[1].event_id.as_deref(), Some("$e:a"));
        assert_eq!(parts.edus.len(), 1);
        assert_eq!(parts.edus[0].content.get(), r#"{"a":1}"#);
        assert_eq!(parts.malformed, 5);
    }

    #[test]
    fn too_many_parts_are_refused_and_just_enough_are_not() {
        let list = |name: &str, count: usize| {
            format!(
                "{{\"{name}\":[{}]}}",
                vec!["{\"edu_type\":\"t\",\"content\":{}}"; count].join(",")
            )
        };
        assert_eq!(parse(&list("pdus", PDUS_MAX)).unwrap().pdus.len(), PDUS_MAX);
        assert!(parse(&list("pdus", PDUS_MAX + 1)).is_err());
        assert_eq!(parse(&list("edus", EDUS_MAX)).unwrap().edus.len(), EDUS_MAX);
        assert!(parse(&list("edus", EDUS_MAX + 1)).is_err());
    }

    #[test]
    fn what_is_no_transaction_is_refused() {
        for body in ["", "[]", "7", "{\"pdus\":{}}", "{\"pdus\":[", "{\"edus\":7}", "{}{}"] {
            assert!(parse(body).is_err(), "{body}");
        }
        assert!(parse("{}").unwrap().pdus.is_empty());
    }

    #[test]
    fn large_parts_are_left_out_and_deep_nesting_costs_nothing() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = format!("{{\"pdus\":[{{\"a\":{deep}}}],\"edus\":[{deep}]}}");
        assert_eq!(parse(&body).unwrap().malformed, 2);
        let long = "x".repeat(PDU_BYTES_MAX);
        let body = format!("{{\"pdus\":[{{\"a\":\"{long}\"}},{{}}]}}");
        let parts = parse(&body);
        let (pdus, malformed) = parts.as_ref().map(|p| (p.pdus.len(), p.malformed)).unwrap();
        assert_eq!((pdus, malformed), (1, 1));
    }
}

//! The `Authorization` header with which servers sign their requests. Pure functions.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#request-authentication)

use event::{EventError, ServerKey};
use http::{HeaderMap, HeaderValue, Request, header};
use ruma::{
    OwnedServerName, OwnedServerSigningKeyId, ServerName, SigningKeyAlgorithm,
    serde::Base64,
    signatures::{KeyPair as _, PublicKeyMap, verify_canonical_json_bytes},
};
use serde_json::Value as JsonValue;

/// The authentication scheme.
const SCHEME: &str = "X-Matrix";

/// Longest header that is read, in bytes.
const HEADER_BYTES_MAX: usize = 4 * 1024;

/// Most such headers of one request: one for each key of the server.
const HEADERS_MAX: usize = 8;

/// Most parameters of one header, unknown ones included.
const PARAMETERS_MAX: usize = 32;

/// Who signed a request, for whom, with which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// The server that signed.
    pub origin: OwnedServerName,
    /// The server that the request is for; servers before v1.3 did not say.
    pub destination: Option<OwnedServerName>,
    /// The key that it signed with.
    pub key: OwnedServerSigningKeyId,
    /// The signature.
    pub signature: Base64,
}

/// What is wrong with a header.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XMatrixError {
    /// There is none of this scheme.
    #[error("the request has no X-Matrix authorization")]
    Missing,
    /// It is longer, or there are more of it, than allowed.
    #[error("the authorization header is too long")]
    TooLong,
    /// It is not written as it should be.
    #[error("the authorization header is malformed: {0}")]
    Malformed(&'static str),
}

impl XMatrix {
    /// Reads all headers of the scheme.
    ///
    /// # Errors
    /// [`XMatrixError`] when there is none, or one of them is malformed.
    pub fn of_headers(headers: &HeaderMap) -> Result<Vec<Self>, XMatrixError> {
        let mut found = Vec::new();
        for value in headers.get_all(header::AUTHORIZATION) {
            let Ok(text) = value.to_str() else { continue };
            match Self::parse(text) {
                Ok(_) if found.len() == HEADERS_MAX => return Err(XMatrixError::TooLong),
                Ok(read) => found.push(read),
                Err(XMatrixError::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() { Err(XMatrixError::Missing) } else { Ok(found) }
    }

    /// Reads the value of one header.
    ///
    /// # Errors
    /// [`XMatrixError::Missing`] when it is of another scheme, or else what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, XMatrixError> {
        if text.len() > HEADER_BYTES_MAX {
            return Err(XMatrixError::TooLong);
        }
        let (scheme, rest) = text.split_once(' ').ok_or(XMatrixError::Missing)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(XMatrixError::Missing);
        }
        let mut fields = Fields::default();
        let mut rest = rest;
        for _ in 0..PARAMETERS_MAX {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return fields.finish();
            }
            let (name, value, behind) = parameter(rest)?;
            fields.take(name, value)?;
            rest = behind.trim_start_matches([' ', '\t']);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(XMatrixError::Malformed("no comma behind a value"));
            }
        }
        Err(XMatrixError::TooLong)
    }

    /// Whether the signature is that of a request to `destination`, by one of the keys.
    ///
    /// # Errors
    /// A sentence for people: the body is not JSON, the key is not among them, or the signature is
    /// wrong.
    pub fn verify<T: AsRef<[u8]>>(
        &self,
        request: &Request<T>,
        destination: &ServerName,
        keys: &PublicKeyMap,
    ) -> Result<(), String> {
        let text = signed_text(request, &self.origin, destination)?;
        let key = keys
            .get(self.origin.as_str())
            .and_then(|of_origin| of_origin.get(self.key.as_str()))
            .ok_or("the key is not known")?;
        let algorithm = SigningKeyAlgorithm::Ed25519;
        let signature = self.signature.as_bytes();
        verify_canonical_json_bytes(&algorithm, key.as_bytes(), signature, text.as_bytes())
            .map_err(|error| error.to_string())
    }
}

/// Signs a request of `origin` to `destination`. Gives the header's value.
///
/// # Errors
/// [`EventError::BadJson`] when the body is not JSON.
pub fn sign<T: AsRef<[u8]>>(
    request: &Request<T>,
    origin: &ServerName,
    destination: &ServerName,
    key: &ServerKey,
) -> Result<HeaderValue, EventError> {
    let text = signed_text(request, origin, destination).map_err(EventError::BadJson)?;
    let (_, signature) = key.sign(text.as_bytes()).into_parts();
    let signature: Base64 = Base64::new(signature);
    let key_id = key.key_id();
    let text = format!(
        r#"{SCHEME} origin="{origin}",destination="{destination}",key="{key_id}",sig="{signature}""#
    );
    HeaderValue::try_from(text).map_err(|error| EventError::BadKey(error.to_string()))
}

/// What is signed of a request. Its body may hold events of old rooms, whose numbers may be of any
/// kind.
fn signed_text<T: AsRef<[u8]>>(
    request: &Request<T>,
    origin: &ServerName,
    destination: &ServerName,
) -> Result<String, String> {
    let uri = request.uri().path_and_query().ok_or("the request has no path")?;
    let body = request.body().as_ref();
    let mut text = String::with_capacity(body.len() + 256);
    text.push('{');
    if !body.is_empty() {
        let body = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8")?;
        let content = event::write_lax(body).map_err(|error| format!("the body: {error}"))?;
        text.push_str("\"content\":");
        text.push_str(&content);
        text.push(',');
    }
    let method = request.method().as_str();
    let fields = [
        ("destination", destination.as_str()),
        ("method", method),
        ("origin", origin.as_str()),
        ("uri", uri.as_str()),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\":{}", JsonValue::from(value)));
    text.push_str(&fields.join(","));
    text.push('}');
    Ok(text)
}

/// One parameter: its name, its value without quotes, and what stands behind it.
fn parameter(text: &str) -> Result<(&str, String, &str), XMatrixError> {
    let (name, rest) = text.split_once('=').ok_or(XMatrixError::Malformed("no value"))?;
    let rest = rest.trim_start_matches([' ', '\t']);
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([',', ' ', '\t']).unwrap_or(rest.len());
        let (value, behind) = rest.split_at(end);
        return Ok((name.trim_end(), value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut is_escaped = false;
    for (place, character) in quoted.char_indices() {
        match character {
            _ if is_escaped => {
                value.push(character);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => {
                let behind = quoted.get(place + 1..).unwrap_or_default();
                return Ok((name.trim_end(), value, behind));
            }
            _ => value.push(character),
        }
    }
    Err(XMatrixError::Malformed("a quote is not closed"))
}

/// The parameters that were read so far.
#[derive(Default)]
struct Fields {
    origin: Option<String>,
    destination: Option<String>,
    key: Option<String>,
    signature: Option<String>,
}

impl Fields {
    fn take(&mut self, name: &str, value: String) -> Result<(), XMatrixError> {
        let field = match name.to_ascii_lowercase().as_str() {
            "origin" => &mut self.origin,
            "destination" => &mut self.destination,
            "key" => &mut self.key,
            "sig" => &mut self.signature,
            _ => return Ok(()),
        };
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(XMatrixError::Malformed("a parameter stands there twice")),
        }
    }

    fn finish(self) -> Result<XMatrix, XMatrixError> {
        let bad = XMatrixError::Malformed;
        let origin = self.origin.ok_or(bad("no origin"))?;
        let destination = match self.destination {
            Some(name) => {
                Some(OwnedServerName::try_from(name).map_err(|_| bad("bad destination"))?)
            }
            None => None,
        };
        let key = self.key.ok_or(bad("no key"))?;
        let signature = self.signature.ok_or(bad("no signature"))?;
        let signature = Base64::parse(signature).map_err(|_| bad("the signature is not base64"))?;
        Ok(XMatrix {
            origin: OwnedServerName::try_from(origin).map_err(|_| bad("bad origin"))?,
            destination,
            key: OwnedServerSigningKeyId::try_from(key).map_err(|_| bad("bad key ID"))?,
            signature,
        })
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    fn parsed(text: &str) -> XMatrix {
        XMatrix::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn headers_are_read_however_they_are_written() {
        let expected = XMatrix {
            origin: server_name!("a.example:8448").to_owned(),
            destination: Some(server_name!("b.example").to_owned()),
            key: "ed25519:k_1".try_into().unwrap(),
            signature: Base64::new(b"test".to_vec()),
        };
        for text in [
            r#"X-Matrix origin="a.example:8448",destination="b.example",key="ed25519:k_1",sig="dGVzdA""#,
            "X-Matrix origin=a.example:8448,destination=b.example,key=ed25519:k_1,sig=dGVzdA",
            r#"x-matrix   sig="dGVzdA==" , KEY="ed25519:k_1"	,Origin="a.example:8448", destination=b.example"#,
            r#"X-Matrix more="x,y=\"z\"",origin="a.example:84\48",destination=b.example,key="ed25519:k_1",sig=dGVzdA,"#,
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        let old = parsed(r#"X-Matrix origin="a.example",key="ed25519:1",sig="dGVzdA""#);
        assert_eq!(old.destination, None);
    }

    #[test]
    fn malformed_headers_are_refused() {
        for text in ["", "X-Matrix", "Bearer abc", "Basic a=b"] {
            assert_eq!(XMatrix::parse(text), Err(XMatrixError::Missing), "{text}");
        }
        let good = r#"origin="a.example",key="ed25519:1",sig="dGVzdA""#;
        for text in [
            "X-Matrix ",
            "X-Matrix origin",
            r#"X-Matrix origin="a.example",key="ed25519:1""#,
            r#"X-Matrix origin="a.example,key="ed25519:1",sig="dGVzdA""#,
            r#"X-Matrix origin="a b",key="ed25519:1",sig="dGVzdA""#,
            r#"X-Matrix origin="a.example",key="1",sig="dGVzdA""#,
            r#"X-Matrix origin="a.example",key="ed25519:1",sig="!!""#,
            &format!(r#"X-Matrix {good},origin="b.example""#),
            &format!(r#"X-Matrix origin="b.example" {good}"#),
            &format!("X-Matrix {}", "a=b,".repeat(40)),
            &format!("X-Matrix {good},x=\"{}\"", "y".repeat(5_000)),
        ] {
            assert!(XMatrix::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signed_request_verifies_for_its_destination_only() {
        let (origin, here) = (server_name!("a.example"), server_name!("b.example"));
        let key = ServerKey::generate("k").unwrap();
        let mut request = Request::put("https://host/_matrix/federation/v1/send/1?x=%20y")
            .body(br#"{"pdus":[1.50,1e2], "b":1}"#.to_vec())
            .unwrap();
        let header = sign(&request, origin, here, &key).unwrap();
        request.headers_mut().append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        request.headers_mut().append(header::AUTHORIZATION, header);
        let read = XMatrix::of_headers(request.headers()).unwrap();
        let [read] = read.as_slice() else { panic!("{read:?}") };
        assert_eq!(read.destination.as_deref(), Some(here));
        let keys = key.public_keys(origin);
        read.verify(&request, here, &keys).unwrap();
        read.verify(&request, server_name!("c.example"), &keys).unwrap_err();
        let other = ServerKey::generate("k").unwrap().public_keys(origin);
        read.verify(&request, here, &other).unwrap_err();
        let changed = request.clone().map(|_| br#"{"pdus":[],"b":2}"#.to_vec());
        read.verify(&changed, here, &keys).unwrap_err();
        *request.uri_mut() = "/_matrix/federation/v1/send/1".parse().unwrap();
        read.verify(&request, here, &keys).unwrap_err();
    }
}

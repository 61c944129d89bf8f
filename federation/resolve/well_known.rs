//! The document `.well-known/matrix/server` and how long it holds. Pure functions.
//!
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#getwell-knownmatrixserver)

use std::time::{Duration, UNIX_EPOCH};

use http::{HeaderMap, header};
use ruma::OwnedServerName;
use serde::Deserialize;

/// Largest document, in bytes.
pub(crate) const WELL_KNOWN_BYTES_MAX: usize = 50 * 1024;

/// How long a document holds that says nothing of it: 24 hours.
pub(crate) const LIFETIME_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest that a document holds, whatever it says: 48 hours.
pub(crate) const LIFETIME_MAX: Duration = Duration::from_secs(48 * 60 * 60);

/// Shortest that a document holds, whatever it says: 5 minutes.
pub(crate) const LIFETIME_MIN: Duration = Duration::from_secs(5 * 60);

/// The name to which the document delegates; `None` where it is malformed.
#[must_use]
pub(crate) fn parse(body: &[u8]) -> Option<OwnedServerName> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "m.server")]
        server: String,
    }
    if body.len() > WELL_KNOWN_BYTES_MAX {
        return None;
    }
    let document: Document = serde_json::from_slice(body).ok()?;
    let name = OwnedServerName::try_from(document.server).ok()?;
    (name.port() != Some(0)).then_some(name)
}

/// How long a document holds, by the headers of the answer that it came with.
#[must_use]
pub(crate) fn lifetime(headers: &HeaderMap, now_ms: u64) -> Duration {
    told_lifetime(headers, now_ms).unwrap_or(LIFETIME_DEFAULT).clamp(LIFETIME_MIN, LIFETIME_MAX)
}

/// What the headers say, if anything.
fn told_lifetime(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let mut max_age = None;
    for value in headers.get_all(header::CACHE_CONTROL) {
        for directive in value.to_str().ok()?.split(',') {
            let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
            let name = name.trim();
            if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
                return Some(Duration::ZERO);
            }
            if name.eq_ignore_ascii_case("max-age") {
                let seconds = value.trim().trim_matches('"').parse().unwrap_or(0);
                max_age = Some(Duration::from_secs(seconds));
            }
        }
    }
    if let Some(max_age) = max_age {
        let age = text(headers, &header::AGE).and_then(|age| age.trim().parse().ok()).unwrap_or(0);
        return Some(max_age.saturating_sub(Duration::from_secs(age)));
    }
    let expires = text(headers, &header::EXPIRES)?;
    // A date that can't be read lies in the past, as RFC 9111 has it.
    let Ok(expires) = httpdate::parse_http_date(expires) else { return Some(Duration::ZERO) };
    let date = text(headers, &header::DATE)
        .and_then(|date| httpdate::parse_http_date(date).ok())
        .or_else(|| UNIX_EPOCH.checked_add(Duration::from_millis(now_ms)))?;
    Some(expires.duration_since(date).unwrap_or(Duration::ZERO))
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn lifetime_of(headers: &[(header::HeaderName, &'static str)]) -> Duration {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, HeaderValue::from_static(value));
        }
        lifetime(&map, 784_111_777_000)
    }

    #[test]
    fn a_sound_document_names_a_server() {
        let parsed = |text: &str| parse(text.as_bytes()).map(|name| name.to_string());
        let sound = [
            (r#"{"m.server":"a.example:443"}"#, "a.example:443"),
            (r#"{"m.server":"a.example","more":[1.5]}"#, "a.example"),
            (r#"{"m.server":"1.2.3.4"}"#, "1.2.3.4"),
            (r#"{"m.server":"[2001:db8::1]:8448"}"#, "[2001:db8::1]:8448"),
        ];
        for (text, name) in sound {
            assert_eq!(parsed(text).as_deref(), Some(name));
        }
    }

    #[test]
    fn a_malformed_document_names_nobody() {
        for text in [
            "",
            "{}",
            "[]",
            "null",
            r#"{"m.server":7}"#,
            r#"{"m.server":""}"#,
            r#"{"m.server":"https://a.example"}"#,
            r#"{"m.server":"a.example:99999"}"#,
            r#"{"m.server":"a.example:0"}"#,
            r#"{"m.server":"a b"}"#,
            r#"{"m.server":"a.example"} x"#,
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        let long = format!(r#"{{"m.server":"a.example","x":"{}"}}"#, "y".repeat(60_000));
        assert_eq!(parse(long.as_bytes()), None);
        let deep = "[".repeat(40_000);
        assert_eq!(parse(deep.as_bytes()), None);
    }

    #[test]
    fn the_headers_tell_how_long_it_holds_within_bounds() {
        let hour = Duration::from_secs(3_600);
        let (cache, date) = (header::CACHE_CONTROL, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(lifetime_of(&[]), LIFETIME_DEFAULT);
        assert_eq!(lifetime_of(&[(cache.clone(), "public, Max-Age=7200")]), 2 * hour);
        assert_eq!(lifetime_of(&[(cache.clone(), "max-age=99999999999")]), LIFETIME_MAX);
        assert_eq!(lifetime_of(&[(cache.clone(), "max-age=1")]), LIFETIME_MIN);
        assert_eq!(lifetime_of(&[(cache.clone(), "no-store")]), LIFETIME_MIN);
        assert_eq!(lifetime_of(&[(cache.clone(), "max-age=x")]), LIFETIME_MIN);
        let aged = [(cache, "max-age=7200"), (header::AGE, "3600")];
        assert_eq!(lifetime_of(&aged), hour);
        let expires = |when| [(header::DATE, date), (header::EXPIRES, when)];
        assert_eq!(lifetime_of(&expires("Sun, 06 Nov 1994 10:49:37 GMT")), 2 * hour);
        assert_eq!(lifetime_of(&expires("0")), LIFETIME_MIN);
        assert_eq!(lifetime_of(&[(header::EXPIRES, "Sun, 06 Nov 1994 09:49:37 GMT")]), hour);
    }
}

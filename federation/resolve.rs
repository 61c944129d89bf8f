//! Who speaks for a server: delegation by `.well-known`, with a cache.
//!
//! The result is an *authority*, a host with perhaps a port. It is the `Host` of every request,
//! names the certificate, and alone decides where the connection leads (`client/dial.rs`).
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names)

mod address;
mod dns;
mod well_known;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clock::Clock;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, combinators::BoxBody};
use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};
use tokio::sync::Semaphore;
use url::Url;

use crate::client::{HttpClient, body, why};

pub(crate) use self::{
    address::is_public,
    dns::{Dns, SystemDns, Target},
};

/// How many servers are remembered.
const SERVERS_MAX: usize = 20_000;

/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// Longest that asking for the document may take, redirects included: shorter than any request may
/// take, so that what comes of it is remembered even where the request is given up.
const WELL_KNOWN_TIMEOUT: Duration = Duration::from_secs(6);

/// How long the first failure is remembered; each further one in a row twice as long.
const FAILURE_MS_MIN: u64 = 60 * 1_000;

/// Longest that a failure is remembered: an hour.
const FAILURE_MS_MAX: u64 = 60 * 60 * 1_000;

/// Finds out who speaks for a server.
#[derive(Debug)]
pub(crate) struct Resolver {
    web: HttpClient,
    clock: Arc<dyn Clock>,
    known: Cache<OwnedServerName, Delegation>,
    memory: Semaphore,
}

/// What a server's document said when it was asked for.
#[derive(Clone, Debug)]
struct Delegation {
    /// Whom it named; nobody after a failure.
    to: Option<OwnedServerName>,
    /// When it is to be asked for again.
    expires_ms: u64,
    /// Until when `to` may be used if it can't be had again.
    last_resort_until_ms: u64,
    /// Failures in a row.
    failures: u32,
}

impl Resolver {
    /// A resolver that calls web servers with the given client.
    pub(crate) fn new(web: HttpClient, clock: Arc<dyn Clock>) -> Self {
        Self { web, clock, known: Cache::new(SERVERS_MAX), memory: Semaphore::new(1) }
    }

    /// The authority that speaks for a server. Never fails: without a document it is the server's
    /// own name.
    pub(crate) async fn authority(&self, server: &ServerName) -> OwnedServerName {
        if server.is_ip_literal() || server.port().is_some() {
            return server.to_owned();
        }
        let now_ms = self.clock.now_ms();
        let server = server.to_owned();
        let expired = self.known.remove_if(&server, |known| known.expires_ms <= now_ms);
        let before = expired.map(|(_, delegation)| delegation);
        let asked = self.known.get_or_insert_async(&server, async {
            Ok::<_, std::convert::Infallible>(self.ask(&server, before).await)
        });
        let Ok(delegation) = asked.await;
        delegation.to.unwrap_or(server)
    }

    /// Asks for the document.
    async fn ask(&self, server: &ServerName, before: Option<Delegation>) -> Delegation {
        let fetched = tokio::time::timeout(WELL_KNOWN_TIMEOUT, self.fetch(server)).await;
        let now_ms = self.clock.now_ms();
        let fetched = fetched.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match fetched {
            Ok((to, lifetime)) => {
                let after = |lifetime: Duration| {
                    now_ms.saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
                };
                Delegation {
                    to: Some(to),
                    expires_ms: after(lifetime),
                    last_resort_until_ms: after(well_known::LIFETIME_MAX),
                    failures: 0,
                }
            }
            Err(error) => {
                tracing::debug!(%server, error, "no .well-known/matrix/server");
                let failures = before.as_ref().map_or(0, |before| before.failures);
                let rest_ms = FAILURE_MS_MIN.saturating_mul(1 << failures.min(10));
                let last = before.filter(|before| before.last_resort_until_ms > now_ms);
                Delegation {
                    last_resort_until_ms: last.as_ref().map_or(0, |last| last.last_resort_until_ms),
                    to: last.and_then(|last| last.to),
                    expires_ms: now_ms.saturating_add(rest_ms.min(FAILURE_MS_MAX)),
                    failures: failures.saturating_add(1),
                }
            }
        }
    }

    /// Fetches the document, following redirects to `https` only.
    async fn fetch(&self, server: &ServerName) -> Result<(OwnedServerName, Duration), String> {
        let url = format!("https://{}/.well-known/matrix/server", server.host());
        let mut url = Url::parse(&url).map_err(|error| error.to_string())?;
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.web.request(get(&url)?).await.map_err(|error| why(&error))?;
            let (parts, body) = answer.into_parts();
            if is_redirect(parts.status) {
                url = redirected(&url, &parts.headers)?;
                continue;
            }
            if parts.status != StatusCode::OK {
                return Err(format!("status {}", parts.status));
            }
            let bytes = body::read(body, well_known::WELL_KNOWN_BYTES_MAX, &self.memory)
                .await
                .map_err(|error| error.to_string())?;
            let to = well_known::parse(&bytes).ok_or("malformed")?;
            return Ok((to, well_known::lifetime(&parts.headers, self.clock.now_ms())));
        }
        Err("too many redirects".to_owned())
    }
}

fn get(url: &Url) -> Result<Request<BoxBody<Bytes, std::convert::Infallible>>, String> {
    let mut request =
        Request::get(url.as_str()).body(Empty::new().boxed()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(crate::client::USER_AGENT));
    Ok(request)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, String> {
    let location = headers.get(header::LOCATION).and_then(|location| location.to_str().ok());
    let to = from.join(location.ok_or("a redirect to nowhere")?);
    let mut to = to.map_err(|error| format!("a redirect to no address: {error}"))?;
    if to.scheme() != "https" {
        return Err("a redirect to an address without TLS".to_owned());
    }
    to.set_fragment(None);
    // A name and password are nothing that we would send.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    Ok(to)
}

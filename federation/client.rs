//! Requests to other servers: who they are, whether they may be called, signed, within bounds.

pub(crate) mod body;
pub(crate) mod dial;
mod health;
mod request;
mod tls;

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    fmt,
    net::SocketAddr,
    num::NonZero,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use clock::Clock;
use http_body_util::combinators::BoxBody;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rooms::RemoteError;
use ruma::{OwnedServerName, ServerName};
use store::Store;
use tokio::sync::Semaphore;

use crate::{
    FederationError, OwnKeys, ServerLists,
    client::{
        dial::{Connector, Dialer, DialerParts, Network, Role},
        health::Destinations,
    },
    keyring::Shelf,
    resolve::Resolver,
};

pub(crate) use self::request::{bad_answer, raw_request};
pub use self::{
    request::{Limits, Patience, RawAnswer, RawRequest},
    tls::Certificates,
};

/// How we introduce ourselves.
pub(crate) const USER_AGENT: &str = "Natterjack";

/// Most requests to all servers at a time; more wait.
const REQUESTS_MAX: usize = 1_024;

/// Memory for large answers that are being read, in bytes: 1 GiB.
const ANSWERS_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// How many servers that we never heard of may be asked for their keys at a time, because somebody
/// claims to be one of them.
const STRANGERS_MAX: usize = 64;

/// How long a connection is kept that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// How many connections of HTTP/1.1 to one server are kept that nobody uses.
const IDLE_CONNECTIONS_MAX: usize = 2;

/// How often a peer of HTTP/2 must show that it is there, and how long it may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(15));

/// Largest head of an answer, in bytes.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Largest number of headers of an answer.
const HEADERS_MAX: usize = 128;

/// A client of HTTP over TLS, whose connections are shared.
#[derive(Clone)]
pub(crate) struct HttpClient(
    hyper_util::client::legacy::Client<Connector, BoxBody<Bytes, Infallible>>,
);

/// What the client must know of this server.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// Whether other servers are talked to at all.
    pub is_enabled: bool,
    /// Whether their certificates must be valid.
    pub certificates: Certificates,
    /// PEM files with root certificates that are trusted besides the system's.
    pub extra_root_certificates: Vec<PathBuf>,
    /// Whether addresses may be called that are not of the public internet.
    pub allow_private_addresses: bool,
    /// Which servers are talked to.
    pub lists: ServerLists,
    /// Where servers are, instead of what discovery would find.
    pub overrides: BTreeMap<OwnedServerName, SocketAddr>,
    /// Servers that are asked for the keys of others.
    pub trusted_key_servers: Vec<OwnedServerName>,
    /// Longest that connecting may take, TLS included.
    pub connect_timeout: Duration,
    /// Longest that an answer may take, whatever the request.
    pub request_timeout: Duration,
    /// Largest answer in bytes, whatever the request.
    pub answer_bytes_max: usize,
}

impl ClientConfig {
    /// Settings of a server with the defaults of the configuration.
    #[must_use]
    pub fn new(server_name: OwnedServerName) -> Self {
        Self {
            server_name,
            is_enabled: true,
            certificates: Certificates::MustBeValid,
            extra_root_certificates: Vec::new(),
            allow_private_addresses: false,
            lists: ServerLists::default(),
            overrides: BTreeMap::new(),
            trusted_key_servers: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(180),
            answer_bytes_max: 128 * 1024 * 1024,
        }
    }
}

/// Talks with other servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ClientConfig,
    keys: OwnKeys,
    clock: Arc<dyn Clock>,
    http: HttpClient,
    resolver: Resolver,
    destinations: Destinations,
    permits: Semaphore,
    memory: Semaphore,
    strangers: Semaphore,
    shelf: Shelf,
    cpu: Semaphore,
}

impl Client {
    /// Sets up TLS, name resolution and the key ring. Nobody is called yet.
    ///
    /// # Errors
    /// [`FederationError`] when a root certificate or TLS can't be used.
    pub fn new(
        config: ClientConfig,
        keys: OwnKeys,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FederationError> {
        Self::in_network(config, keys, store, clock, Network::internet())
    }

    /// As [`Client::new`], in another network than the internet.
    pub(crate) fn in_network(
        config: ClientConfig,
        keys: OwnKeys,
        store: Store,
        clock: Arc<dyn Clock>,
        network: Network,
    ) -> Result<Self, FederationError> {
        let roots = &config.extra_root_certificates;
        let tls = tls::tls_config(config.certificates, roots)?;
        let overrides: HashMap<String, SocketAddr> = config
            .overrides
            .iter()
            .map(|(name, address)| (name.as_str().to_ascii_lowercase(), *address))
            .collect();
        let http_client = |role, overrides| {
            let may_call_private = config.allow_private_addresses;
            let network = network.clone();
            let parts = DialerParts { network, role, overrides, may_call_private };
            let tls = tls.clone();
            HttpClient::new(Connector::new(Dialer::new(parts), tls, config.connect_timeout))
        };
        let http = http_client(Role::Federation, overrides);
        let web = http_client(Role::Web, HashMap::new());
        let inner = Inner {
            resolver: Resolver::new(web, Arc::clone(&clock)),
            http,
            config,
            keys,
            clock,
            destinations: Destinations::new(),
            permits: Semaphore::new(REQUESTS_MAX),
            memory: Semaphore::new(ANSWERS_BYTES_MAX / body::PERMIT_BYTES),
            strangers: Semaphore::new(STRANGERS_MAX),
            shelf: Shelf::new(store),
            cpu: Semaphore::new(std::thread::available_parallelism().map_or(2, NonZero::get)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The name of this server.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.inner.config.server_name
    }

    /// The keys of this server.
    #[must_use]
    pub fn own_keys(&self) -> &OwnKeys {
        &self.inner.keys
    }

    /// Whether a server may be talked to, in either direction.
    ///
    /// # Errors
    /// [`RemoteError::Denied`] with the rule that forbids it.
    pub fn check_allowed(&self, server: &ServerName) -> Result<(), RemoteError> {
        let config = &self.inner.config;
        let why = if !config.is_enabled {
            Some("federation is switched off")
        } else if server == config.server_name {
            Some("it is this server")
        } else {
            config.lists.forbids(server)
        };
        match why {
            None => Ok(()),
            Some(why) => {
                Err(RemoteError::Denied { server: server.to_owned(), why: why.to_owned() })
            }
        }
    }

    /// Whether a request to a server has a chance now: it is allowed and has not just failed.
    #[must_use]
    pub fn is_reachable(&self, server: &ServerName) -> bool {
        let now_ms = self.inner.clock.now_ms();
        self.check_allowed(server).is_ok()
            && self.inner.destinations.of(server).rests_ms(now_ms) == 0
    }

    /// Notes that a server spoke to us: it need not rest any longer.
    pub fn note_alive(&self, server: &ServerName) {
        self.inner.destinations.of(server).note_alive();
        self.inner.shelf.note_alive(server);
    }

    /// Where the keys of other servers are kept.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.inner.shelf
    }

    /// The right to keep a processor busy.
    pub(crate) fn cpu(&self) -> &Semaphore {
        &self.inner.cpu
    }

    /// The right to ask a server of which we never heard for its keys.
    pub(crate) fn strangers(&self) -> &Semaphore {
        &self.inner.strangers
    }

    /// The servers that are asked for the keys of others.
    pub(crate) fn notaries(&self) -> &[OwnedServerName] {
        &self.inner.config.trusted_key_servers
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.clock.now_ms()
    }
}

impl HttpClient {
    fn new(connector: Connector) -> Self {
        let mut builder = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_headers(HEADERS_MAX)
            .http1_max_buf_size(512 * 1024)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .http2_keep_alive_timeout(KEEP_ALIVE.1)
            .http2_max_header_list_size(HEAD_BYTES_MAX);
        Self(builder.build(connector))
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) fn request(
        &self,
        request: http::Request<BoxBody<Bytes, Infallible>>,
    ) -> hyper_util::client::legacy::ResponseFuture {
        self.0.request(request)
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HttpClient").finish_non_exhaustive()
    }
}

/// An error with its causes, as one sentence.
pub(crate) fn why(error: &dyn std::error::Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    // Bounded, since a chain of causes could be made long, and each often repeats the next.
    for _ in 0..8 {
        let Some(inner) = cause else { break };
        let text = inner.to_string();
        if !sentence.contains(&text) {
            sentence.push_str(": ");
            sentence.push_str(&text);
        }
        cause = inner.source();
    }
    sentence.chars().take(512).collect()
}

//! What is asked of the domain name system.

use std::{fmt::Debug, net::IpAddr, time::Duration};

use async_trait::async_trait;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy, net::NetError, proto::rr::RData};

/// Most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;

/// Most targets of one service that are tried.
const TARGETS_MAX: usize = 8;

/// How long one question may take before it is asked again.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a question is asked.
const ATTEMPTS: usize = 2;

/// How many answers are remembered, for as long as they say, but a bounded time.
const CACHE_LEN: u64 = 16 * 1024;

/// Longest that a missing name is remembered.
const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(300);

/// Longest that a name is remembered.
const POSITIVE_TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A target of a service, from an SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Lower comes first.
    pub(crate) priority: u16,
    /// Among equal priorities: how often it comes first.
    pub(crate) weight: u16,
    /// The host, without a dot at its end.
    pub(crate) host: String,
    /// The port.
    pub(crate) port: u16,
}

/// The domain name system.
#[async_trait]
pub(crate) trait Dns: Send + Sync + Debug {
    /// The addresses of a host, IPv6 and IPv4; none where there is no such host.
    ///
    /// # Errors
    /// A sentence for people where nobody could say.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String>;

    /// The targets of a service, like `_matrix-fed._tcp.example.org`; none where it has no record.
    ///
    /// # Errors
    /// A sentence for people where nobody could say.
    async fn targets(&self, service: &str) -> Result<Vec<Target>, String>;
}

/// The resolver that the operating system is set up with.
pub(crate) struct SystemDns {
    resolver: Result<TokioResolver, String>,
}

impl SystemDns {
    /// Reads the system's settings. Where they can't be read, every question fails.
    pub(crate) fn new() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = QUESTION_TIMEOUT;
            options.attempts = ATTEMPTS;
            options.cache_size = CACHE_LEN;
            options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
            options.negative_max_ttl = Some(NEGATIVE_TTL_MAX);
            options.positive_max_ttl = Some(POSITIVE_TTL_MAX);
            builder.build()
        });
        Self { resolver: resolver.map_err(|error| error.to_string()) }
    }

    fn resolver(&self) -> Result<&TokioResolver, String> {
        self.resolver.as_ref().map_err(|error| format!("no DNS: {error}"))
    }
}

impl Debug for SystemDns {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SystemDns").finish_non_exhaustive()
    }
}

/// A name as it is asked for. One with a dot in it is complete: the search list is for short names.
fn question(name: &str) -> String {
    if name.contains('.') && !name.ends_with('.') { format!("{name}.") } else { name.to_owned() }
}

/// An answer without records is an answer.
fn none_is_empty<T>(error: &NetError) -> Result<Vec<T>, String> {
    if error.is_no_records_found() { Ok(Vec::new()) } else { Err(error.to_string()) }
}

#[async_trait]
impl Dns for SystemDns {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, String> {
        match self.resolver()?.lookup_ip(question(host)).await {
            Ok(found) => Ok(found.iter().take(ADDRESSES_MAX).collect()),
            Err(error) => none_is_empty(&error),
        }
    }

    async fn targets(&self, service: &str) -> Result<Vec<Target>, String> {
        let found = match self.resolver()?.srv_lookup(question(service)).await {
            Ok(found) => found,
            Err(error) => return none_is_empty(&error),
        };
        let targets = found.answers().iter().filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Target {
                priority: srv.priority,
                weight: srv.weight,
                host: srv.target.to_utf8().trim_end_matches('.').to_owned(),
                port: srv.port,
            }),
            _ => None,
        });
        Ok(targets.take(TARGETS_MAX).collect())
    }
}

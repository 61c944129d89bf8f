//! Connections: from the authority of a request to a TCP connection with an address that may be
//! called.
//!
//! What the specification calls delegation by SRV happens here, for every new connection, and so
//! does the check of the addresses: a name can't lead elsewhere between the check and the call.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::resolve::{Dns, SystemDns, Target, is_public};

/// The port where servers are reached that name no other.
const FEDERATION_PORT: u16 = 8448;

/// The port of the web.
const WEB_PORT: u16 = 443;

/// What tells a network from another: tests have one of their own.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Who knows the names.
    pub(crate) dns: Arc<dyn Dns>,
    /// The port where servers are reached that name no other.
    pub(crate) federation_port: u16,
    /// The port of the web.
    pub(crate) web_port: u16,
    /// Whether everybody may be called at an address.
    pub(crate) is_public: fn(IpAddr) -> bool,
}

impl Network {
    /// The internet.
    pub(crate) fn internet() -> Self {
        Self {
            dns: Arc::new(SystemDns::new()),
            federation_port: FEDERATION_PORT,
            web_port: WEB_PORT,
            is_public,
        }
    }
}

/// How long one address may stay silent before the next is tried beside it (RFC 8305).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// How long one address may take at most.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(8);

/// Most targets of a service that are tried one after the other.
const TARGETS_TRIED_MAX: usize = 4;

/// Why no connection was made, as a sentence for people.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DialError(pub(crate) String);

/// How a host without a port is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// As a Matrix server: by SRV records, or else at port 8448.
    Federation,
    /// As a web server: at port 443.
    Web,
}

/// What a dialer needs to know.
#[derive(Debug)]
pub(crate) struct DialerParts {
    pub(crate) network: Network,
    pub(crate) role: Role,
    /// Where these authorities are, whatever DNS says. The administrator may name private
    /// addresses.
    pub(crate) overrides: HashMap<String, SocketAddr>,
    /// Whether addresses may be called that are not of the public internet.
    pub(crate) may_call_private: bool,
}

/// Makes TCP connections.
#[derive(Clone, Debug)]
pub(crate) struct Dialer(Arc<DialerParts>);

/// Where a server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At this address, which the administrator gave.
    Given(SocketAddr),
    /// At this address.
    Address(SocketAddr),
    /// At an address of this host.
    Host(String, u16),
}

impl Dialer {
    pub(crate) fn new(parts: DialerParts) -> Self {
        Self(Arc::new(parts))
    }

    async fn dial(&self, uri: &Uri) -> Result<TcpStream, DialError> {
        let places = self.places(uri).await?;
        let mut first_error = None;
        for place in places {
            match self.connect(&place).await {
                Ok(stream) => return Ok(stream),
                Err(error) => first_error.get_or_insert(error),
            };
        }
        Err(first_error.unwrap_or_else(|| DialError("it offers no such service".to_owned())))
    }

    /// Where the server of an authority may be, in the order to try.
    async fn places(&self, uri: &Uri) -> Result<Vec<Place>, DialError> {
        let authority = uri.authority().ok_or_else(|| DialError("no host".to_owned()))?;
        let name = authority.as_str().to_ascii_lowercase();
        if let Some(address) = self.0.overrides.get(&name) {
            return Ok(vec![Place::Given(*address)]);
        }
        let port = authority.port_u16();
        let host = authority.host();
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = literal.unwrap_or(host).parse::<IpAddr>() {
            let port = port.unwrap_or_else(|| self.default_port());
            return Ok(vec![Place::Address(SocketAddr::new(address, port))]);
        }
        match (port, self.0.role) {
            (Some(port), _) => Ok(vec![Place::Host(host.to_owned(), port)]),
            (None, Role::Web) => Ok(vec![Place::Host(host.to_owned(), self.default_port())]),
            (None, Role::Federation) => Ok(self.places_by_service(host).await),
        }
    }

    fn default_port(&self) -> u16 {
        match self.0.role {
            Role::Federation => self.0.network.federation_port,
            Role::Web => self.0.network.web_port,
        }
    }

    /// By the SRV records of a host, those of the registered name first, or else at the host
    /// itself.
    async fn places_by_service(&self, host: &str) -> Vec<Place> {
        // Asked at once, so that a host without records costs one round trip.
        let (registered, deprecated) =
            (format!("_matrix-fed._tcp.{host}"), format!("_matrix._tcp.{host}"));
        let (registered, deprecated) =
            tokio::join!(self.targets(&registered), self.targets(&deprecated));
        let targets = if registered.is_empty() { deprecated } else { registered };
        if targets.is_empty() {
            return vec![Place::Host(host.to_owned(), self.default_port())];
        }
        // A target without a name says that the service is not offered (RFC 2782).
        in_order(targets, &mut rand::rng())
            .into_iter()
            .filter(|target| !target.host.is_empty() && target.port != 0)
            .take(TARGETS_TRIED_MAX)
            .map(|target| match target.host.parse::<IpAddr>() {
                Ok(address) => Place::Address(SocketAddr::new(address, target.port)),
                Err(_) => Place::Host(target.host, target.port),
            })
            .collect()
    }

    /// Where nobody can say, there are none: the host itself may still be there.
    async fn targets(&self, service: &str) -> Vec<Target> {
        match self.0.network.dns.targets(service).await {
            Ok(targets) => targets,
            Err(error) => {
                tracing::debug!(service, error, "no answer to a question for SRV records");
                Vec::new()
            }
        }
    }

    async fn connect(&self, place: &Place) -> Result<TcpStream, DialError> {
        match place {
            Place::Given(address) => race(vec![*address]).await,
            Place::Address(address) => race(self.allowed(vec![*address], "it")?).await,
            Place::Host(host, port) => {
                let found = self.0.network.dns.addresses(host).await.map_err(DialError)?;
                if found.is_empty() {
                    return Err(DialError(format!("the host {host} does not exist")));
                }
                let addresses =
                    found.into_iter().map(|address| SocketAddr::new(address, *port)).collect();
                race(self.allowed(addresses, host)?).await
            }
        }
    }

    /// The addresses that may be called.
    fn allowed(
        &self,
        mut addresses: Vec<SocketAddr>,
        host: &str,
    ) -> Result<Vec<SocketAddr>, DialError> {
        if !self.0.may_call_private {
            addresses.retain(|address| (self.0.network.is_public)(address.ip()));
        }
        addresses.retain(|address| address.port() != 0);
        if addresses.is_empty() {
            return Err(DialError(format!(
                "{host} is at a private address, and federation.allow_private_addresses is off"
            )));
        }
        Ok(addresses)
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial(&uri).await.map(TokioIo::new) })
    }
}

/// Puts targets in the order of RFC 2782: by priority, then by chance according to weight.
fn in_order(mut targets: Vec<Target>, rng: &mut impl rand::Rng) -> Vec<Target> {
    targets.sort_by_key(|target| (target.priority, target.weight));
    let mut ordered = Vec::with_capacity(targets.len());
    while let Some(first) = targets.first() {
        let priority = first.priority;
        let equal = targets.iter().take_while(|target| target.priority == priority);
        let weights: Vec<u32> = equal.map(|target| u32::from(target.weight)).collect();
        let mut chance = rng.random_range(0..=weights.iter().sum::<u32>());
        let chosen = weights.iter().position(|weight| {
            let is_it = chance <= *weight;
            chance = chance.saturating_sub(*weight);
            is_it
        });
        ordered.push(targets.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// Calls addresses, IPv6 and IPv4 in turns, and the next whenever one fails or hesitates. The first
/// that answers is taken.
async fn race(addresses: Vec<SocketAddr>) -> Result<TcpStream, DialError> {
    let mut waiting = in_turns(addresses).into_iter();
    let mut calls = FuturesUnordered::new();
    let mut error = None;
    // Each turn begins with the next address: the last one failed, or hesitates.
    loop {
        calls.extend(waiting.next().map(call));
        let more = waiting.len() > 0;
        tokio::select! {
            answer = calls.next() => match answer {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(failure)) => {
                    error.get_or_insert(failure);
                }
                None if more => {}
                None => {
                    return Err(error.unwrap_or_else(|| DialError("no address".to_owned())));
                }
            },
            () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if more => {}
        }
    }
}

async fn call(address: SocketAddr) -> Result<TcpStream, DialError> {
    match tokio::time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => {
            // Only costs a little speed where it fails.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(DialError(format!("{address}: {error}"))),
        Err(_) => Err(DialError(format!("{address}: no answer"))),
    }
}

/// Addresses of both families in turns, IPv6 first, otherwise in their order.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv6);
    let mut turns = Vec::with_capacity(v6.len() + v4.len());
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

/// Makes TLS connections within a time.
#[derive(Clone)]
pub(crate) struct Connector {
    https: HttpsConnector<Dialer>,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(dialer: Dialer, tls: rustls::ClientConfig, timeout: Duration) -> Self {
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_only()
            .enable_all_versions()
            .wrap_connector(dialer);
        Self { https, timeout }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.https.call(uri);
        let timeout = self.timeout;
        Box::pin(async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(DialError("connecting took too long".to_owned()).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests;

//! Accepts connections and bounds what they may take: their number, their time, the size of what
//! they send.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    config::{LimitsConfig, ListenerConfig, Resource},
    serve_activity::{Activity, OpenRequest, TimedWrites},
    serve_body::TimedBody,
    serve_socket::{BindError, Peer, Socket, Stream, tls_acceptor},
};

/// Longest that open requests may take to finish once the server stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(3_500);

/// Time that a connection gets to send the end of an answer once the server stops. One on which
/// nothing is asked is cut then.
const STOP_GRACE: Duration = Duration::from_millis(500);

/// Wait after a failed accept, as where no file descriptor is left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Most requests at once on one HTTP/2 connection.
const HTTP2_STREAMS_MAX: u32 = 250;

/// What answers requests, by resource.
#[derive(Clone, Debug)]
pub(crate) struct Doors {
    /// Answers clients and administrators' tools, and what nobody else answers.
    pub(crate) client: Router,
    /// Answers other servers.
    pub(crate) federation: Router,
    /// Answers `/metrics`.
    pub(crate) metrics: Router,
}

/// What all listeners share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) limits: LimitsConfig,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) stop: CancellationToken,
}

/// A place that is bound, but where nobody is answered yet.
pub(crate) struct Listener {
    socket: Socket,
    config: ListenerConfig,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Binds the address or socket, and reads the certificate.
    pub(crate) async fn bind(config: ListenerConfig) -> Result<Self, BindError> {
        let tls = tls_acceptor(&config)?;
        let socket = Socket::bind(&config.bind).await?;
        Ok(Self { socket, config, tls })
    }

    /// The address that was bound, where it is one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.socket.address()
    }

    /// Whether it speaks HTTPS.
    pub(crate) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Answers until it is stopped; returns when the last connection has ended, or soon after.
    pub(crate) async fn run(self, doors: Doors, shared: Shared) {
        let Self { socket, config, tls } = self;
        let entrance = Arc::new(Entrance::new(config, tls, doors, &shared));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shared.stop.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    if let Some(permit) = shared.admit().await {
                        connections.spawn(Arc::clone(&entrance).serve(stream, peer, permit));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
        drop(socket);
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("connections were cut that did not end in time");
        }
        connections.shutdown().await;
    }
}

impl Shared {
    /// Waits until one more connection is allowed, as long as a client may be silent. A connection
    /// that came is waited for, not one that may come: an idle listener takes nothing from others.
    async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        let time = Duration::from_millis(self.limits.header_timeout_ms);
        let permit = timeout(time, Arc::clone(&self.connections).acquire_owned());
        match self.stop.run_until_cancelled(permit).await {
            Some(Ok(permit)) => permit.ok(),
            Some(Err(_)) => {
                tracing::warn!("a connection was turned away: limits.connections_max are open");
                None
            }
            None => None,
        }
    }
}

/// What a listener does with its connections.
struct Entrance {
    config: ListenerConfig,
    tls: Option<TlsAcceptor>,
    doors: Doors,
    limits: LimitsConfig,
    stop: CancellationToken,
    http: Builder<TokioExecutor>,
}

impl Entrance {
    fn new(
        config: ListenerConfig,
        tls: Option<TlsAcceptor>,
        doors: Doors,
        shared: &Shared,
    ) -> Self {
        let limits = shared.limits;
        let mut http = Builder::new(TokioExecutor::new());
        let header_timeout = Duration::from_millis(limits.header_timeout_ms);
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(limits.header_bytes_max);
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(header_timeout)
            .keep_alive_timeout(header_timeout);
        Self { config, tls, doors, limits, stop: shared.stop.clone(), http }
    }

    /// Serves one connection to its end.
    async fn serve(self: Arc<Self>, stream: Stream, peer: Peer, _permit: OwnedSemaphorePermit) {
        let gauge = metrics::gauge!("http_connections");
        gauge.increment(1);
        let activity = Arc::new(Activity::new());
        let stream = TimedWrites::new(stream, self.idle_timeout(), Arc::clone(&activity));
        let connection = async {
            let stream = match &self.tls {
                None => Stream::new(stream),
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => Stream::new(stream),
                    Err(error) => {
                        tracing::debug!(%error, "a TLS handshake failed");
                        return;
                    }
                },
            };
            self.converse(stream, peer, &activity).await;
        };
        tokio::select! {
            () = connection => {}
            () = self.silence(&activity) => {}
            () = self.end_of_work(&activity) => {}
        }
        gauge.decrement(1);
    }

    /// Speaks HTTP until the client has enough, is idle for too long, or the server stops.
    async fn converse(self: &Arc<Self>, stream: Stream, peer: Peer, activity: &Arc<Activity>) {
        let service = hyper::service::service_fn(|request| {
            let (entrance, open) = (Arc::clone(self), OpenRequest::new(Arc::clone(activity)));
            async move {
                let (parts, body) = entrance.answer(request, peer).await.into_parts();
                Ok::<_, Infallible>(Response::from_parts(parts, open.answered(body)))
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = self.stop.cancelled() => None,
            () = activity.quiet(self.idle_timeout()) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                activity.touch();
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    // The client does not take part in the end either.
                    () = activity.quiet(self.header_timeout()) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }

    fn header_timeout(&self) -> Duration {
        Duration::from_millis(self.limits.header_timeout_ms)
    }

    fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.limits.idle_timeout_ms)
    }

    /// Ends when a client does not even begin to ask in time.
    async fn silence(&self, activity: &Activity) {
        tokio::time::sleep(self.header_timeout()).await;
        if activity.has_asked() {
            std::future::pending::<()>().await;
        }
    }

    /// Ends soon after the server stops, unless a request is being answered or an answer sent: the
    /// connection ends after that by itself.
    async fn end_of_work(&self, activity: &Activity) {
        self.stop.cancelled().await;
        tokio::time::sleep(STOP_GRACE).await;
        if activity.is_busy() {
            std::future::pending::<()>().await;
        }
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        let address = if self.config.forwarded_for {
            forwarded_for(&parts.headers).or(peer.address)
        } else {
            peer.address
        };
        parts.extensions.insert(api::PeerAddress(address));
        let resource = resource_of(parts.uri.path());
        let door = match resource {
            _ if !self.config.serve.contains(&resource) => return unrecognized(),
            Resource::Client | Resource::Admin => &self.doors.client,
            Resource::Federation => &self.doors.federation,
            Resource::Metrics => &self.doors.metrics,
        };
        let body_timeout = Duration::from_millis(self.limits.body_timeout_ms);
        let body = Body::new(TimedBody::new(body, body_timeout));
        let answer = door.clone().oneshot(Request::from_parts(parts, body));
        let answer = AssertUnwindSafe(answer).catch_unwind();
        match timeout(Duration::from_millis(self.limits.request_timeout_ms), answer).await {
            Ok(Ok(Ok(response))) => response,
            Ok(Err(_)) => {
                tracing::error!("a request failed by a panic");
                error(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "internal server error")
            }
            Err(_) => error(StatusCode::GATEWAY_TIMEOUT, "M_UNKNOWN", "the request took too long"),
        }
    }
}

/// Which resource a path belongs to.
fn resource_of(path: &str) -> Resource {
    let is_below = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if is_below("/_matrix/federation") || is_below("/_matrix/key") {
        Resource::Federation
    } else if is_below("/_synapse/admin") {
        Resource::Admin
    } else if path == "/metrics" {
        Resource::Metrics
    } else {
        Resource::Client
    }
}

/// The address that the proxy before us saw.
fn forwarded_for(headers: &http::HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?;
    last.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
}

/// The answer where a path leads nowhere on this listener.
pub(crate) fn unrecognized() -> Response<Body> {
    error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "unrecognized request")
}

/// An error as the specification writes it, readable for web pages too.
fn error(status: StatusCode, errcode: &str, message: &str) -> Response<Body> {
    let body = serde_json::json!({ "errcode": errcode, "error": message }).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-type", "application/json"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("access-control-allow-headers", "X-Requested-With, Content-Type, Authorization"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_resources() {
        for (path, resource) in [
            ("/_matrix/client/versions", Resource::Client),
            ("/.well-known/matrix/server", Resource::Client),
            ("/_matrix/federation/v1/version", Resource::Federation),
            ("/_matrix/federationx", Resource::Client),
            ("/_matrix/key/v2/server", Resource::Federation),
            ("/_synapse/admin/v1/register", Resource::Admin),
            ("/metrics", Resource::Metrics),
            ("/metrics/x", Resource::Client),
        ] {
            assert_eq!(resource_of(path), resource, "{path}");
        }
    }

    #[test]
    fn the_nearest_proxy_is_believed() {
        let mut headers = http::HeaderMap::new();
        assert_eq!(forwarded_for(&headers), None);
        headers.append("x-forwarded-for", "10.0.0.1, 192.0.2.7".parse().unwrap());
        assert_eq!(forwarded_for(&headers), Some("192.0.2.7".parse().unwrap()));
        headers.append("x-forwarded-for", "2001:db8::1".parse().unwrap());
        assert_eq!(forwarded_for(&headers), Some("2001:db8::1".parse().unwrap()));
    }
}

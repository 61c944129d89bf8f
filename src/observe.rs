//! One span and one measurement per request, whoever answers it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    middleware::{Next, from_fn},
    response::Response,
};
use http::HeaderValue;
use tower_http::compression::{
    CompressionLayer, DefaultPredicate, Predicate as _, predicate::SizeAbove,
};
use tracing::Instrument as _;

/// Least answer that is worth the work of compressing it, in bytes.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// Puts around all routes what each of them needs: compression, a request ID, a span, metrics.
pub(crate) fn around(router: Router) -> Router {
    let worth = DefaultPredicate::new().and(SizeAbove::new(COMPRESSED_BYTES_MIN));
    router.layer(CompressionLayer::new().compress_when(worth)).layer(from_fn(observe))
}

/// Numbers the requests of this process.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// Gives a request its ID, follows it in a span, counts and measures it.
async fn observe(request: Request, next: Next) -> Response {
    let id = format!("{:08x}-{}", std::process::id(), REQUESTS.fetch_add(1, Ordering::Relaxed));
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => "none".to_owned(),
    };
    let method = method_label(request.method());
    // Of the highest level, so that whatever is logged inside carries the ID.
    let span = tracing::error_span!(
        "request", request.id = %id, http.method = method, http.route = %route,
    );
    let begin = Instant::now();
    let in_flight = InFlight::new(&route);
    let mut response = next.run(request).instrument(span.clone()).await;
    drop(in_flight);
    let duration = begin.elapsed();
    let status = response.status().as_u16();
    metrics::counter!(
        "http_requests_total",
        "route" => route.clone(), "method" => method, "status" => status.to_string(),
    )
    .increment(1);
    metrics::histogram!("http_request_seconds", "route" => route).record(duration.as_secs_f64());
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    span.in_scope(|| tracing::debug!(http.status = status, duration_ms, "answered"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// A method as a label of metrics: whatever clients invent is one.
fn method_label(method: &http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "HEAD" => "HEAD",
        _ => "other",
    }
}

/// Counts a request while it is being answered, however that ends.
struct InFlight(metrics::Gauge);

impl InFlight {
    fn new(route: &str) -> Self {
        let gauge = metrics::gauge!("http_requests_in_flight", "route" => route.to_owned());
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

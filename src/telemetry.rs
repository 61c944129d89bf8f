//! Logs and metrics.

use std::{
    io::IsTerminal as _,
    sync::{Arc, OnceLock},
};

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rooms::{LOG_TOPIC, RoomsLogRow};
use store::Store;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// How long requests take, in seconds: the bounds of the histogram's buckets.
const REQUEST_SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How long commits take, in seconds: the bounds of the histogram's buckets.
const COMMIT_SECONDS: [f64; 10] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1.0];

/// How many batches share one write to the disk: the bounds of the histogram's buckets.
const BATCHES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

/// Reads a filter of the log.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_filter(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| error.to_string())
}

/// Sends the log to standard error as the configuration says. `RUST_LOG` in the environment comes
/// before its filter.
pub(crate) fn start_log(config: &LogConfig) {
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|filter| parse_filter(&filter).ok())
        .or_else(|| parse_filter(&config.filter).ok())
        .unwrap_or_else(|| EnvFilter::new("info,ruma_state_res=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Fails where a log was started before; that one goes on.
    let _ = match config.format {
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => {
            // All spans, so that the request's ID is in every line, however deep it is written.
            builder.json().flatten_event(true).with_current_span(false).try_init()
        }
    };
}

/// The metrics of this process, gathered from the first call on.
pub(crate) fn metrics() -> PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(gather).clone()
}

fn gather() -> PrometheusHandle {
    use metrics_exporter_prometheus::Matcher;
    let mut builder = PrometheusBuilder::new();
    let buckets: [(&str, &[f64]); 3] = [
        ("http_request_seconds", &REQUEST_SECONDS),
        ("store_commit_seconds", &COMMIT_SECONDS),
        ("store_batches_per_sync", &BATCHES),
    ];
    for (name, bounds) in buckets {
        let matcher = Matcher::Full(name.to_owned());
        builder = match builder.set_buckets_for_metric(matcher, bounds) {
            Ok(builder) => builder,
            Err(_) => PrometheusBuilder::new(),
        };
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    // Fails where this process has a recorder already; ours then stays empty.
    let _ = metrics::set_global_recorder(recorder);
    describe_counter!("http_requests_total", "Requests by route, method and status.");
    describe_histogram!(
        "http_request_seconds",
        Unit::Seconds,
        "Time from a request to the head of its answer."
    );
    describe_gauge!("http_requests_in_flight", "Requests that are being answered, by route.");
    describe_gauge!("http_connections", "Open connections.");
    describe_gauge!("syncs_waiting", "Clients that wait for news.");
    describe_counter!("store_commits_total", "Commits of the store by result.");
    describe_histogram!("store_commit_seconds", Unit::Seconds, "Time until a commit is durable.");
    describe_histogram!("store_batches_per_sync", "Batches that share one write to the disk.");
    describe_counter!("store_reads_from_disk_total", "Reads that the memory could not answer.");
    describe_counter!("room_events_total", "Events added to rooms.");
    handle
}

/// Counts the events that are added to rooms, until it is stopped.
pub(crate) async fn count_events(store: Store, stop: CancellationToken) {
    let events = metrics::counter!("room_events_total");
    let mut tail = store.tail(store.position());
    loop {
        let rows = tokio::select! {
            rows = tail.next() => rows,
            () = stop.cancelled() => return,
        };
        let Ok(rows) = rows else { return };
        let is_event = |row: &&store::LogEntry| {
            row.topic == LOG_TOPIC
                && matches!(RoomsLogRow::decode(&row.payload), Ok(RoomsLogRow::Event { .. }))
        };
        events.increment(rows.iter().filter(is_event).count() as u64);
    }
}

/// Keeps the memory of the metrics bounded, until it is stopped.
pub(crate) async fn tend_metrics(handle: PrometheusHandle, stop: CancellationToken) {
    let handle = Arc::new(handle);
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
        handle.run_upkeep();
    }
}

/// Time between two upkeeps of the metrics.
const UPKEEP: std::time::Duration = std::time::Duration::from_secs(5);

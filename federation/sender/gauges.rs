//! Metrics of what waits.

use std::{sync::Arc, time::Duration};

use super::Shared;

/// How often the queues are counted.
const INTERVAL: Duration = Duration::from_secs(5);

/// Counts, again and again, what waits to be sent.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (events, edus, resting) = shared.destinations.count();
        metrics::gauge!("federation_events_waiting").set(events as f64);
        metrics::gauge!("federation_edus_waiting").set(edus as f64);
        metrics::gauge!("federation_destinations_in_backoff").set(resting as f64);
    }
}

//! The task of one server: sends what waits, one transaction after the other.

use std::{sync::Arc, time::Instant};

use ruma::OwnedServerName;
use tokio::sync::SemaphorePermit;

use super::{DeliverError, Shared, destinations::Next, transaction::Open};

/// Sends until nothing waits any more, or a transaction does not come through. The server must have
/// been marked as running.
pub(super) async fn run(shared: Arc<Shared>, server: OwnedServerName) {
    loop {
        // Taken anew for each transaction, and given in the order of asking, so that a server with
        // a long queue waits as long as any other.
        let Some(permit) = permit(&shared, &server).await else { return };
        if !shared.destinations.begin(&server) {
            return;
        }
        let open = match shared.next_transaction(&server).await {
            Ok(Some(open)) => open,
            Ok(None) => match shared.destinations.rest(&server) {
                Next::Again => continue,
                Next::Rest => return,
            },
            Err(error) => {
                tracing::error!(%error, destination = %server, "a transaction cannot be made");
                shared.note_failure(&server, None, None).await;
                return;
            }
        };
        let Some(result) = deliver(&shared, &server, &open).await else { return };
        drop(permit);
        match result {
            Ok(()) => {
                if let Err(error) = shared.note_success(&server, &open).await {
                    tracing::error!(%error, destination = %server, "the queue cannot be moved on");
                    shared.note_failure(&server, None, None).await;
                    return;
                }
                // Whoever is about to ask for the permit comes first.
                tokio::task::yield_now().await;
            }
            Err(DeliverError::Denied(why)) => {
                tracing::info!(destination = %server, %why, "what waited for a server is dropped");
                shared.drop_queue(&server).await;
                return;
            }
            Err(DeliverError::Failed { why, retry_after_ms }) => {
                tracing::debug!(destination = %server, %why, "a transaction did not come through");
                shared.note_failure(&server, retry_after_ms, Some(open)).await;
                return;
            }
        }
    }
}

/// The right to have a transaction under way; `None` when we stop.
async fn permit<'a>(shared: &'a Shared, server: &OwnedServerName) -> Option<SemaphorePermit<'a>> {
    let is_well = shared.destinations.with(server, |destination| destination.is_well());
    // Servers that hang until the time is over must not keep others waiting.
    let permits = if is_well.unwrap_or(true) { &shared.permits } else { &shared.probes };
    shared.closing.run_until_cancelled(permits.acquire()).await?.ok()
}

/// Sends a transaction; `None` when we stop meanwhile.
async fn deliver(
    shared: &Shared,
    server: &OwnedServerName,
    open: &Open,
) -> Option<Result<(), DeliverError>> {
    let begin = Instant::now();
    let transaction = &open.transaction;
    metrics::gauge!("federation_transactions_under_way").increment(1);
    let deliver = shared.deliver.deliver(server, transaction);
    let result = shared.closing.run_until_cancelled(deliver).await;
    metrics::gauge!("federation_transactions_under_way").decrement(1);
    let name = match &result {
        Some(Ok(())) => "sent",
        Some(Err(_)) => "failed",
        None => return None,
    };
    metrics::counter!("federation_transactions_total", "result" => name).increment(1);
    metrics::histogram!("federation_transaction_seconds").record(begin.elapsed().as_secs_f64());
    if matches!(result, Some(Ok(()))) {
        let (pdus, edus) = (transaction.pdus.len() as u64, transaction.edus.len() as u64);
        metrics::counter!("federation_pdus_sent_total").increment(pdus);
        metrics::counter!("federation_edus_sent_total").increment(edus);
    }
    result
}

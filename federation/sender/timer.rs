//! Tries servers again when their time has come.

use std::{future, sync::Arc, time::Duration};

use super::Shared;

/// How many servers are tried again at a time; those whose time has come too follow at once.
const SERVERS_AT_ONCE: usize = 256;

/// Sleeps until the next server is due, again and again.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        let sooner = shared.sooner.notified();
        let now_ms = shared.now_ms();
        let (due, next_ms) = shared.destinations.take_due(now_ms, SERVERS_AT_ONCE);
        for server in due {
            shared.start_run(server);
        }
        let sleep = async {
            match next_ms {
                Some(next_ms) => {
                    let wait_ms = next_ms.saturating_sub(now_ms);
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                }
                None => future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = sooner => {}
        }
    }
}

//! Taking turns: what one server wants is done one by one, and what it cannot wait for is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{OwnedServerName, ServerName};
use tokio::sync::OwnedMutexGuard;

use crate::inbound::error::{Refusal, Result};

/// How many requests of one server may wait for their turn.
const WAITING_MAX: usize = 8;

/// When a server that asks too much may come again, in milliseconds.
const RETRY_AFTER_MS: u64 = 2_000;

/// The turns of all servers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    servers: Arc<Mutex<HashMap<OwnedServerName, Arc<Line>>>>,
}

/// Those of one server who wait, or have their turn.
type Line = tokio::sync::Mutex<()>;

/// The right to be served now.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    server: OwnedServerName,
    held: Option<OwnedMutexGuard<()>>,
    /// Counts as one who waits or has their turn, for as long as it lives.
    place: Option<Arc<Line>>,
}

impl Turns {
    /// Waits for the turn of a server's request.
    ///
    /// # Errors
    /// 429 when too many of that server wait already.
    pub(crate) async fn take(&self, server: &ServerName) -> Result<Turn> {
        let line = {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            let line = servers.entry(server.to_owned()).or_default();
            // The map holds one reference, everybody in the line two while they wait.
            if Arc::strong_count(line) > 1 + 2 * WAITING_MAX {
                return Err(Refusal::limit_exceeded(RETRY_AFTER_MS));
            }
            Arc::clone(line)
        };
        let mut turn = Turn {
            turns: self.clone(),
            server: server.to_owned(),
            held: None,
            place: Some(Arc::clone(&line)),
        };
        turn.held = Some(line.lock_owned().await);
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        self.place = None;
        let mut servers = self.turns.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.get(&self.server).is_some_and(|line| Arc::strong_count(line) == 1) {
            servers.remove(&self.server);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[tokio::test]
    async fn one_server_is_served_one_by_one_and_others_at_once() {
        let turns = Turns::default();
        let (one, two) = (server_name!("one.test"), server_name!("two.test"));
        let first = turns.take(one).await.unwrap();
        let _other = turns.take(two).await.unwrap();
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take(one).await.map(drop).is_ok() })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(turns.take(one).await.is_err());
        drop(first);
        for task in waiting {
            assert!(task.await.unwrap());
        }
        drop(turns.take(one).await.unwrap());
        assert_eq!(turns.servers.lock().unwrap().len(), 1);
    }
}

//! What is known of each server: whether it answers, and how many requests it has to answer now.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use quick_cache::sync::Cache;
use ruma::{OwnedServerName, ServerName};
use tokio::sync::Semaphore;

/// How many servers are remembered.
const SERVERS_MAX: usize = 20_000;

/// Most requests to one server at a time; more wait.
const REQUESTS_MAX: usize = 32;

/// How long a server rests after its first failure.
const REST_MIN: Duration = Duration::from_secs(1);

/// Longest that a server rests.
const REST_MAX: Duration = Duration::from_secs(120);

/// All servers that were called lately.
#[derive(Debug)]
pub(crate) struct Destinations(Cache<OwnedServerName, Arc<Destination>>);

/// One server.
#[derive(Debug)]
pub(crate) struct Destination {
    health: Mutex<Health>,
    /// The right to ask it something.
    pub(crate) permits: Semaphore,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    failures: u32,
    rests_until_ms: u64,
}

impl Destinations {
    pub(crate) fn new() -> Self {
        Self(Cache::new(SERVERS_MAX))
    }

    /// What is known of a server.
    pub(crate) fn of(&self, server: &ServerName) -> Arc<Destination> {
        if let Some(known) = self.0.get(server) {
            return known;
        }
        let fresh = || {
            Arc::new(Destination {
                health: Mutex::default(),
                permits: Semaphore::new(REQUESTS_MAX),
            })
        };
        let made = self.0.get_or_insert_with(&server.to_owned(), || Ok::<_, ()>(fresh()));
        made.unwrap_or_else(|()| fresh())
    }
}

impl Destination {
    /// For how many more milliseconds the server rests after failures.
    pub(crate) fn rests_ms(&self, now_ms: u64) -> u64 {
        self.with_health(|health| health.rests_until_ms.saturating_sub(now_ms))
    }

    /// The server could not be reached.
    pub(crate) fn note_failure(&self, now_ms: u64) {
        self.with_health(|health| {
            let doubled = REST_MIN.saturating_mul(1 << health.failures.min(16));
            let rest_ms = u64::try_from(doubled.min(REST_MAX).as_millis()).unwrap_or(u64::MAX);
            health.failures = health.failures.saturating_add(1);
            health.rests_until_ms = now_ms.saturating_add(rest_ms);
        });
    }

    /// The server answered, or spoke to us.
    pub(crate) fn note_alive(&self) {
        self.with_health(|health| *health = Health::default());
    }

    fn with_health<T>(&self, work: impl FnOnce(&mut Health) -> T) -> T {
        work(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use ruma::server_name;

    use super::*;

    #[test]
    fn a_server_rests_longer_with_each_failure_and_not_at_all_once_it_is_there() {
        let all = Destinations::new();
        let server = all.of(server_name!("a.example"));
        assert_eq!(server.rests_ms(5), 0);
        let mut rests = Vec::new();
        for _ in 0..12 {
            server.note_failure(1_000);
            rests.push(all.of(server_name!("a.example")).rests_ms(1_000));
        }
        assert_eq!(rests[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(rests[11], 120_000);
        assert_eq!(server.rests_ms(200_000), 0);
        assert_eq!(all.of(server_name!("b.example")).rests_ms(1_000), 0);
        server.note_alive();
        assert_eq!(server.rests_ms(1_000), 0);
    }
}

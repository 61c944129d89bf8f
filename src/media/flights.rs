//! Doing the same work once for all who want it at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

/// How many entries are kept before the unused ones are looked for.
const SWEEP_LEN_MIN: usize = 256;

/// The work under way, by its name.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    flights: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Flights {
    /// Waits until nobody else does the work of a name. Whoever gets in looks first whether it has
    /// been done.
    pub(crate) async fn enter(&self, name: String) -> OwnedMutexGuard<()> {
        let flight = self.flight(name);
        flight.lock_owned().await
    }

    fn flight(&self, name: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&name).and_then(Weak::upgrade) {
            return flight;
        }
        if flights.len() >= SWEEP_LEN_MIN && flights.len() == flights.capacity() {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(name, Arc::downgrade(&flight));
        flight
    }
}

//! What happens here, on its way to the other servers.
//!
//! A follower of the log puts each event of ours into a durable queue for every server in its room;
//! one task per server with something to be told sends what waits there, oldest first, one
//! transaction after the other. A server that does not answer is tried again for ever, less and
//! less often, and waits without costing anything; one that was away for long gets the newest
//! events of each room instead of the whole queue. What is fleeting is kept in memory.

mod catch_up;
mod deliver;
mod destinations;
mod edus;
mod follow;
mod gauges;
mod greet;
mod load;
mod outcome;
mod partings;
mod presence;
mod run;
mod tables;
mod timer;
mod transaction;
mod typing;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
};

use clock::Clock;
use rooms::Rooms;
use ruma::{OwnedServerName, ServerName};
use store::Store;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use users::Users;

use self::destinations::{Destination, Destinations};

pub use self::{
    deliver::{Deliver, DeliverError},
    transaction::Transaction,
};

/// Settings of the [`Sender`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderConfig {
    /// Whether other servers are told who of our users is online.
    pub sends_presence: bool,
    /// Most transactions under way at the same time.
    pub transactions_max: usize,
    /// Most of them to servers that did not answer the last time, besides.
    pub probes_max: usize,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self { sends_presence: true, transactions_max: 256, probes_max: 32 }
    }
}

/// What a [`Sender`] works with.
#[derive(Clone, Debug)]
pub struct SenderParts {
    /// Where the log and the queues are.
    pub store: Store,
    /// What happens in rooms.
    pub rooms: Rooms,
    /// What happens to users.
    pub users: Users,
    /// Brings a transaction to a server.
    pub deliver: Arc<dyn Deliver>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Settings.
    pub config: SenderConfig,
}

/// Sends what happens here to the other servers. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// What all tasks of the sender share.
struct Shared {
    store: Store,
    rooms: Rooms,
    users: Users,
    deliver: Arc<dyn Deliver>,
    clock: Arc<dyn Clock>,
    config: SenderConfig,
    destinations: Destinations,
    /// The right to have a transaction under way.
    permits: Semaphore,
    /// The same for servers that did not answer the last time.
    probes: Semaphore,
    /// Told when a server has to be tried sooner than the timer expects.
    sooner: Notify,
    /// Names this run in the IDs of transactions, and counts them.
    begun_ms: u64,
    transactions: AtomicU64,
    closing: CancellationToken,
    tasks: TaskTracker,
}

impl fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Sender")
            .field("config", &self.shared.config)
            .finish_non_exhaustive()
    }
}

impl Sender {
    /// Starts to follow the log, and to send what was left when the program ended. Has to be called
    /// within a tokio runtime. On a store that never had a sender, it begins with what happens from
    /// now on.
    #[must_use]
    pub fn start(parts: SenderParts) -> Self {
        let SenderParts { store, rooms, users, deliver, clock, config } = parts;
        let shared = Arc::new(Shared {
            begun_ms: clock.now_ms(),
            store,
            rooms,
            users,
            deliver,
            clock,
            config,
            destinations: Destinations::default(),
            permits: Semaphore::new(config.transactions_max.max(1)),
            probes: Semaphore::new(config.probes_max.max(1)),
            sooner: Notify::new(),
            transactions: AtomicU64::new(0),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        // Whoever changes something from now on is heard.
        let typing = shared.rooms.typing_changes();
        let presence = shared.users.subscribe_presence();
        let begin = shared.store.position();
        let begun = Arc::clone(&shared);
        shared.spawn(async move {
            if !load::load(&begun).await {
                return;
            }
            begun.spawn(timer::run(Arc::clone(&begun)));
            follow::run(begun, begin).await;
        });
        shared.spawn(gauges::run(Arc::clone(&shared)));
        shared.spawn(typing::run(Arc::clone(&shared), typing));
        if config.sends_presence {
            shared.spawn(presence::run(Arc::clone(&shared), presence));
        }
        Self { shared }
    }

    /// Ends all tasks. A transaction under way is given up, and sent again after the next start.
    pub async fn stop(&self) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Takes note that a server speaks to us: what waits for it is sent now. Cheap where nothing
    /// waits.
    pub fn note_alive(&self, server: &ServerName) {
        let now_ms = self.shared.now_ms();
        if self.shared.destinations.note_alive(server, now_ms) {
            self.shared.start_run(server.to_owned());
        }
    }
}

impl Shared {
    fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Runs a task until it ends or we stop.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            let _ = closing.run_until_cancelled(task).await;
        });
    }

    /// Changes what is to be told to a server, and sends it as soon as that may be.
    fn touch(self: &Arc<Self>, server: &ServerName, change: impl FnOnce(&mut Destination)) {
        if self.destinations.touch(server, self.now_ms(), change) {
            self.start_run(server.to_owned());
        }
    }

    /// The same for what is of no use to a server that has been away for long.
    fn touch_if_near(self: &Arc<Self>, server: &ServerName, change: impl FnOnce(&mut Destination)) {
        let is_behind = self.destinations.with(server, |destination| destination.is_behind());
        if is_behind != Some(true) {
            self.touch(server, change);
        }
    }

    /// Starts the task of a server, which must have been marked as running.
    fn start_run(self: &Arc<Self>, server: OwnedServerName) {
        let shared = Arc::clone(self);
        // Not cut off when we stop: it looks for that itself, where it does no harm.
        self.tasks.spawn(run::run(shared, server));
    }
}

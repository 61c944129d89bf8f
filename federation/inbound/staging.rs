//! Events that wait for what they build upon: durable, in order, one worker for each server that
//! sent any and each room, so that nobody waits behind what another server sent.
//!
//! An event that fails for a reason that may pass goes into a second queue beside the first, so
//! that it does not hold up the others, and is tried again, less and less often. After many
//! attempts it is dropped: it comes back as a missing event of a later one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use event::{EventError, VerifiedPdu};
use rooms::{Received, Room, RoomNumber, Rooms, RoomsError};
use ruma::ServerName;
use store::{Batch, Json, Store, StoreError, outbox::Item};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Keyring,
    inbound::tables::{DELAYED, Line, STAGED, StagedEvent},
};

/// Most queues that are worked on at once.
const WORKING_MAX: usize = 64;

/// Most queues of one server that are worked on at once.
const WORKING_OF_SERVER_MAX: usize = 4;

/// Most events of one server that wait in one room.
pub(crate) const QUEUE_LEN_MAX: usize = 200;

/// How many waiting events are read at a time.
const PAGE_LEN: usize = 50;

/// Longest that one event may take, whatever it has to wait for.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(180);

/// Longest that one may take after many others of the same queue failed.
const RECEIVE_TIMEOUT_SHORTEST: Duration = Duration::from_secs(20);

/// How often an event is tried: for about an hour.
const ATTEMPTS_MAX: u32 = 64;

/// Wait before the second attempt; doubled before each further one.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between two attempts.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// How many queues are read at a time at the start.
const LINES_PAGE_LEN: usize = 500;

/// The waiting events of all servers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Staging {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    rooms: Rooms,
    keyring: Keyring,
    queues: Mutex<BTreeMap<Line, Queue>>,
    working: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A queue that has a worker.
#[derive(Debug)]
struct Queue {
    /// How often something was added since the worker began.
    additions: u64,
    /// How many events wait, about.
    waiting: usize,
    /// How many attempts failed since the last one that did not.
    failures: u32,
    /// Tells the worker that something was added.
    added: Arc<Notify>,
    /// What all queues of the server share, so that it cannot keep all workers busy.
    turns: Arc<Semaphore>,
}

/// What became of an attempt.
enum Attempt {
    /// The event needs no further one.
    Done,
    /// It may go better later.
    Failed,
}

impl Staging {
    /// Opens the queues, and goes on where the last run of the server ended.
    pub(crate) fn start(store: Store, rooms: Rooms, keyring: Keyring) -> Self {
        let inner = Inner {
            store,
            rooms,
            keyring,
            queues: Mutex::default(),
            working: Semaphore::new(WORKING_MAX),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        let staging = Self { inner: Arc::new(inner) };
        let resumed = staging.clone();
        staging.inner.tasks.spawn(async move {
            if let Err(error) = resumed.resume().await {
                tracing::error!(%error, "events that wait for others could not be read");
            }
        });
        staging
    }

    /// Lets all workers finish what they are at, or gives it up where that takes long. What waits
    /// stays in the store.
    pub(crate) async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Starts a worker for each queue.
    async fn resume(&self) -> Result<(), StoreError> {
        for queue in [STAGED, DELAYED] {
            let mut after: Option<Line> = None;
            while !self.inner.stop.is_cancelled() {
                let store = &self.inner.store;
                let mut lines = queue.destinations(store, after.as_ref(), LINES_PAGE_LEN).await?;
                for line in &lines {
                    let waiting = queue.peek(store, line, QUEUE_LEN_MAX).await?.len();
                    self.wake(line.clone(), waiting);
                }
                match lines.pop() {
                    Some(last) if lines.len() + 1 == LINES_PAGE_LEN => after = Some(last),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Whether events of a room from a server wait, so that its others have to wait behind them.
    pub(crate) fn has_queue(&self, room: RoomNumber, origin: &ServerName) -> bool {
        self.queues().contains_key(&line(room, origin))
    }

    /// How many events can still be added to a server's queue for a room.
    pub(crate) fn space(&self, room: RoomNumber, origin: &ServerName) -> usize {
        let waiting = self.queues().get(&line(room, origin)).map_or(0, |queue| queue.waiting);
        QUEUE_LEN_MAX.saturating_sub(waiting)
    }

    /// Adds events to the end of a server's queue for a room. They are durable when this returns.
    pub(crate) async fn add(
        &self,
        room: RoomNumber,
        origin: &ServerName,
        events: Vec<StagedEvent>,
    ) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let line = line(room, origin);
        let count = events.len();
        let mut batch = Batch::new();
        for event in events {
            STAGED.push(&mut batch, &line, &Json(event));
        }
        self.inner.store.commit(batch).await?;
        self.wake(line, count);
        Ok(())
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<Line, Queue>> {
        self.inner.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a queue's worker of new events; starts it where there is none.
    fn wake(&self, line: Line, count: usize) {
        let mut queues = self.queues();
        if let Some(queue) = queues.get_mut(&line) {
            queue.additions += 1;
            queue.waiting = queue.waiting.saturating_add(count);
            queue.added.notify_one();
            return;
        }
        if self.inner.tasks.is_closed() {
            return;
        }
        let others = queues.range((line.0.clone(), RoomNumber::new(0))..).next();
        let turns = match others.filter(|((server, _), _)| *server == line.0) {
            Some((_, other)) => Arc::clone(&other.turns),
            None => Arc::new(Semaphore::new(WORKING_OF_SERVER_MAX)),
        };
        let added = Arc::default();
        let queue = Queue { additions: 0, waiting: count, failures: 0, added, turns };
        queues.insert(line.clone(), queue);
        drop(queues);
        let staging = self.clone();
        self.inner.tasks.spawn(async move {
            let worked = staging.work(&line);
            if let Some(Err(error)) = staging.inner.stop.run_until_cancelled(worked).await {
                tracing::error!(%error, origin = %line.0, room = %line.1, "a queue is in trouble");
                staging.queues().remove(&line);
            }
        });
    }

    /// Works on a queue, and on what failed beside it, until both are empty.
    async fn work(&self, line: &Line) -> Result<(), StoreError> {
        let store = &self.inner.store;
        // When what failed is tried again: it stays so while other events come.
        let mut retry_at: Option<Instant> = None;
        let mut retries = VecDeque::new();
        loop {
            let (additions, added) = match self.queues().get(line) {
                Some(queue) => (queue.additions, Arc::clone(&queue.added)),
                None => return Ok(()),
            };
            let fresh = STAGED.peek(store, line, PAGE_LEN).await?;
            for item in &fresh {
                self.work_on(line, item).await?;
                // Neither do the new ones keep those that failed from their turn.
                if retry_at.is_some_and(|at| at <= Instant::now()) {
                    break;
                }
            }
            if let Some(item) = retries.pop_front() {
                self.work_on(line, &item).await?;
                continue;
            }
            let delayed = DELAYED.peek(store, line, 1).await?.pop();
            let at = delayed.map(|item| {
                *retry_at.get_or_insert_with(|| Instant::now() + wait_before(&item.value.0))
            });
            match at {
                Some(at) if at <= Instant::now() => {
                    retry_at = None;
                    retries = DELAYED.peek(store, line, PAGE_LEN).await?.into();
                }
                _ if !fresh.is_empty() => {}
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    // What has come may be what was missing.
                    () = added.notified() => {}
                },
                None if self.finish(line, additions) => return Ok(()),
                None => {}
            }
        }
    }

    /// Ends the work on a queue, unless something was added since it was seen empty.
    fn finish(&self, line: &Line, additions: u64) -> bool {
        let mut queues = self.queues();
        let unchanged = queues.get(line).is_none_or(|queue| queue.additions == additions);
        if unchanged {
            queues.remove(line);
        }
        unchanged
    }

    async fn work_on(&self, line: &Line, item: &Item<Json<StagedEvent>>) -> Result<(), StoreError> {
        let (failures, turns) = match self.queues().get(line) {
            Some(queue) => (queue.failures, Arc::clone(&queue.turns)),
            None => return Ok(()),
        };
        let attempt = {
            // Who waits for a turn among a server's queues takes no place from other servers.
            let Ok(_turn) = turns.acquire().await else { return Ok(()) };
            let Ok(_permit) = self.inner.working.acquire().await else { return Ok(()) };
            self.attempt(line.1, &item.value.0, patience(failures)).await
        };
        let mut batch = Batch::new();
        let staged = &item.value.0;
        let queue = if staged.attempts == 0 { STAGED } else { DELAYED };
        queue.remove(&mut batch, line, std::slice::from_ref(item));
        let attempts = staged.attempts.saturating_add(1);
        let again = matches!(attempt, Attempt::Failed) && attempts < ATTEMPTS_MAX;
        if again {
            DELAYED.push(&mut batch, line, &Json(StagedEvent { attempts, ..staged.clone() }));
        } else if matches!(attempt, Attempt::Failed) {
            tracing::warn!(
                event.id = %staged.event_id, origin = %staged.origin,
                "an event is dropped, since what it builds upon is not to be had"
            );
        }
        self.inner.store.commit(batch).await?;
        if let Some(queue) = self.queues().get_mut(line) {
            queue.failures = match attempt {
                Attempt::Done => 0,
                Attempt::Failed => queue.failures.saturating_add(1),
            };
            queue.waiting = queue.waiting.saturating_sub(usize::from(!again));
        }
        Ok(())
    }

    /// Tries to receive a waiting event.
    async fn attempt(&self, room: RoomNumber, staged: &StagedEvent, patience: Duration) -> Attempt {
        let StagedEvent { origin, event_id, json, .. } = staged;
        let room = match self.inner.rooms.room_by_number(room).await {
            Ok(room) => room,
            Err(error @ (RoomsError::Store(_) | RoomsError::Stopping)) => {
                tracing::warn!(%error, event.id = %event_id, "a waiting event's room is not read");
                return Attempt::Failed;
            }
            Err(error) => {
                tracing::warn!(%error, event.id = %event_id, "the room of a waiting event is gone");
                return Attempt::Done;
            }
        };
        let event = match self.verified(&room, json.clone()).await {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!(%error, event.id = %event_id, "a waiting event does not verify");
                // It did verify when it came: it may be that a key cannot be had just now.
                let may_pass = matches!(error, EventError::Unverified(_));
                return if may_pass { Attempt::Failed } else { Attempt::Done };
            }
        };
        match timeout(patience, self.inner.rooms.receive(origin, event)).await {
            Ok(Ok(received)) => {
                log_received(&room, staged, &received);
                Attempt::Done
            }
            Ok(Err(error)) => {
                tracing::info!(%error, event.id = %event_id, %origin, "an event waits on");
                Attempt::Failed
            }
            Err(_) => {
                tracing::warn!(event.id = %event_id, %origin, "receiving an event took too long");
                Attempt::Failed
            }
        }
    }

    /// The event with the proof that it is verified, which is not stored.
    async fn verified(
        &self,
        room: &Room,
        json: Box<serde_json::value::RawValue>,
    ) -> Result<VerifiedPdu, EventError> {
        self.inner.keyring.verify(json, &room.rules).await
    }
}

fn line(room: RoomNumber, origin: &ServerName) -> Line {
    (origin.to_string(), room)
}

/// How long an event that failed waits for its next attempt.
fn wait_before(staged: &StagedEvent) -> Duration {
    let doublings = staged.attempts.saturating_sub(1).min(8);
    (RETRY_FIRST * 2_u32.pow(doublings)).min(RETRY_LONGEST)
}

/// How long the next attempt may take: the less, the more of them failed.
fn patience(failures: u32) -> Duration {
    (RECEIVE_TIMEOUT / failures.saturating_add(1)).max(RECEIVE_TIMEOUT_SHORTEST)
}

fn log_received(room: &Room, staged: &StagedEvent, received: &Received) {
    let StagedEvent { origin, event_id, .. } = staged;
    let room_id = &room.room_id;
    match received {
        Received::Rejected { why } | Received::SoftFailed { why } => {
            tracing::info!(event.id = %event_id, room.id = %room_id, %origin, %why, "refused");
        }
        Received::Known | Received::Accepted | Received::NotOurs => {
            tracing::debug!(event.id = %event_id, room.id = %room_id, %origin, "received an event");
        }
    }
}

//! Group commit: one thread writes whatever batches wait, all with one sync.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Instant,
};

use rocksdb::{WriteBatch, WriteOptions};
use tokio::sync::oneshot;

use super::{
    files::{At, Database, Tier},
    queue::{Queue, Request},
};
use crate::{Batch, Expectation, LogEntry, Position, Recent, Row, StoreError, tables::NEWEST};

/// Most bytes written with one sync, except where one batch alone is larger.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The thread that commits, and the way to it.
pub(super) struct Committer {
    queue: Arc<Queue>,
    thread: Mutex<Option<Thread>>,
    database: Arc<Database>,
}

/// The thread that commits, while it runs.
pub(super) struct Thread(JoinHandle<()>);

impl Thread {
    /// Waits until everything that waited is written.
    pub(super) fn wait(self) -> Result<(), StoreError> {
        self.0
            .join()
            .map_err(|_| StoreError::Engine { reason: "the committer panicked".to_owned() })
    }
}

impl Committer {
    /// Starts the thread.
    pub(super) fn start(
        database: Arc<Database>,
        recent: Arc<Recent>,
        sync_writes: bool,
    ) -> Result<Self, StoreError> {
        let queue = Arc::<Queue>::default();
        let mut options = WriteOptions::new();
        options.set_sync(sync_writes);
        let newest = recent.position();
        let mut work = Work { database: Arc::clone(&database), recent, options, newest };
        let ending = Ending { database: Arc::clone(&database), queue: Arc::clone(&queue) };
        let thread = thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || work.run(&ending.queue))
            .map_err(|error| StoreError::Engine { reason: error.to_string() })?;
        Ok(Self { queue, thread: Mutex::new(Some(Thread(thread))), database })
    }

    /// Hands a batch to the thread and waits for its answer.
    pub(super) async fn commit(&self, batch: Batch) -> Result<Position, StoreError> {
        let _place = self.queue.place().await?;
        let (answer, answered) = oneshot::channel();
        self.queue.push(Request { batch, answer })?;
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(self.database.poison().fail("the thread that commits has ended")),
        }
    }

    /// Takes no more batches, and returns the thread while it finishes the others.
    pub(super) fn stop(&self) -> Option<Thread> {
        self.queue.close();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if let Some(thread) = self.stop() {
            // Its files must be free again when the engine is gone. A panic was reported already.
            thread.wait().ok();
        }
    }
}

impl fmt::Debug for Committer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Committer").finish_non_exhaustive()
    }
}

/// Lets nobody wait for a thread that is gone, whatever ended it.
struct Ending {
    database: Arc<Database>,
    queue: Arc<Queue>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if thread::panicking() {
            self.database.poison().fail("the thread that commits has panicked");
        }
        self.queue.abandon();
    }
}

/// What the thread has.
struct Work {
    database: Arc<Database>,
    recent: Arc<Recent>,
    options: WriteOptions,
    newest: Position,
}

impl Work {
    /// Writes what waits until no more can come.
    fn run(&mut self, queue: &Queue) {
        while let Some(waiting) = queue.take() {
            let answered = waiting.len();
            let begin = Instant::now();
            for group in groups(waiting) {
                self.write(group);
            }
            queue.answered(answered, begin.elapsed());
        }
    }

    /// Writes a group of batches with one sync, and answers all.
    fn write(&mut self, group: Vec<Request>) {
        let mut pending = Pending::of(&group);
        let bytes = group.iter().map(|request| request.batch.bytes()).sum::<usize>();
        let mut rows = WriteBatch::with_capacity_bytes(bytes.saturating_add(bytes / 4 + 64));
        let mut newest = self.newest;
        let mut entries = Vec::new();
        let mut answers = Vec::with_capacity(group.len());
        for Request { batch, answer } in group {
            let result = self.add(batch, newest.next(), &mut pending, &mut rows, &mut entries);
            if result.is_ok() {
                newest = newest.next();
            }
            answers.push((answer, result));
        }
        let size = newest.get().saturating_sub(self.newest.get());
        if size > 0 {
            match self.make_durable(rows, newest) {
                Ok(()) => {
                    self.newest = newest;
                    self.recent.publish(newest, entries);
                    #[expect(clippy::cast_precision_loss, reason = "a metric, at most 1,024")]
                    metrics::histogram!("store_batches_per_sync").record(size as f64);
                }
                Err(error) => {
                    for (_, result) in &mut answers {
                        *result = Err(error.clone());
                    }
                }
            }
        }
        for (answer, result) in answers {
            // The caller may have gone away; the batch is written all the same.
            answer.send(result).ok();
        }
    }

    /// Checks a batch and adds its rows to what is written.
    fn add(
        &self,
        batch: Batch,
        position: Position,
        pending: &mut Pending,
        rows: &mut WriteBatch,
        entries: &mut Vec<LogEntry>,
    ) -> Result<Position, StoreError> {
        for expected in batch.expectations() {
            if !self.holds(expected, pending)? {
                return Err(StoreError::Conflict { table: expected.table });
            }
        }
        let (changes, log) = batch.resolve(position);
        for change in changes {
            // Half of the batch's rows may be among the others already.
            let family = self
                .database
                .family(change.family)
                .map_err(|error| self.database.poison().fail(error.to_string()))?;
            match &change.value {
                Some(value) => rows.put_cf(family, &change.key, value),
                None => rows.delete_cf(family, &change.key),
            }
            pending.note(change);
        }
        entries.extend(log);
        Ok(position)
    }

    /// Tells whether a row holds what is expected, counting what the group has written before.
    fn holds(&self, expected: &Expectation, pending: &Pending) -> Result<bool, StoreError> {
        if let Some(written) = pending.written(&expected.key) {
            return Ok(written == expected.value.as_deref());
        }
        let found = self.database.get(At::Now, Tier::Disk, expected.family, &expected.key)?;
        Ok(found.as_deref() == expected.value.as_deref())
    }

    /// Writes the rows and the new position; on the disk when this returns.
    fn make_durable(&self, mut rows: WriteBatch, newest: Position) -> Result<(), StoreError> {
        let key = NEWEST.key(&()).into_bytes()?;
        rows.put_cf(self.database.family(NEWEST.family())?, key, newest.get().to_be_bytes());
        self.database.write(rows, &self.options)
    }
}

/// What a group has written, of the rows that some batch in it expects something of.
/// A key begins with its table's number, so it needs no family here.
struct Pending(HashMap<Vec<u8>, Option<Option<Vec<u8>>>>);

impl Pending {
    /// Begins with nothing written.
    fn of(group: &[Request]) -> Self {
        let expected = group.iter().flat_map(|request| request.batch.expectations());
        Self(expected.map(|expected| (expected.key.clone(), None)).collect())
    }

    /// Remembers a change, if it matters.
    fn note(&mut self, change: Row) {
        if self.0.is_empty() {
            return;
        }
        if let Some(written) = self.0.get_mut(&change.key) {
            *written = Some(change.value);
        }
    }

    /// Returns what the group has written: `Some(None)` where it deleted the row.
    fn written(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.0.get(key)?.as_ref().map(Option::as_deref)
    }
}

/// Parts what waits so that no group is too large.
fn groups(waiting: Vec<Request>) -> Vec<Vec<Request>> {
    let mut groups: Vec<Vec<Request>> = Vec::new();
    let mut bytes = 0_usize;
    for request in waiting {
        bytes = bytes.saturating_add(request.batch.bytes());
        match groups.last_mut() {
            Some(group) if bytes <= GROUP_BYTES_MAX => group.push(request),
            _ => {
                bytes = request.batch.bytes();
                groups.push(vec![request]);
            }
        }
    }
    groups
}

//! The newest commits, in memory.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{LogEntry, Position, tables::LogPlace};

/// Most log rows kept in memory.
const ROWS_MAX: usize = 16_384;
/// Most bytes of log rows kept in memory.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The newest log rows, and the position up to which everything can be read.
///
/// An engine publishes here what it has written, in order; this is how commits become visible.
#[derive(Debug)]
pub struct Recent {
    ring: Mutex<Ring>,
    position: AtomicU64,
    watch: watch::Sender<Position>,
}

/// Segments that follow each other; no log row is between them.
#[derive(Debug)]
struct Ring {
    /// Position after which every log row is here.
    base: Position,
    segments: VecDeque<Segment>,
    rows: usize,
    bytes: usize,
}

/// All log rows of some commits in a row, at least one.
#[derive(Debug)]
struct Segment {
    /// Position of the last row.
    last: Position,
    rows: Arc<[LogEntry]>,
    bytes: usize,
}

impl Recent {
    /// Begins with nothing in memory, after the newest commit that the engine found.
    #[must_use]
    pub fn new(newest: Position) -> Self {
        Self {
            ring: Mutex::new(Ring { base: newest, segments: VecDeque::new(), rows: 0, bytes: 0 }),
            position: AtomicU64::new(newest.get()),
            watch: watch::Sender::new(newest),
        }
    }

    /// Makes commits visible: all up to and including `newest`, whose log rows are these.
    /// They can be read already. Calls come one after the other.
    pub fn publish(&self, newest: Position, rows: Vec<LogEntry>) {
        let mut ring = self.lock();
        ring.push(rows);
        self.position.store(newest.get(), Ordering::Release);
        self.watch.send_replace(newest);
    }

    /// Returns the position up to which everything can be read.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Acquire))
    }

    /// Returns a channel that holds [`Recent::position`].
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Position> {
        self.watch.subscribe()
    }

    /// Returns rows that follow a place, none where there is none; `None` where memory does not
    /// reach back so far.
    pub(crate) fn after(&self, place: LogPlace) -> Option<Arc<[LogEntry]>> {
        let ring = self.lock();
        let mut parts = ring.parts(place)?;
        Some(parts.next().map_or_else(
            || Arc::from([]),
            |(segment, rows)| {
                if rows.len() == segment.rows.len() {
                    Arc::clone(&segment.rows)
                } else {
                    Arc::from(rows)
                }
            },
        ))
    }

    /// Returns up to `limit` rows that follow a place; `None` where memory does not reach back so
    /// far.
    pub(crate) fn read(&self, place: LogPlace, limit: usize) -> Option<Vec<LogEntry>> {
        let ring = self.lock();
        let rows = ring.parts(place)?.flat_map(|(_, rows)| rows).take(limit);
        Some(rows.cloned().collect())
    }

    /// Locks the ring. No code that holds it can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    /// Adds commits and forgets the oldest beyond the bounds.
    fn push(&mut self, rows: Vec<LogEntry>) {
        let Some(last) = rows.last().map(|row| row.position) else { return };
        let bytes = rows.iter().map(|row| row.payload.len()).sum();
        self.rows += rows.len();
        self.bytes += bytes;
        self.segments.push_back(Segment { last, rows: rows.into(), bytes });
        while self.segments.len() > 1 && (self.rows > ROWS_MAX || self.bytes > BYTES_MAX) {
            if let Some(oldest) = self.segments.pop_front() {
                self.base = oldest.last;
                self.rows -= oldest.rows.len();
                self.bytes -= oldest.bytes;
            }
        }
    }

    /// Returns the rows after a place, by segment; `None` where they begin before the base.
    fn parts(&self, place: LogPlace) -> Option<impl Iterator<Item = (&Segment, &[LogEntry])>> {
        if place < LogPlace::after(self.base) {
            return None;
        }
        let first = self.segments.partition_point(|segment| segment.last < place.position);
        let parts = self.segments.range(first..).filter_map(move |segment| {
            let seen = segment.rows.partition_point(|row| row.place() <= place);
            segment.rows.get(seen..).filter(|rows| !rows.is_empty()).map(|rows| (segment, rows))
        });
        Some(parts)
    }
}

//! Rooms that we have joined without being told all of their members yet.
//!
//! Such a room can be read and written at once. The whole state is fetched behind, also after a
//! restart, and put in the place of what we had; until then the members that we lack are those that
//! an event's auth events name.
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv2send_joinroomideventid)

mod rebuild;
mod resync;

use std::{
    collections::HashMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::OwnedServerName;
use serde::{Deserialize, Serialize};
use store::{Json, Page, Position, Stamped};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    Rooms,
    error::Result,
    room::Room,
    tables::{EventNumber, PARTIAL, RoomNumber},
};

/// How long a reader waits for the members of a room that is not whole.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Most servers of a room that are remembered until its members are known.
pub(crate) const SERVERS_MAX: usize = 2_000;

/// How many rows are read at a time when we start.
const ROWS_PAGE_LEN: usize = 1_024;

/// A row of [`PARTIAL`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartialRow {
    /// Our join, before which the state is not known wholly.
    pub(crate) join: EventNumber,
    /// The servers in the room, the one that helped us first. Empty once the room is whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) servers: Vec<OwnedServerName>,
    /// Whether the whole state is known by now.
    pub(crate) whole: bool,
}

/// How much we know of the state of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// Members are missing.
    Partial,
    /// It is about to be whole, or has just become so.
    BecomingWhole,
    /// Whole, since this position.
    Whole(Position),
}

/// Which rooms are partial, in memory.
#[derive(Debug)]
pub(crate) struct Partials {
    rooms: Mutex<HashMap<RoomNumber, Extent>>,
    changes: watch::Sender<()>,
}

impl Default for Partials {
    fn default() -> Self {
        Self { rooms: Mutex::default(), changes: watch::channel(()).0 }
    }
}

impl Partials {
    fn rooms(&self) -> MutexGuard<'_, HashMap<RoomNumber, Extent>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, room: RoomNumber, extent: Extent) {
        self.rooms().insert(room, extent);
        self.changes.send_replace(());
    }

    /// Says that a room is about to be joined partially. To be called before the commit, so that
    /// nobody takes the room for whole.
    pub(crate) fn begin(&self, room: RoomNumber) {
        self.set(room, Extent::Partial);
    }

    /// Says that a room was joined with all of its state, or not at all.
    pub(crate) fn forget(&self, room: RoomNumber) {
        self.rooms().remove(&room);
        self.changes.send_replace(());
    }
}

impl Rooms {
    /// Whether members of a room are still missing from its state.
    #[must_use]
    pub fn is_partial(&self, room: RoomNumber) -> bool {
        let partials = self.inner.partials.rooms();
        matches!(partials.get(&room), Some(Extent::Partial | Extent::BecomingWhole))
    }

    /// Since when the whole state of a room is known; `None` while it is not. Who was told of the
    /// room before has to be told all of it again.
    #[must_use]
    pub fn whole_since(&self, room: RoomNumber) -> Option<Position> {
        match self.inner.partials.rooms().get(&room) {
            None => Some(Position::ZERO),
            Some(Extent::Whole(position)) => Some(*position),
            Some(Extent::BecomingWhole) => Some(Position::PENDING),
            Some(Extent::Partial) => None,
        }
    }

    /// Waits until a room is whole, though not for long.
    pub(crate) async fn wait_until_whole(&self, room: &Room) {
        let mut changes = self.inner.partials.changes.subscribe();
        let until = Instant::now() + WAIT_MAX;
        while self.is_partial(room.number) {
            let changed = changes.changed();
            let changed = self.inner.closing.run_until_cancelled(timeout_at(until, changed));
            if !matches!(changed.await, Some(Ok(Ok(())))) {
                return;
            }
        }
    }

    /// What is remembered of a room that is or was partial.
    pub(crate) async fn partial_row(&self, room: RoomNumber) -> Result<Option<PartialRow>> {
        Ok(self.store().get(&PARTIAL, &room).await?.map(|row| row.value.0))
    }

    /// Takes up the work on all partial rooms when we start.
    pub(crate) async fn resume_partials(&self) -> Result<()> {
        let mut range = PARTIAL.all();
        loop {
            let rows = self.store().scan(&PARTIAL, range, Page::first(ROWS_PAGE_LEN)).await?;
            let full = rows.len() == ROWS_PAGE_LEN;
            let last = rows.last().map(|(room, _)| *room);
            for (room, Stamped { position, value: Json(row) }) in rows {
                if row.whole {
                    self.inner.partials.set(room, Extent::Whole(position));
                } else {
                    self.inner.partials.begin(room);
                    self.complete_behind(room);
                }
            }
            match last {
                Some(last) if full => {
                    range = PARTIAL.between(Bound::Excluded(&last), Bound::<&()>::Unbounded);
                }
                _ => return Ok(()),
            }
        }
    }
}

//! Finding the event closest to a point in time.

use std::{ops::Bound, sync::Arc};

use ruma::{OwnedEventId, RoomId, UserId, api::Direction};
use store::Page;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    preview::SERVERS_ASKED_MAX,
    room::Room,
    stored_event::StoredEvent,
    tables::{EVENTS_BY_TIME, EventNumber, GAPS},
};

/// How many events are looked at for one that may be seen.
const LOOKS_MAX: usize = 500;

/// How many are looked at together.
const PAGE_LEN: usize = 50;

impl Rooms {
    /// The event closest to a time, in milliseconds since the Unix epoch, that a user may see: the
    /// first at or after it, or going backwards the last at or before it. Where we have none, or
    /// lack a part of the room's history, other servers in the room are asked.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event)
    ///
    /// # Errors
    /// - [`RoomsError::Forbidden`] when the user is not in the room.
    /// - [`RoomsError::NotFound`] when there is no such event.
    pub async fn event_near(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
        timestamp_ms: u64,
        direction: Direction,
    ) -> Result<(OwnedEventId, u64)> {
        let (room, _) = self.open_for(viewer, room_id).await?;
        let ours = self.event_near_here(viewer, &room, timestamp_ms, direction).await?;
        let Some(ours) = ours else {
            return self.event_near_elsewhere(&room, timestamp_ms, direction).await;
        };
        let hole = self.store().scan(&GAPS, GAPS.prefix(&room.number), Page::first(1)).await?;
        if hole.is_empty() {
            return Ok(ours);
        }
        // What is nearer may be in a hole of our timeline.
        let theirs = match self.event_near_elsewhere(&room, timestamp_ms, direction).await {
            Ok(theirs) => theirs,
            Err(RoomsError::NotFound { .. }) => return Ok(ours),
            Err(error) => return Err(error),
        };
        let is_nearer = match direction {
            Direction::Forward => (timestamp_ms..ours.1).contains(&theirs.1),
            Direction::Backward => theirs.1 <= timestamp_ms && theirs.1 > ours.1,
        };
        Ok(if is_nearer { theirs } else { ours })
    }

    async fn event_near_here(
        &self,
        viewer: &UserId,
        room: &Arc<Room>,
        timestamp_ms: u64,
        direction: Direction,
    ) -> Result<Option<(OwnedEventId, u64)>> {
        let mut looks = self.events_by_time(room, timestamp_ms, direction);
        while let Some(events) = looks.next(self).await? {
            let seen = self.serve(viewer, room, events).await?;
            let nearest = match direction {
                Direction::Forward => seen.first(),
                Direction::Backward => seen.last(),
            };
            if let Some(served) = nearest {
                return Ok(Some(named(&served.event)));
            }
        }
        Ok(None)
    }

    async fn event_near_elsewhere(
        &self,
        room: &Room,
        timestamp_ms: u64,
        direction: Direction,
    ) -> Result<(OwnedEventId, u64)> {
        let remote = &self.inner.config.remote;
        let users = self.joined_users(room).await?;
        let mut servers: Vec<_> = Vec::new();
        for user in users.iter().filter(|user| !self.is_local(user)) {
            let server = user.server_name().to_owned();
            if servers.len() < SERVERS_ASKED_MAX
                && !servers.contains(&server)
                && remote.is_reachable(&server)
            {
                servers.push(server);
            }
        }
        let backwards = direction == Direction::Backward;
        for server in servers {
            let room_id = &room.room_id;
            match remote.timestamp_to_event(&server, room_id, timestamp_ms, backwards).await {
                Ok(found) => return Ok(found),
                Err(error) => tracing::debug!(%error, %room_id, "no event by its time"),
            }
        }
        Err(RoomsError::NotFound { what: "event" })
    }

    /// Pages of events from a time on, nearest first; each page in the order of their times.
    pub(crate) fn events_by_time(
        &self,
        room: &Arc<Room>,
        timestamp_ms: u64,
        direction: Direction,
    ) -> ByTime {
        let from = match direction {
            Direction::Forward => (timestamp_ms, EventNumber::new(0)),
            Direction::Backward => (timestamp_ms, EventNumber::new(u64::MAX)),
        };
        ByTime { room: Arc::clone(room), from: Some(from), direction, looked_at: 0 }
    }
}

/// A walk through a room's events in the order of their times.
#[derive(Debug)]
pub(crate) struct ByTime {
    room: Arc<Room>,
    from: Option<(u64, EventNumber)>,
    direction: Direction,
    looked_at: usize,
}

impl ByTime {
    /// The next events; `None` where there are no more, or enough were looked at.
    pub(crate) async fn next(&mut self, rooms: &Rooms) -> Result<Option<Vec<Arc<StoredEvent>>>> {
        let Some((timestamp_ms, number)) = self.from.filter(|_| self.looked_at < LOOKS_MAX) else {
            return Ok(None);
        };
        let edge = (self.room.number, timestamp_ms, number);
        let all = self.room.number;
        let (range, page) = match self.direction {
            Direction::Forward => (
                EVENTS_BY_TIME.between(Bound::Excluded(&edge), Bound::Included(&all)),
                Page::first(PAGE_LEN),
            ),
            Direction::Backward => (
                EVENTS_BY_TIME.between(Bound::Included(&all), Bound::Excluded(&edge)),
                Page::last(PAGE_LEN),
            ),
        };
        let rows = rooms.store().scan(&EVENTS_BY_TIME, range, page).await?;
        self.looked_at += rows.len();
        let full = rows.len() == PAGE_LEN;
        self.from = rows.last().map(|((_, ts, number), ())| (*ts, *number)).filter(|_| full);
        if rows.is_empty() {
            return Ok(None);
        }
        let mut numbers: Vec<_> = rows.into_iter().map(|((_, _, number), ())| number).collect();
        if self.direction == Direction::Backward {
            numbers.reverse();
        }
        Ok(Some(rooms.events(&self.room, &numbers).await?))
    }
}

/// An event's ID and time.
fn named(event: &StoredEvent) -> (OwnedEventId, u64) {
    (event.pdu.event_id.clone(), event.pdu.origin_server_ts.0.into())
}

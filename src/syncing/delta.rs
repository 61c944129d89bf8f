//! What happened in one room between two points, for one viewer. The one builder behind every kind
//! of sync.
//!
//! All reads are bounded by the later point, so that events which arrive meanwhile wait for the
//! next response.

mod state;
mod window;

use std::sync::Arc;

use rooms::{Position, Room, Rooms, ServedEvent, StateRoot, Summary};
use ruma::UserId;

use crate::{error::Result, ignored::IgnoredUsers};

pub(crate) use self::{
    state::{StatePlace, StateWish},
    window::{Window, WindowWish, takes},
};

/// Which part of a room's history is asked for, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeltaWish<'a> {
    pub(crate) viewer: &'a UserId,
    /// Up to where the viewer has the room; `None` where they have nothing of it.
    pub(crate) since: Option<Position>,
    /// Up to where the delta goes.
    pub(crate) upto: Position,
    pub(crate) window: WindowWish<'a>,
    pub(crate) state: StateWish<'a>,
    pub(crate) ignored: &'a IgnoredUsers,
    /// Whether heroes and counts are of interest.
    pub(crate) summary: bool,
}

/// What happened in a room.
#[derive(Debug)]
pub(crate) struct RoomDelta {
    pub(crate) window: Window,
    /// State events, the oldest first.
    pub(crate) state: Vec<ServedEvent>,
    /// Heroes and counts, where they may have changed.
    pub(crate) summary: Option<Summary>,
}

impl RoomDelta {
    /// Whether nothing happened that the viewer would see.
    pub(crate) fn is_empty(&self) -> bool {
        self.window.events.is_empty()
            && !self.window.limited
            && self.state.is_empty()
            && self.summary.is_none()
    }
}

/// The states of a room around a delta.
#[derive(Clone, Copy, Debug)]
struct Roots {
    /// What the viewer has; `None`: nothing.
    since: Option<StateRoot>,
    /// Before the first event of the window.
    start: StateRoot,
    /// After the last event up to the end.
    end: StateRoot,
}

/// Builds the delta of a room whose viewer is a member of it. `None` where the room does not exist
/// yet.
pub(crate) async fn build(
    rooms: &Rooms,
    room: &Arc<Room>,
    wish: DeltaWish<'_>,
) -> Result<Option<RoomDelta>> {
    let Some(end) = rooms.state_at(room, wish.upto).await? else { return Ok(None) };
    let since = match wish.since {
        Some(since) => rooms.state_at(room, since).await?,
        None => None,
    };
    let mut window = window::load(rooms, room, &wish).await?;
    if wish.state.place == StatePlace::Start {
        window.drop_outdated(rooms, room, end).await?;
    }
    let start = window.state_before(rooms, room).await?.unwrap_or(end);
    let roots = Roots { since, start, end };
    let changes = state::Changes::between(rooms, room, since, end).await?;
    let summary = if wish.summary && changes.may_rename() {
        // As it is now: what changes after the delta comes with the next one.
        Some(rooms.summary(room, wish.viewer).await?)
    } else {
        None
    };
    let heroes = summary.as_ref().map_or(&[][..], |summary| &summary.heroes);
    let numbers = state::select(rooms, room, &wish, roots, &changes, &window, heroes).await?;
    let state = state::serve(rooms, room, &wish, &numbers).await?;
    Ok(Some(RoomDelta { window, state, summary }))
}

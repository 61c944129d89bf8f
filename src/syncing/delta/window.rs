//! The newest events of a room since a point: a window upon its timeline.

use std::{collections::HashSet, num::NonZeroUsize, sync::Arc};

use rooms::{EventNumber, PageToken, Position, Room, Rooms, ServedEvent, StateRoot, StoredEvent};
use ruma::{OwnedUserId, events::StateEventType};

use super::DeltaWish;
use crate::{
    error::Result,
    filter::{Candidate, EventFilter},
};

/// Most events that are looked at to fill a window.
const SCAN_MAX: usize = 2_000;

/// How a window is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowWish<'a> {
    /// Most events; `None`: none at all.
    pub(crate) limit: Option<NonZeroUsize>,
    pub(crate) filter: &'a EventFilter,
    /// An event that the viewer may see whatever the history visibility says: that of their
    /// leaving.
    pub(crate) always: Option<EventNumber>,
}

/// A run of events, with nothing but unwanted ones between them.
#[derive(Debug)]
pub(crate) struct Window {
    /// The events, the oldest first.
    pub(crate) events: Vec<ServedEvent>,
    /// Whether there are more of them after the point from which was asked.
    pub(crate) limited: bool,
    /// The place before the first event; the end, where there is none.
    pub(crate) before: PageToken,
}

impl Window {
    /// The room's state before the first event; `None` without events.
    pub(super) async fn state_before(
        &self,
        rooms: &Rooms,
        room: &Room,
    ) -> Result<Option<StateRoot>> {
        let Some(first) = self.events.first() else { return Ok(None) };
        let event = &first.event;
        if event.index > 0 {
            // In the midst of a commit of ours, whose events follow each other.
            return Ok(Some(event.state_before));
        }
        let before = Position::new(event.position.get().saturating_sub(1));
        Ok(Some(rooms.state_at(room, before).await?.unwrap_or(StateRoot::EMPTY)))
    }

    /// Drops the events up to the last state event that is not the newest of its key and whose
    /// successor is not part of the window: it is filtered out, or the viewer may not see it.
    /// What is told of the state comes before the window, and would be undone by such an event.
    pub(super) async fn drop_outdated(
        &mut self,
        rooms: &Rooms,
        room: &Room,
        end: StateRoot,
    ) -> Result<()> {
        let entries: Vec<(usize, (StateEventType, String))> = (self.events.iter().enumerate())
            .filter_map(|(index, event)| {
                let (kind, key) = event.event.pdu.state_entry()?;
                Some((index, (kind, key.to_owned())))
            })
            .collect();
        let keys: Vec<_> = entries.iter().map(|(_, key)| key.clone()).collect();
        let newest = rooms.state_numbers(room, end, &keys).await?;
        let in_window = self.numbers();
        let is_outside = |number: &Option<EventNumber>| {
            number.is_some_and(|number| !in_window.contains(&number))
        };
        let outdated = entries.iter().zip(&newest).rfind(|(_, newest)| is_outside(newest));
        if let Some(((index, _), _)) = outdated
            && let Some(last) = self.events.drain(..=*index).next_back()
        {
            self.limited = true;
            self.before = PageToken::after(&last.event);
        }
        Ok(())
    }

    /// The events by number.
    pub(super) fn numbers(&self) -> HashSet<EventNumber> {
        self.events.iter().map(|event| event.event.number).collect()
    }

    /// Who sent the events.
    pub(super) fn senders(&self) -> impl Iterator<Item = &OwnedUserId> {
        self.events.iter().map(|event| &event.event.pdu.sender)
    }
}

/// Loads the newest events that the viewer wants and may see.
pub(super) async fn load(rooms: &Rooms, room: &Arc<Room>, wish: &DeltaWish<'_>) -> Result<Window> {
    let after = wish.since.unwrap_or(Position::ZERO);
    let limit = wish.window.limit.map_or(0, NonZeroUsize::get);
    let end = PageToken::after_all(wish.upto);
    if !wish.window.filter.takes_some_of(&room.room_id) {
        return Ok(Window { events: Vec::new(), limited: false, before: end });
    }
    let mut scan = limit.saturating_add(1);
    loop {
        let newest = rooms.timeline(room, after, wish.upto, scan).await?;
        let exhausted = newest.len() < scan;
        let (mut events, hidden) = pick(rooms, room, wish, newest).await?;
        let overfull = events.len() > limit;
        if overfull || exhausted || scan >= SCAN_MAX {
            let excess = events.len().saturating_sub(limit);
            events.drain(..excess);
            // To one who is new, what they may not see looks like what did not fit.
            let limited = overfull || !exhausted || (wish.since.is_none() && hidden);
            let before = events.first().map_or(end, |first| PageToken::before(&first.event));
            return Ok(Window { events, limited, before });
        }
        scan = scan.saturating_mul(4).clamp(50, SCAN_MAX);
    }
}

/// Those events that the viewer wants and may see, the oldest first; and whether they may not see
/// some.
async fn pick(
    rooms: &Rooms,
    room: &Arc<Room>,
    wish: &DeltaWish<'_>,
    newest_first: Vec<Arc<StoredEvent>>,
) -> Result<(Vec<ServedEvent>, bool)> {
    let mut events = newest_first;
    events.reverse();
    let all = events.len();
    let always = wish.window.always;
    let forced = events.iter().find(|event| Some(event.number) == always).cloned();
    let mut served = rooms.serve(wish.viewer, room, events).await?;
    let hidden = served.len() < all;
    served.retain(|event| {
        takes(wish.window.filter, &event.event) && !wish.ignored.hides(&event.event)
    });
    if let Some(event) = forced
        && takes(wish.window.filter, &event)
        && served.iter().all(|other| other.event.number != event.number)
    {
        served.extend(rooms.serve_all(wish.viewer, room, vec![event]).await?);
    }
    Ok((served, hidden))
}

/// Whether a filter takes an event.
pub(crate) fn takes(filter: &EventFilter, event: &StoredEvent) -> bool {
    let kind = event.pdu.kind.to_string();
    filter.takes(Candidate {
        kind: &kind,
        sender: Some(&event.pdu.sender),
        content: &event.pdu.content,
    })
}

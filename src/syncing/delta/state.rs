//! Which state events a viewer needs, so that with the window's events their picture of the room is
//! right.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{EventNumber, Room, Rooms, ServedEvent, StateKeyEntry, StateRoot, StateSelect};
use ruma::{OwnedUserId, UserId, events::StateEventType};

use super::{DeltaWish, Roots, Window, window};
use crate::{
    error::Result,
    filter::{EventFilter, LazyMembers},
    sent_members::KnownMembers,
};

/// To which end of the window the state leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatePlace {
    /// Up to its start: the window's own state events come on top.
    Start,
    /// Up to its end: the window's own state events are included.
    End,
}

/// Which state is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StateWish<'a> {
    pub(crate) filter: &'a EventFilter,
    pub(crate) place: StatePlace,
    /// The whole state, also of what the viewer has.
    pub(crate) whole: bool,
    /// How member events are sent; `None`: all of them.
    pub(crate) lazy: Option<LazyMembers>,
    /// The member events that the viewer's device has.
    pub(crate) known: &'a KnownMembers,
}

/// What differs between what the viewer has and the end.
#[derive(Debug)]
pub(super) enum Changes {
    /// The viewer has nothing.
    All,
    /// The new event of each key that changed; `None` where there is none any more.
    Some(BTreeMap<StateKeyEntry, Option<EventNumber>>),
}

impl Changes {
    pub(super) async fn between(
        rooms: &Rooms,
        room: &Room,
        since: Option<StateRoot>,
        end: StateRoot,
    ) -> Result<Self> {
        Ok(match since {
            None => Self::All,
            Some(since) => Self::Some(diff(rooms, room, since, end).await?),
        })
    }

    /// Whether heroes or counts may differ.
    pub(super) fn may_rename(&self) -> bool {
        let matters = |kind: &StateEventType| {
            matches!(
                kind,
                StateEventType::RoomMember
                    | StateEventType::RoomName
                    | StateEventType::RoomCanonicalAlias
            )
        };
        match self {
            Self::All => true,
            Self::Some(changes) => changes.keys().any(|entry| matters(&entry.kind)),
        }
    }
}

async fn diff(
    rooms: &Rooms,
    room: &Room,
    from: StateRoot,
    to: StateRoot,
) -> Result<BTreeMap<StateKeyEntry, Option<EventNumber>>> {
    if from == to {
        return Ok(BTreeMap::new());
    }
    Ok(rooms.state_diff(room, Some(from), to).await?.into_iter().collect())
}

/// The numbers of the state events to be sent, in order.
pub(super) async fn select(
    rooms: &Rooms,
    room: &Room,
    wish: &DeltaWish<'_>,
    roots: Roots,
    changes: &Changes,
    window: &Window,
    heroes: &[OwnedUserId],
) -> Result<BTreeSet<EventNumber>> {
    if !wish.state.filter.takes_some_of(&room.room_id) {
        return Ok(BTreeSet::new());
    }
    let root = match wish.state.place {
        StatePlace::Start => roots.start,
        StatePlace::End => roots.end,
    };
    let in_window = window.numbers();
    let since = if wish.state.whole { None } else { roots.since };
    let mut numbers = match (changes, since) {
        (Changes::Some(changes), Some(since)) => {
            changed(rooms, room, wish.state.place, since, roots.start, changes, &in_window).await?
        }
        _ => everything(rooms, room, wish, roots, root, &in_window).await?,
    };
    if wish.state.lazy.is_some() {
        let mut users: BTreeSet<&UserId> = window.senders().map(AsRef::as_ref).collect();
        users.extend(heroes.iter().map(|hero| &**hero));
        if since.is_none() {
            users.insert(wish.viewer);
            wish.state.known.note_new_room(room.number);
        }
        let mut members = members(rooms, room, root, roots.end, &in_window, users).await?;
        // One who has nothing of the room may have thrown away what they once had.
        let is_new = since.is_none() || wish.state.lazy == Some(LazyMembers::Redundantly);
        members.retain(|member| is_new || !wish.state.known.has(room.number, *member));
        numbers.extend(members);
    }
    if wish.state.place == StatePlace::Start {
        numbers.retain(|number| !in_window.contains(number));
    }
    if wish.state.lazy.is_some() {
        note_members(rooms, room, wish, window, &numbers).await?;
    }
    Ok(numbers)
}

/// The whole state; without members where they are loaded lazily.
async fn everything(
    rooms: &Rooms,
    room: &Room,
    wish: &DeltaWish<'_>,
    roots: Roots,
    root: StateRoot,
    in_window: &std::collections::HashSet<EventNumber>,
) -> Result<BTreeSet<EventNumber>> {
    let is_lazy = wish.state.lazy.is_some();
    let select = if is_lazy { StateSelect::without_members() } else { StateSelect::All };
    let mut numbers: BTreeSet<EventNumber> =
        rooms.select_state(room, root, &select).await?.into_iter().collect();
    if wish.state.place == StatePlace::End {
        return Ok(numbers);
    }
    // What changes within the window's span without being part of it, since it is filtered out, is
    // told by the state.
    for (entry, event) in diff(rooms, room, roots.start, roots.end).await? {
        let is_left_out = is_lazy && entry.kind == StateEventType::RoomMember;
        match event {
            Some(event) if !in_window.contains(&event) && !is_left_out => {
                let key = [(entry.kind, entry.key)];
                let old = rooms.state_numbers(room, root, &key).await?;
                if let Some(old) = old.into_iter().flatten().next() {
                    numbers.remove(&old);
                }
                numbers.insert(event);
            }
            _ => {}
        }
    }
    Ok(numbers)
}

/// What changed since the viewer had the state.
async fn changed(
    rooms: &Rooms,
    room: &Room,
    place: StatePlace,
    since: StateRoot,
    start: StateRoot,
    changes: &BTreeMap<StateKeyEntry, Option<EventNumber>>,
    in_window: &std::collections::HashSet<EventNumber>,
) -> Result<BTreeSet<EventNumber>> {
    if place == StatePlace::End {
        return Ok(changes.values().flatten().copied().collect());
    }
    let gap = diff(rooms, room, since, start).await?;
    let mut numbers = BTreeSet::new();
    for (entry, event) in changes {
        match event {
            // The window leads to the newest event; the state tells what was before it.
            Some(event) if in_window.contains(event) => {
                numbers.extend(gap.get(entry).copied().flatten());
            }
            // It changed in the gap, or what changed it is filtered out.
            Some(event) => drop(numbers.insert(*event)),
            None => {}
        }
    }
    Ok(numbers)
}

/// The member events of some users: those at the end, except where the window leads to them from
/// those of the state that is told.
async fn members(
    rooms: &Rooms,
    room: &Room,
    root: StateRoot,
    end: StateRoot,
    in_window: &std::collections::HashSet<EventNumber>,
    users: BTreeSet<&UserId>,
) -> Result<Vec<EventNumber>> {
    let keys: Vec<_> = (users.into_iter())
        .map(|user| (StateEventType::RoomMember, user.as_str().to_owned()))
        .collect();
    let told = rooms.state_numbers(room, root, &keys).await?;
    if root == end {
        return Ok(told.into_iter().flatten().collect());
    }
    let newest = rooms.state_numbers(room, end, &keys).await?;
    let members = told.into_iter().zip(newest).filter_map(|(told, newest)| match newest {
        Some(newest) if !in_window.contains(&newest) => Some(newest),
        _ => told,
    });
    Ok(members.collect())
}

/// Takes note of the member events that the device gets.
async fn note_members(
    rooms: &Rooms,
    room: &Room,
    wish: &DeltaWish<'_>,
    window: &Window,
    numbers: &BTreeSet<EventNumber>,
) -> Result<()> {
    let numbers: Vec<EventNumber> = numbers.iter().copied().collect();
    let state = rooms.events(room, &numbers).await?;
    let in_window = window.events.iter().map(|event| &event.event);
    let members = (state.iter().chain(in_window))
        .filter(|event| matches!(event.pdu.state_entry(), Some((StateEventType::RoomMember, _))))
        .map(|event| event.number);
    wish.state.known.note(room.number, members);
    Ok(())
}

/// Loads the events and leaves out what the filter does not want.
pub(super) async fn serve(
    rooms: &Rooms,
    room: &std::sync::Arc<Room>,
    wish: &DeltaWish<'_>,
    numbers: &BTreeSet<EventNumber>,
) -> Result<Vec<ServedEvent>> {
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Vec<EventNumber> = numbers.iter().copied().collect();
    let mut events = rooms.events(room, &numbers).await?;
    events.retain(|event| window::takes(wish.state.filter, event));
    Ok(rooms.serve_all(wish.viewer, room, events).await?)
}

//! Resolution of the state where branches of a room's graph meet.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId,
    room_version_rules::RoomVersionRules,
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::{EventError, Pdu};

pub use ruma::state_res::StateMap;

/// Most states that are resolved at once: an event follows at most 20 others.
const STATES_MAX: usize = 64;

/// Resolves several states of one room into one.
///
/// `fetch` must find every event in the states and in their auth chains; what is needed of those
/// chains is walked here. Linear in the size of the chains.
/// [Spec](https://spec.matrix.org/v1.19/rooms/v2/#state-resolution)
///
/// # Errors
/// [`EventError::Unresolved`] when an event of a state cannot be fetched, there are more than 64
/// states, or the room is of version 1.
pub fn resolve(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<OwnedEventId>, EventError> {
    let version = rules
        .state_res
        .v2_rules()
        .ok_or_else(|| EventError::Unresolved("room version 1".to_owned()))?;
    if states.len() > STATES_MAX {
        return Err(EventError::Unresolved(format!("more than {STATES_MAX} states")));
    }
    let difference = auth_difference(states, &fetch)?;
    // ruma takes the auth chain of every state and uses their difference only. These have the
    // same difference, and what all chains share is never held.
    let chains = vec![difference, EventIdSet::new()];
    state_res::resolve(&rules.authorization, version, states, chains, &fetch, |conflicted| {
        Some(conflicted_subgraph(conflicted, &fetch))
    })
    .map_err(|error| EventError::Unresolved(error.to_string()))
}

/// The events that are in the auth chain of some of the states, and not of all.
fn auth_difference(
    states: &[StateMap<OwnedEventId>],
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<EventIdSet<OwnedEventId>, EventError> {
    // In which states an event is, and in whose auth chains: a bit for each state.
    let mut holders: HashMap<&OwnedEventId, u64> = HashMap::new();
    for (index, state) in states.iter().enumerate() {
        for id in state.values() {
            *holders.entry(id).or_default() |= 1 << index;
        }
    }
    let mut chains: HashMap<OwnedEventId, u64> = HashMap::new();
    let mut work = Vec::new();
    for (id, states) in holders {
        let event = fetch(id).ok_or_else(|| EventError::Unresolved(format!("{id} is missing")))?;
        work.extend(event.auth_events.iter().map(|id| (id.clone(), states)));
    }
    // Those of all states first, so that most are walked once.
    work.sort_by_key(|(_, states)| states.count_ones());
    while let Some((id, reached_by)) = work.pop() {
        let known = chains.entry(id.clone()).or_default();
        if *known | reached_by == *known {
            continue;
        }
        *known |= reached_by;
        let all = *known;
        if let Some(event) = fetch(&id) {
            work.extend(event.auth_events.iter().map(|id| (id.clone(), all)));
        }
    }
    let everyone = if states.len() == STATES_MAX { u64::MAX } else { (1 << states.len()) - 1 };
    Ok(chains.into_iter().filter(|(_, states)| *states != everyone).map(|(id, _)| id).collect())
}

/// Every event on a path of auth events from one conflicted event to another.
///
/// [Spec](https://spec.matrix.org/v1.19/rooms/v12/#state-resolution)
fn conflicted_subgraph(
    conflicted: &StateMap<Vec<OwnedEventId>>,
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> EventIdSet<OwnedEventId> {
    let ends: Vec<OwnedEventId> = conflicted.values().flatten().cloned().collect();
    // Down from all conflicted events, remembering the way back.
    let mut parents: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut seen: HashSet<OwnedEventId> = ends.iter().cloned().collect();
    let mut work = ends.clone();
    while let Some(id) = work.pop() {
        let Some(event) = fetch(&id) else { continue };
        for auth in &event.auth_events {
            parents.entry(auth.clone()).or_default().push(id.clone());
            if seen.insert(auth.clone()) {
                work.push(auth.clone());
            }
        }
    }
    // Up again from all conflicted events: what is met lies between two of them.
    let mut subgraph: HashSet<OwnedEventId> = ends.iter().cloned().collect();
    let mut work = ends;
    while let Some(id) = work.pop() {
        for parent in parents.remove(&id).unwrap_or_default() {
            if subgraph.insert(parent.clone()) {
                work.push(parent);
            }
        }
    }
    subgraph.into_iter().collect()
}

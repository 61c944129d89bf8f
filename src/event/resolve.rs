//! Resolution of the state where branches of a room's graph meet.

mod chains;
mod v1;

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{
    EventId, OwnedEventId,
    events::{StateEventType, TimelineEventType},
    room_version_rules::{RoomVersionRules, StateResolutionV2Rules},
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::{
    EventError, Pdu,
    defaults::{self, WithDefaults},
};

pub use ruma::state_res::StateMap;

/// Resolves several states of one room into one.
///
/// `fetch` must find every event in the states and, except in room version 1, in their auth chains;
/// what is needed of those chains is walked here. Linear in the size of the chains, with a bit for
/// each state and event. The result does not depend on the order of the states.
/// [Spec](https://spec.matrix.org/v1.19/rooms/v2/#state-resolution)
///
/// # Errors
/// [`EventError::Unresolved`] when an event of a state cannot be fetched, or events are in their
/// own
/// auth chain, as in room versions 1 and 2 they can be.
pub fn resolve(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<OwnedEventId>, EventError> {
    let Some(version) = rules.state_res.v2_rules() else {
        return v1::resolve(rules, states, fetch);
    };
    let difference = chains::auth_difference(states, &fetch)?;
    let subgraph = |conflicted: &_| conflicted_subgraph(conflicted, &fetch);
    resolve_v2(rules, version, states, difference, subgraph, &fetch)
}

/// What has to be known of the auth chains of states that are resolved.
#[derive(Clone, Debug, Default)]
pub struct Conflict {
    /// The auth difference: events that are in the auth chains of some of the states only.
    pub difference: HashSet<OwnedEventId>,
    /// The conflicted state subgraph: events between conflicted ones. Used from room version 12 on.
    pub subgraph: HashSet<OwnedEventId>,
}

/// As [`resolve`], for one who knows how the auth chains of the states differ.
///
/// The states may then be cut down to where they differ, and to what of the rest decides over the
/// events in question. `fetch` is asked for these events and those that decide over them.
///
/// # Errors
/// [`EventError::Unresolved`] when an event in question is malformed.
pub fn resolve_conflict(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    conflict: Conflict,
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<OwnedEventId>, EventError> {
    let Some(version) = rules.state_res.v2_rules() else {
        return v1::resolve(rules, states, fetch);
    };
    let Conflict { difference, subgraph } = conflict;
    let subgraph = |_: &_| subgraph.iter().cloned().collect();
    let difference = difference.into_iter().collect();
    resolve_v2(rules, version, states, difference, subgraph, &fetch)
}

fn resolve_v2(
    rules: &RoomVersionRules,
    version: &StateResolutionV2Rules,
    states: &[StateMap<OwnedEventId>],
    difference: EventIdSet<OwnedEventId>,
    subgraph: impl Fn(&StateMap<Vec<OwnedEventId>>) -> EventIdSet<OwnedEventId>,
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<OwnedEventId>, EventError> {
    let join_rules = defaults::join_rules(rules)?;
    let create = create_event(states, fetch);
    if create.is_none() && rules.event_format.allow_room_create_in_auth_events {
        return Err(EventError::Unresolved("the states have no create event".to_owned()));
    }
    let is_create = |pdu: &Pdu| pdu.kind == TimelineEventType::RoomCreate;
    let judged = |id: &EventId| {
        let found = if *id == *join_rules.event_id { Arc::clone(&join_rules) } else { fetch(id)? };
        let pdu = match &create {
            Some(create) if is_create(&found) => Arc::clone(create),
            _ => found,
        };
        let create =
            create.as_ref().filter(|_| rules.event_format.allow_room_create_in_auth_events);
        Some(WithDefaults { pdu, join_rules: &join_rules, create: create.map(|pdu| &**pdu) })
    };
    let mut states = Cow::Borrowed(states);
    if let Some(create) = &create {
        let key = create_key();
        if states.iter().any(|state| state.get(&key) != Some(&create.event_id)) {
            for state in states.to_mut() {
                state.insert(key.clone(), create.event_id.clone());
            }
        }
    }
    let lists_create = |id: &OwnedEventId| fetch(id).is_some_and(|pdu| is_create(&pdu));
    let difference = difference.into_iter().filter(|id| !lists_create(id)).collect();
    // ruma takes the auth chain of every state and uses their difference only. These have the
    // same difference, and what all chains share is never held.
    let chains = vec![difference, EventIdSet::new()];
    state_res::resolve(&rules.authorization, version, &*states, chains, judged, |conflicted| {
        Some(subgraph(conflicted))
    })
    .map_err(|error| EventError::Unresolved(error.to_string()))
}

/// The event that made the room.
///
/// There is one, unless the server that made the room lies: before room version 12 it can make
/// another. ruma takes the creators from whichever it meets first, which would leave the outcome to
/// chance; so all are taken for the one with the least ID, of which all states are.
fn create_event(
    states: &[StateMap<OwnedEventId>],
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Option<Arc<Pdu>> {
    let key = create_key();
    fetch(states.iter().filter_map(|state| state.get(&key)).min()?)
}

fn create_key() -> (StateEventType, String) {
    (StateEventType::RoomCreate, String::new())
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

//! State resolution as room version 1 has it.
//!
//! [Spec](https://spec.matrix.org/v1.19/rooms/v1/#state-resolution)

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use ruma::{EventId, OwnedEventId, events::StateEventType, room_version_rules::RoomVersionRules};
use serde::Deserialize;
use sha1::{Digest, Sha1};

use super::StateMap;
use crate::{EventError, Pdu, authorise_by_state};

/// A type and a state key.
type Key = (StateEventType, String);

/// The events whose conflicts are resolved first, since they decide over others, in this order.
const DECIDING: [StateEventType; 3] =
    [StateEventType::RoomPowerLevels, StateEventType::RoomJoinRules, StateEventType::RoomMember];

/// Resolves several states of a room into one.
///
/// The conflicts of one type are resolved independently, one for each state key: what is decided of
/// one member is not seen when another is looked at, so that the order makes no difference.
///
/// # Errors
/// [`EventError::Unresolved`] when a conflicting event cannot be fetched.
pub(super) fn resolve(
    rules: &RoomVersionRules,
    states: &[StateMap<OwnedEventId>],
    fetch: impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<StateMap<OwnedEventId>, EventError> {
    let mut values: HashMap<&Key, HashSet<&OwnedEventId>> = HashMap::new();
    for (key, id) in states.iter().flatten() {
        values.entry(key).or_default().insert(id);
    }
    // A key that some states lack is no conflict.
    let mut resolved = StateMap::new();
    let mut conflicts: HashMap<Key, Vec<Arc<Pdu>>> = HashMap::new();
    for (key, ids) in values {
        if ids.len() > 1 {
            conflicts.insert(key.clone(), ordered(ids, &fetch)?);
        } else if let Some(id) = ids.into_iter().next() {
            resolved.insert(key.clone(), id.clone());
        }
    }
    for kind in DECIDING {
        let decided: Vec<_> = conflicts
            .extract_if(|(other, _), _| *other == kind)
            .filter_map(|(key, events)| {
                let winner = last_of_line(rules, &key, &events, &resolved, &fetch)?;
                Some((key, winner))
            })
            .collect();
        resolved.extend(decided);
    }
    let others: Vec<_> = conflicts
        .into_iter()
        .filter_map(|(key, events)| {
            let allowed = |event: &&Arc<Pdu>| {
                let state = |kind: &StateEventType, key: &str| {
                    fetch(resolved.get(&(kind.clone(), key.to_owned()))?)
                };
                authorise_by_state(event, rules, state).is_ok()
            };
            // Newest first. Where none is allowed the oldest one stays: the specification names no
            // event for that case, the servers with such rooms take this one.
            let winner = events.iter().rev().find(allowed).or(events.first())?;
            Some((key, winner.event_id.clone()))
        })
        .collect();
    resolved.extend(others);
    Ok(resolved)
}

/// The last of a line of events, oldest first, in which each is allowed by the one before it and
/// what is resolved already. The first needs no permission.
fn last_of_line(
    rules: &RoomVersionRules,
    conflict: &Key,
    events: &[Arc<Pdu>],
    resolved: &StateMap<OwnedEventId>,
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Option<OwnedEventId> {
    let (first, rest) = events.split_first()?;
    let mut last = first;
    for event in rest {
        let state = |kind: &StateEventType, key: &str| {
            if *kind == conflict.0 && key == conflict.1 {
                return Some(Arc::clone(last));
            }
            fetch(resolved.get(&(kind.clone(), key.to_owned()))?)
        };
        if authorise_by_state(event, rules, state).is_err() {
            break;
        }
        last = event;
    }
    Some(last.event_id.clone())
}

/// The events by ascending depth, those of one depth by descending SHA-1 of their IDs.
fn ordered(
    ids: HashSet<&OwnedEventId>,
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<Vec<Arc<Pdu>>, EventError> {
    let mut events = Vec::with_capacity(ids.len());
    for id in ids {
        let missing = || EventError::Unresolved(format!("{id} is missing"));
        events.push(fetch(id).ok_or_else(missing)?);
    }
    events.sort_by_cached_key(|event| {
        (whole_depth(event), Reverse(Sha1::digest(event.event_id.as_str())))
    });
    Ok(events)
}

/// The depth that the event states, which may be greater than [`Pdu::depth`] holds.
fn whole_depth(event: &Pdu) -> u64 {
    #[derive(Deserialize)]
    struct Depth {
        depth: u64,
    }
    serde_json::from_str::<Depth>(&event.json).map_or(event.depth.into(), |stated| stated.depth)
}

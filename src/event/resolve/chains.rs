//! The auth chains of states, and how they differ.

use std::{collections::HashMap, sync::Arc};

use ruma::{EventId, OwnedEventId, state_res::utils::event_id_set::EventIdSet};

use super::StateMap;
use crate::{EventError, Pdu};

/// A bit for each state.
type Bits = Vec<u64>;

/// The events that are in some of the states or their auth chains, and not in all.
///
/// The specification leaves the events of a state out of its auth chain. Synapse has them in, and
/// that is what decides in the rooms there are: an event that all states hold is no difference,
/// even where it is in the auth chain of one of them only.
///
/// An event is visited once, after all that have it among their auth events.
///
/// # Errors
/// [`EventError::Unresolved`] when an event of a state cannot be fetched, or the chains have a
/// cycle. Events of the chains that cannot be fetched count, but lead nowhere.
pub(super) fn auth_difference(
    states: &[StateMap<OwnedEventId>],
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<EventIdSet<OwnedEventId>, EventError> {
    let width = states.len().div_ceil(u64::BITS as usize);
    let mut held: HashMap<&EventId, Bits> = HashMap::new();
    for (index, state) in states.iter().enumerate() {
        for id in state.values() {
            set(held.entry(id).or_insert_with(|| vec![0; width]), index);
        }
    }
    for id in held.keys() {
        if fetch(id).is_none() {
            return Err(EventError::Unresolved(format!("{id} is missing")));
        }
    }
    let order = newest_first(held.keys().copied(), fetch)?;
    let mut reached: HashMap<OwnedEventId, Bits> = HashMap::new();
    let mut difference = EventIdSet::new();
    let all = everyone(states.len(), width);
    for id in order {
        let mut by = reached.remove(&id).unwrap_or_else(|| vec![0; width]);
        if let Some(states) = held.get(&*id) {
            join(&mut by, states);
        }
        for auth in fetch(&id).iter().flat_map(|event| &event.auth_events) {
            match reached.get_mut(auth) {
                Some(bits) => join(bits, &by),
                None => drop(reached.insert(auth.clone(), by.clone())),
            }
        }
        if by != all {
            difference.insert(id);
        }
    }
    Ok(difference)
}

/// All events reached from some, each before its auth events.
fn newest_first<'a>(
    from: impl Iterator<Item = &'a EventId>,
    fetch: &impl Fn(&EventId) -> Option<Arc<Pdu>>,
) -> Result<Vec<OwnedEventId>, EventError> {
    /// Whether the walk below an event is over.
    #[derive(PartialEq)]
    enum Walk {
        Open,
        Done,
    }
    let mut seen: HashMap<OwnedEventId, Walk> = HashMap::new();
    let mut oldest_first = Vec::new();
    for start in from {
        // An event is met twice: on the way down, and when everything below it is done.
        let mut work = vec![start.to_owned()];
        while let Some(id) = work.pop() {
            match seen.get_mut(&id) {
                Some(Walk::Done) => continue,
                Some(walk) => {
                    *walk = Walk::Done;
                    oldest_first.push(id);
                    continue;
                }
                None => {}
            }
            let event = fetch(&id);
            seen.insert(id.clone(), Walk::Open);
            work.push(id);
            for auth in event.iter().flat_map(|event| &event.auth_events) {
                match seen.get(auth) {
                    None => work.push(auth.clone()),
                    Some(Walk::Open) => {
                        let why = format!("{auth} is in its own auth chain");
                        return Err(EventError::Unresolved(why));
                    }
                    Some(Walk::Done) => {}
                }
            }
        }
    }
    oldest_first.reverse();
    Ok(oldest_first)
}

fn set(bits: &mut Bits, index: usize) {
    if let Some(word) = bits.get_mut(index / u64::BITS as usize) {
        *word |= 1 << (index % u64::BITS as usize);
    }
}

fn join(bits: &mut Bits, others: &Bits) {
    for (word, other) in bits.iter_mut().zip(others) {
        *word |= other;
    }
}

fn everyone(count: usize, width: usize) -> Bits {
    let mut bits = vec![0; width];
    for index in 0..count {
        set(&mut bits, index);
    }
    bits
}

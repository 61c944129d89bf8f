//! The order in which fetched events are received.

use std::collections::{BTreeSet, HashMap, HashSet};

use event::VerifiedPdu;
use ruma::OwnedEventId;

/// Those of some events that are reached from some of them, with these, each after those that it
/// follows; of several that could be next the least deep. What goes in circles is left out.
pub(crate) fn oldest_first(
    from: &[OwnedEventId],
    mut pool: HashMap<OwnedEventId, VerifiedPdu>,
) -> Vec<VerifiedPdu> {
    let mut reached: HashSet<OwnedEventId> = HashSet::new();
    let mut work: Vec<OwnedEventId> = from.to_vec();
    let mut waits_for: HashMap<OwnedEventId, usize> = HashMap::new();
    let mut followers: HashMap<OwnedEventId, Vec<OwnedEventId>> = HashMap::new();
    let mut ready: BTreeSet<(u64, OwnedEventId)> = BTreeSet::new();
    while let Some(id) = work.pop() {
        let Some(found) = pool.get(&id) else { continue };
        if !reached.insert(id.clone()) {
            continue;
        }
        let prev: HashSet<&OwnedEventId> =
            found.pdu().prev_events.iter().filter(|prev| pool.contains_key(*prev)).collect();
        if prev.is_empty() {
            ready.insert((found.pdu().depth.into(), id.clone()));
        }
        waits_for.insert(id.clone(), prev.len());
        for prev in prev {
            followers.entry(prev.clone()).or_default().push(id.clone());
            work.push(prev.clone());
        }
    }
    let mut ordered = Vec::with_capacity(reached.len());
    while let Some((_, id)) = ready.pop_first() {
        if let Some(next) = pool.remove(&id) {
            ordered.push(next);
        }
        for follower in followers.remove(&id).unwrap_or_default() {
            let Some(left) = waits_for.get_mut(&follower) else { continue };
            *left = left.saturating_sub(1);
            if *left == 0
                && let Some(found) = pool.get(&follower)
            {
                ready.insert((found.pdu().depth.into(), follower));
            }
        }
    }
    ordered
}

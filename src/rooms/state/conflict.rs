//! Where states differ, and how their auth chains do.
//!
//! Every event has a greater number than those in its auth chain, whatever depths other servers
//! claim. So a walk from the greatest numbers down meets an event after all that lead to it, and
//! never has to look below the least number in question.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use ruma::events::StateEventType;

use crate::{
    append::Assembly,
    auth_chain::AUTH_CHAIN_LEN_MAX,
    cache::StateKey,
    error::{Result, RoomsError},
    state::trie::{self, Overlay},
    stored_event::StoredEvent,
    tables::{EventNumber, StateKeyNumber, StateRoot},
};

/// The keys at which some states differ, with the event of each state.
pub(crate) type Differences = BTreeMap<StateKeyNumber, Vec<Option<EventNumber>>>;

/// A set of states, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bits(Vec<u64>);

impl Bits {
    fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn all(count: usize) -> Self {
        let mut bits = Self::none(count);
        (0..count).for_each(|index| bits.set(index));
        bits
    }

    fn set(&mut self, index: usize) {
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    fn join(&mut self, other: &Self) {
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            *word |= other;
        }
    }
}

/// A walk down the auth chains of some states, with the states from which each event is reached.
struct Walk {
    all: Bits,
    queue: BTreeMap<EventNumber, Bits>,
    /// Those in the queue that are not reached from all states, as far as is known.
    partial: BTreeSet<EventNumber>,
}

impl Walk {
    fn reach(&mut self, event: EventNumber, from: &Bits) {
        let bits = self.queue.entry(event).or_insert_with(|| Bits(vec![0; from.0.len()]));
        bits.join(from);
        if *bits == self.all {
            self.partial.remove(&event);
        } else {
            self.partial.insert(event);
        }
    }
}

fn too_long() -> RoomsError {
    RoomsError::invalid("an auth chain is too long")
}

impl Assembly<'_> {
    /// Where some states differ from the first of them.
    pub(super) async fn differences(&self, roots: &[StateRoot]) -> Result<Differences> {
        let mut differences = Differences::new();
        let Some(first) = roots.first() else { return Ok(differences) };
        let stored = self.stored_nodes();
        let nodes = Overlay { base: &stored, new: &self.nodes };
        for (index, other) in roots.iter().enumerate().skip(1) {
            for difference in trie::diff(&nodes, *first, *other).await? {
                let values = differences
                    .entry(difference.key)
                    .or_insert_with(|| vec![difference.from; roots.len()]);
                if let Some(value) = values.get_mut(index) {
                    *value = difference.to;
                }
            }
        }
        Ok(differences)
    }

    /// Whether the room's version looks at the events between conflicted ones.
    pub(super) fn uses_subgraph(&self) -> bool {
        let rules = self.room.rules.state_res.v2_rules();
        rules.is_some_and(|rules| rules.consider_conflicted_state_subgraph)
    }

    /// The events that are in the auth chains of some of the states only. The chain of a state has
    /// the events of the state themselves, too.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/rooms/v2/#definitions)
    pub(super) async fn auth_difference(
        &self,
        first: StateRoot,
        count: usize,
        differences: &Differences,
    ) -> Result<BTreeSet<EventNumber>> {
        if self.room.rules.state_res.v2_rules().is_none() {
            return Ok(BTreeSet::new());
        }
        let mut walk =
            Walk { all: Bits::all(count), queue: BTreeMap::new(), partial: BTreeSet::new() };
        for values in differences.values() {
            for (index, event) in values.iter().enumerate() {
                let mut bit = Bits::none(count);
                bit.set(index);
                if let Some(event) = event {
                    walk.reach(*event, &bit);
                }
            }
        }
        // What most events are allowed by is in all chains where the states agree on it.
        for kind in [
            StateEventType::RoomCreate,
            StateEventType::RoomPowerLevels,
            StateEventType::RoomJoinRules,
        ] {
            let key: StateKey = (kind, String::new());
            if let Some(event) = self.agreed_at(first, differences, &key).await? {
                let all = walk.all.clone();
                walk.reach(event, &all);
            }
        }
        let mut candidates = BTreeSet::new();
        let mut visited = 0;
        while !walk.partial.is_empty() {
            let Some((number, mut bits)) = walk.queue.pop_last() else { break };
            visited += 1;
            if visited > AUTH_CHAIN_LEN_MAX {
                return Err(too_long());
            }
            let event = self.event(number).await?;
            if walk.partial.remove(&number) {
                if self.is_agreed(first, differences, &event).await? {
                    bits = walk.all.clone();
                } else {
                    candidates.insert(number);
                }
            }
            for auth in self.auth_numbers(&event).await? {
                walk.reach(auth, &bits);
            }
        }
        self.drop_shared(first, differences, &mut candidates).await?;
        Ok(candidates)
    }

    /// Drops those events that are in the auth chain of what all states agree upon.
    async fn drop_shared(
        &self,
        first: StateRoot,
        differences: &Differences,
        candidates: &mut BTreeSet<EventNumber>,
    ) -> Result<()> {
        let Some(least) = candidates.first().copied() else { return Ok(()) };
        let mut agreed: Vec<EventNumber> = self
            .whole(first)
            .await?
            .into_iter()
            .filter(|(key, event)| *event > least && !differences.contains_key(key))
            .map(|(_, event)| event)
            .collect();
        agreed.sort_unstable();
        let mut seen: HashSet<EventNumber> = HashSet::new();
        for start in agreed {
            let mut work = vec![start];
            while let Some(number) = work.pop() {
                let Some(least) = candidates.first().copied() else { return Ok(()) };
                if number <= least || !seen.insert(number) {
                    continue;
                }
                if seen.len() > AUTH_CHAIN_LEN_MAX {
                    return Err(too_long());
                }
                let event = self.event(number).await?;
                for auth in self.auth_numbers(&event).await? {
                    candidates.remove(&auth);
                    work.push(auth);
                }
            }
        }
        Ok(())
    }

    /// Every event on a path of auth events from one conflicted event to another, with these.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/rooms/v12/#state-resolution)
    pub(super) async fn conflicted_subgraph(
        &self,
        differences: &Differences,
    ) -> Result<BTreeSet<EventNumber>> {
        let ends: BTreeSet<EventNumber> =
            differences.values().flatten().flatten().copied().collect();
        let Some(least) = ends.first().copied() else { return Ok(ends) };
        // Down from all conflicted events, remembering the way back.
        let mut parents: HashMap<EventNumber, Vec<EventNumber>> = HashMap::new();
        let mut seen = ends.clone();
        let mut work: Vec<EventNumber> = ends.iter().copied().collect();
        while let Some(number) = work.pop() {
            if seen.len() > AUTH_CHAIN_LEN_MAX {
                return Err(too_long());
            }
            let event = self.event(number).await?;
            for auth in self.auth_numbers(&event).await? {
                if auth >= least {
                    parents.entry(auth).or_default().push(number);
                    if seen.insert(auth) {
                        work.push(auth);
                    }
                }
            }
        }
        // Up again: what is met lies between two of them.
        let mut subgraph = ends.clone();
        let mut work: Vec<EventNumber> = ends.into_iter().collect();
        while let Some(number) = work.pop() {
            for parent in parents.remove(&number).unwrap_or_default() {
                if subgraph.insert(parent) {
                    work.push(parent);
                }
            }
        }
        Ok(subgraph)
    }

    /// The event at a key, if all states have the same.
    async fn agreed_at(
        &self,
        first: StateRoot,
        differences: &Differences,
        key: &StateKey,
    ) -> Result<Option<EventNumber>> {
        let key = std::slice::from_ref(key);
        let number = self.key_numbers(key).await?.into_iter().next().flatten();
        if number.is_none_or(|number| differences.contains_key(&number)) {
            return Ok(None);
        }
        Ok(self.find(first, key).await?.into_iter().next().flatten())
    }

    /// Whether all states have an event.
    async fn is_agreed(
        &self,
        first: StateRoot,
        differences: &Differences,
        event: &StoredEvent,
    ) -> Result<bool> {
        let Some((kind, key)) = event.pdu.state_entry() else { return Ok(false) };
        let agreed = self.agreed_at(first, differences, &(kind, key.to_owned())).await?;
        Ok(agreed == Some(event.number))
    }

    /// The numbers of the events that an event lists as allowing it.
    async fn auth_numbers(&self, event: &StoredEvent) -> Result<Vec<EventNumber>> {
        let mut numbers = Vec::with_capacity(event.pdu.auth_events.len());
        for id in &event.pdu.auth_events {
            let number = match self.own_event(id) {
                Some(own) => Some(own.number),
                None if self.base.is_none() => None,
                None => self.rooms.event_number(&self.room, id).await?,
            };
            let number = number.ok_or_else(|| RoomsError::MissingEvent { event: id.clone() })?;
            if number >= event.number {
                // The order of numbers is what all of this rests on.
                let why = format!("event {} is older than {id}, which allows it", event.number);
                return Err(RoomsError::Damaged { room: self.room.room_id.clone(), why });
            }
            numbers.push(number);
        }
        Ok(numbers)
    }
}

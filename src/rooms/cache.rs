//! What is kept in memory of the rooms, bounded by weight.
//!
//! Some of it never changes once it is stored: nodes, numbers of IDs and keys. The rest is
//! [`Coherent`]: whoever commits a change
//! says so before the lane is free again, and whoever read the store meanwhile does not overwrite
//! it with what was.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::{Weighter, sync::Cache};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, events::StateEventType};
use store::Position;

use crate::{
    head::Head,
    membership::Memberships,
    room::Room,
    servers::JoinedServers,
    state::node::Node,
    stored_event::StoredEvent,
    tables::{EventNumber, NodeNumber, RoomNumber, StateKeyNumber, StateRoot},
};

/// The users joined to a room, local and remote.
pub(crate) type JoinedUsers = BTreeSet<OwnedUserId>;

/// Event type and state key.
pub(crate) type StateKey = (StateEventType, String);

/// How much memory a cached value takes, about, in bytes.
pub(crate) trait Weigh {
    /// The weight. Cheap, and the same as long as the value is not replaced.
    fn weigh(&self) -> u64;
}

/// Weighs cache entries by [`Weigh`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByWeight;

impl<K, V: Weigh> Weighter<K, V> for ByWeight {
    fn weight(&self, _key: &K, value: &V) -> u64 {
        value.weigh().max(1)
    }
}

impl<T: Weigh> Weigh for Arc<T> {
    fn weigh(&self) -> u64 {
        (**self).weigh()
    }
}

impl Weigh for Room {
    fn weigh(&self) -> u64 {
        512
    }
}

impl Weigh for Head {
    fn weigh(&self) -> u64 {
        200 + 8 * self.extremities.len() as u64
    }
}

impl Weigh for Node {
    fn weigh(&self) -> u64 {
        self.weight()
    }
}

impl Weigh for StoredEvent {
    /// The JSON is kept up to three times: as stored and in both formats for clients.
    fn weigh(&self) -> u64 {
        800 + 3 * self.pdu.json.len() as u64
    }
}

impl Weigh for JoinedUsers {
    fn weigh(&self) -> u64 {
        200 + 64 * self.len() as u64
    }
}

impl Weigh for EventNumber {
    fn weigh(&self) -> u64 {
        160
    }
}

impl Weigh for StateRoot {
    fn weigh(&self) -> u64 {
        200
    }
}

impl Weigh for u64 {
    fn weigh(&self) -> u64 {
        100
    }
}

impl Weigh for StateKeyNumber {
    fn weigh(&self) -> u64 {
        200
    }
}

impl Weigh for StateKey {
    fn weigh(&self) -> u64 {
        200
    }
}

type Plain<K, V> = Cache<K, V, ByWeight>;

/// All caches.
#[derive(Debug)]
pub(crate) struct Caches {
    /// Rooms by ID. A room never changes.
    pub(crate) rooms: Plain<OwnedRoomId, Arc<Room>>,
    /// Rooms by number.
    pub(crate) rooms_by_number: Plain<RoomNumber, Arc<Room>>,
    /// Heads. Changed by whoever holds the room's lane.
    pub(crate) heads: Coherent<RoomNumber, Arc<Head>>,
    /// Events. They change when they are redacted.
    pub(crate) events: Coherent<(RoomNumber, EventNumber), Arc<StoredEvent>>,
    /// Numbers of event IDs.
    pub(crate) event_numbers: Plain<(RoomNumber, OwnedEventId), EventNumber>,
    /// Nodes of states.
    pub(crate) nodes: Plain<(RoomNumber, NodeNumber), Arc<Node>>,
    /// Holes in timelines that nobody could fill, and when that was tried last, in milliseconds
    /// since the Unix epoch.
    pub(crate) futile: Plain<(RoomNumber, Position), u64>,
    /// What states, by their roots, resolve into.
    pub(crate) resolved: Plain<(RoomNumber, Vec<StateRoot>), StateRoot>,
    /// Numbers of state keys.
    pub(crate) state_keys: Plain<(RoomNumber, StateKey), StateKeyNumber>,
    /// State keys by number.
    pub(crate) state_key_names: Plain<(RoomNumber, StateKeyNumber), Arc<StateKey>>,
    /// Memberships of local users. Dropped when a commit changes one of them.
    pub(crate) memberships: Coherent<OwnedUserId, Arc<Memberships>>,
    /// Joined users of rooms. Kept up to date by commits.
    pub(crate) joined_users: Coherent<RoomNumber, Arc<JoinedUsers>>,
    /// Servers of joined users of rooms. Kept up to date by commits.
    pub(crate) joined_servers: Coherent<RoomNumber, Arc<JoinedServers>>,
}

fn plain<K: Eq + Hash, V: Weigh + Clone>(bytes: u64, bytes_each: u64) -> Plain<K, V> {
    let items = usize::try_from(bytes / bytes_each).unwrap_or(usize::MAX).clamp(16, 1 << 20);
    Cache::with_weighter(items, bytes, ByWeight)
}

impl Caches {
    /// Caches that take about so many bytes altogether.
    pub(crate) fn new(bytes: u64) -> Self {
        let share = |percent: u64| bytes / 100 * percent;
        Self {
            rooms: plain(share(2), 512),
            rooms_by_number: plain(share(2), 512),
            heads: Coherent::new(share(2), 200),
            events: Coherent::new(share(50), 2500),
            event_numbers: plain(share(7), 160),
            nodes: plain(share(14), 300),
            futile: plain(64 * 1024, 100),
            resolved: plain(share(1), 200),
            state_keys: plain(share(6), 200),
            state_key_names: plain(share(4), 200),
            memberships: Coherent::new(share(6), 1000),
            joined_users: Coherent::new(share(5), 5000),
            joined_servers: Coherent::new(share(1), 1000),
        }
    }
}

impl Caches {
    /// Keeps a room that is in the store.
    pub(crate) fn keep_room(&self, room: &Arc<Room>) {
        self.rooms.insert(room.room_id.clone(), Arc::clone(room));
        self.rooms_by_number.insert(room.number, Arc::clone(room));
    }
}

const STRIPES: usize = 64;

/// A cache of what changes.
///
/// It never holds a value older than the newest change that it was told of, and none at all while
/// a change is on its way: whoever was woken by the log reads the store then.
#[derive(Debug)]
pub(crate) struct Coherent<K, V> {
    cache: Plain<K, V>,
    stripes: Vec<Mutex<Stripe<K>>>,
}

/// What is known of the keys that share a stripe.
#[derive(Debug)]
struct Stripe<K> {
    /// How many changes there were.
    changes: u64,
    /// The keys that are being changed, and by how many.
    changing: HashMap<K, usize>,
}

/// Taken before the store is read: says which changes had been seen by then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket(Option<u64>);

impl<K: Eq + Hash + Clone, V: Weigh + Clone> Coherent<K, V> {
    pub(crate) fn new(bytes: u64, bytes_each: u64) -> Self {
        let stripe = || Mutex::new(Stripe { changes: 0, changing: HashMap::new() });
        let stripes = std::iter::repeat_with(stripe).take(STRIPES).collect();
        Self { cache: plain(bytes, bytes_each), stripes }
    }

    /// The cached value.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key)
    }

    /// How many values are cached.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.cache.len()
    }

    /// To be taken before the store is read for this key.
    pub(crate) fn ticket(&self, key: &K) -> Ticket {
        Ticket(self.stripe(key).map(|stripe| stripe.changes))
    }

    /// Keeps what was read from the store, unless there was a change since the ticket was taken.
    pub(crate) fn fill(&self, key: &K, value: &V, ticket: Ticket) {
        let Some(stripe) = self.stripe(key) else { return };
        if Some(stripe.changes) == ticket.0 && !stripe.changing.contains_key(key) {
            self.cache.insert(key.clone(), value.clone());
        }
    }

    /// Says that a change is about to be committed, and takes the value out until
    /// [`Coherent::finish`], which must follow.
    pub(crate) fn begin(&self, key: &K) -> Option<V> {
        let mut stripe = self.stripe(key)?;
        *stripe.changing.entry(key.clone()).or_default() += 1;
        self.cache.remove(key).map(|(_, value)| value)
    }

    /// Says that a change is in the store, or never will be, and keeps the value that is there
    /// now, if it is known.
    pub(crate) fn finish(&self, key: &K, value: Option<V>) {
        let Some(mut stripe) = self.stripe(key) else { return };
        stripe.changes += 1;
        let others = stripe.changing.get_mut(key).map_or(0, |count| {
            *count = count.saturating_sub(1);
            *count
        });
        if others > 0 {
            return;
        }
        stripe.changing.remove(key);
        match value {
            Some(value) => self.cache.insert(key.clone(), value),
            None => drop(self.cache.remove(key)),
        }
    }

    /// Keeps a value that nobody can have read before.
    pub(crate) fn put(&self, key: &K, value: V) {
        self.finish(key, Some(value));
    }

    /// Tells of a change that is in the store, or may be: the value has to be read again.
    pub(crate) fn drop_value(&self, key: &K) {
        self.finish(key, None);
    }

    fn stripe(&self, key: &K) -> Option<MutexGuard<'_, Stripe<K>>> {
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        let at = (hasher.finish() % STRIPES as u64) as usize;
        self.stripes.get(at).map(|stripe| stripe.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let cache: Coherent<u64, EventNumber> = Coherent::new(100_000, 100);
        let ticket = cache.ticket(&1);
        cache.drop_value(&1);
        cache.fill(&1, &EventNumber::new(7), ticket);
        assert!(cache.get(&1).is_none());
        let ticket = cache.ticket(&1);
        cache.fill(&1, &EventNumber::new(8), ticket);
        assert_eq!(cache.get(&1), Some(EventNumber::new(8)));
    }

    #[test]
    fn nothing_is_kept_while_a_change_is_on_its_way() {
        let cache: Coherent<u64, EventNumber> = Coherent::new(100_000, 100);
        let value = EventNumber::new;
        cache.put(&1, value(1));
        let early = cache.ticket(&1);
        assert_eq!(cache.begin(&1), Some(value(1)));
        assert!(cache.get(&1).is_none());
        let late = cache.ticket(&1);
        cache.fill(&1, &value(1), early);
        cache.fill(&1, &value(2), late);
        assert!(cache.get(&1).is_none());
        cache.finish(&1, Some(value(2)));
        assert_eq!(cache.get(&1), Some(value(2)));
        cache.fill(&1, &value(1), early);
        cache.fill(&1, &value(1), late);
        assert_eq!(cache.get(&1), Some(value(2)));
    }

    #[test]
    fn of_changes_at_the_same_time_the_last_one_ends_the_wait() {
        let cache: Coherent<u64, EventNumber> = Coherent::new(100_000, 100);
        cache.begin(&1);
        cache.begin(&1);
        cache.finish(&1, Some(EventNumber::new(1)));
        assert!(cache.get(&1).is_none());
        cache.finish(&1, None);
        assert!(cache.get(&1).is_none());
        let ticket = cache.ticket(&1);
        cache.fill(&1, &EventNumber::new(3), ticket);
        assert_eq!(cache.get(&1), Some(EventNumber::new(3)));
    }
}

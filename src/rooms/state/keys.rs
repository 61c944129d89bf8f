//! The numbers of event types and state keys within a room.

use std::sync::Arc;

use ruma::events::StateEventType;

use crate::{
    Rooms,
    cache::StateKey,
    error::{Result, RoomsError},
    room::Room,
    tables::{STATE_KEY_NAMES, STATE_KEYS, StateKeyNumber},
};

impl Rooms {
    /// The number of each pair, where the room has ever had such an event.
    pub(crate) async fn state_key_numbers(
        &self,
        room: &Room,
        keys: &[StateKey],
    ) -> Result<Vec<Option<StateKeyNumber>>> {
        let cache = &self.inner.caches.state_keys;
        let mut numbers = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for key in keys {
            let cached = cache.get(&(room.number, key.clone()));
            if cached.is_none() {
                missing.push((numbers.len(), (room.number, key.0.to_string(), key.1.clone())));
            }
            numbers.push(cached);
        }
        if missing.is_empty() {
            return Ok(numbers);
        }
        let (places, rows): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        let found = self.store().multi_get(&STATE_KEYS, &rows).await?;
        for (place, number) in places.into_iter().zip(found) {
            if let (Some(at), Some(key), Some(number)) =
                (numbers.get_mut(place), keys.get(place), number)
            {
                cache.insert((room.number, key.clone()), number);
                *at = Some(number);
            }
        }
        Ok(numbers)
    }

    /// The pair of each number, in order. Every number must be one of the room's.
    pub(crate) async fn state_key_names(
        &self,
        room: &Room,
        numbers: &[StateKeyNumber],
    ) -> Result<Vec<Arc<StateKey>>> {
        let cache = &self.inner.caches.state_key_names;
        let cached: Vec<_> = numbers.iter().map(|n| cache.get(&(room.number, *n))).collect();
        let missing: Vec<_> = numbers
            .iter()
            .zip(&cached)
            .filter(|(_, name)| name.is_none())
            .map(|(number, _)| (room.number, *number))
            .collect();
        if missing.is_empty() {
            return Ok(cached.into_iter().flatten().collect());
        }
        let found = self.store().multi_get(&STATE_KEY_NAMES, &missing).await?;
        let mut fresh = Vec::with_capacity(found.len());
        for (key, row) in missing.into_iter().zip(found) {
            let (kind, state_key) =
                row.ok_or(RoomsError::BadRow { why: "a state key has no name" })?.0;
            let name = Arc::new((StateEventType::from(kind), state_key));
            cache.insert(key, Arc::clone(&name));
            fresh.push(name);
        }
        let mut fresh = fresh.into_iter();
        Ok(cached.into_iter().filter_map(|name| name.or_else(|| fresh.next())).collect())
    }
}

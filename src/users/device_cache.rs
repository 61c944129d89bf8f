//! Small facts about devices in memory, so that a sync with nothing new reads no disk.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::unsync::Cache;
use ruma::{DeviceId, OwnedDeviceId, OwnedUserId, UserId};

/// Devices of which a fact is kept in memory at most.
const DEVICES_MAX: usize = 50_000;

/// A device of a user.
pub(crate) type DeviceKey = (OwnedUserId, OwnedDeviceId);

/// What is known of devices. A fact is not known while it is being changed.
#[derive(Debug)]
pub(crate) struct DeviceCache<T> {
    inner: Arc<Mutex<Inner<T>>>,
}

#[derive(Debug)]
struct Inner<T> {
    known: Cache<DeviceKey, T>,
    /// Devices that are being changed, and by how many.
    busy: HashMap<DeviceKey, u32>,
    /// Grows whenever something is forgotten: what was read before must not be remembered after.
    epoch: u64,
}

/// The state of the cache before a read, which decides whether its result may be remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch(u64);

/// Keeps facts from being known until it is dropped.
#[derive(Debug)]
pub(crate) struct Changing<T> {
    cache: DeviceCache<T>,
    devices: Vec<DeviceKey>,
}

impl<T> Clone for DeviceCache<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> Default for DeviceCache<T> {
    fn default() -> Self {
        let inner = Inner { known: Cache::new(DEVICES_MAX), busy: HashMap::new(), epoch: 0 };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }
}

impl<T: Clone> DeviceCache<T> {
    /// What is known of a device, or the epoch to remember it with.
    pub(crate) fn get(&self, user_id: &UserId, device_id: &DeviceId) -> Result<T, Epoch> {
        let inner = self.lock();
        let key = (user_id.to_owned(), device_id.to_owned());
        inner.known.get(&key).cloned().ok_or(Epoch(inner.epoch))
    }

    /// Remembers what was read since `epoch`, unless something changed since, or is about to.
    pub(crate) fn remember(&self, epoch: Epoch, device: DeviceKey, fact: T) {
        let mut inner = self.lock();
        if inner.epoch == epoch.0 && !inner.busy.contains_key(&device) {
            inner.known.insert(device, fact);
        }
    }
}

impl<T> DeviceCache<T> {
    /// Forgets what is known of devices that are about to change.
    pub(crate) fn change(&self, devices: Vec<DeviceKey>) -> Changing<T> {
        let mut inner = self.lock();
        for device in &devices {
            inner.known.remove(device);
            *inner.busy.entry(device.clone()).or_default() += 1;
        }
        drop(inner);
        Changing { cache: self.clone(), devices }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Drop for Changing<T> {
    fn drop(&mut self) {
        let mut inner = self.cache.lock();
        inner.epoch += 1;
        for device in &self.devices {
            if let Some(count) = inner.busy.get_mut(device) {
                *count -= 1;
                if *count == 0 {
                    inner.busy.remove(device);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::{device_id, user_id};

    use super::*;

    fn device() -> DeviceKey {
        (user_id!("@a:x").to_owned(), device_id!("A").to_owned())
    }

    #[test]
    fn what_is_being_changed_is_not_remembered() {
        let cache = DeviceCache::<u8>::default();
        let (user_id, device_id) = device();
        let before = cache.get(&user_id, &device_id).unwrap_err();
        let changing = cache.change(vec![device()]);
        let during = cache.get(&user_id, &device_id).unwrap_err();
        cache.remember(during, device(), 1);
        assert!(cache.get(&user_id, &device_id).is_err());
        drop(changing);
        for old in [before, during] {
            cache.remember(old, device(), 1);
            assert!(cache.get(&user_id, &device_id).is_err());
        }
        let after = cache.get(&user_id, &device_id).unwrap_err();
        cache.remember(after, device(), 2);
        assert_eq!(cache.get(&user_id, &device_id).unwrap(), 2);
        drop(cache.change(vec![device()]));
        assert!(cache.get(&user_id, &device_id).is_err());
    }
}

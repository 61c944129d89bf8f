//! Which member events each device has, for clients that load members lazily and want each once.
//!
//! What a response holds counts only once the client comes back with that response's token: an
//! answer that was lost on the way is not held against it. Forgetting is harmless: a member event
//! is then sent once more.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use quick_cache::sync::Cache;
use rooms::{EventNumber, RoomNumber};
use ruma::{OwnedDeviceId, OwnedUserId};

use crate::token::SyncToken;

/// Devices that are remembered.
const DEVICES_MAX: usize = 2_048;

/// Member events that are remembered of each device.
const MEMBERS_MAX: usize = 4_096;

type Device = (OwnedUserId, OwnedDeviceId);
type Member = (RoomNumber, EventNumber);

/// The member events that devices have.
#[derive(Debug)]
pub(crate) struct SentMembers {
    devices: Cache<Device, Arc<Mutex<Known>>>,
}

/// What one device has.
#[derive(Debug, Default)]
struct Known {
    /// The newest token that the device came with.
    at: Option<SyncToken>,
    sent: HashSet<Member>,
    /// What is in the newest response, and its token.
    pending: Option<(SyncToken, Noted)>,
}

/// What a response holds.
#[derive(Debug, Default)]
struct Noted {
    members: Vec<Member>,
    /// Rooms that the response shows as new: what the device once had of them is gone.
    new_rooms: HashSet<RoomNumber>,
}

impl Default for SentMembers {
    fn default() -> Self {
        Self { devices: Cache::new(DEVICES_MAX) }
    }
}

impl SentMembers {
    /// Begins a response to a device that has come with a token.
    pub(crate) fn begin(&self, device: Device, since: Option<SyncToken>) -> KnownMembers {
        let known = match self.devices.get(&device) {
            Some(known) => known,
            None => {
                let known = Arc::default();
                self.devices.insert(device, Arc::clone(&known));
                known
            }
        };
        lock(&known).come_with(since);
        KnownMembers { known, noted: Mutex::default() }
    }
}

/// What a device has, while a response to it is made.
#[derive(Debug)]
pub(crate) struct KnownMembers {
    known: Arc<Mutex<Known>>,
    noted: Mutex<Noted>,
}

impl KnownMembers {
    /// For clients that do not load members lazily: nothing is known, and nothing is kept.
    pub(crate) fn none() -> Self {
        Self { known: Arc::default(), noted: Mutex::default() }
    }

    pub(crate) fn has(&self, room: RoomNumber, event: EventNumber) -> bool {
        lock(&self.known).sent.contains(&(room, event))
    }

    /// Takes note of what the response holds.
    pub(crate) fn note(&self, room: RoomNumber, events: impl IntoIterator<Item = EventNumber>) {
        let members = events.into_iter().map(|event| (room, event));
        lock(&self.noted).members.extend(members);
    }

    /// Takes note that the response shows a room as one that the device has nothing of.
    pub(crate) fn note_new_room(&self, room: RoomNumber) {
        lock(&self.noted).new_rooms.insert(room);
    }

    /// Ends the response, which has this token.
    pub(crate) fn finish(self, next: SyncToken) {
        let noted = self.noted.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut known = lock(&self.known);
        // If the token is that of the request, its return would not prove that the response
        // arrived.
        if known.at != Some(next) {
            known.pending = Some((next, noted));
        }
    }
}

impl Known {
    fn come_with(&mut self, since: Option<SyncToken>) {
        let pending = self.pending.take();
        match (since, pending) {
            (Some(since), Some((token, Noted { members, new_rooms }))) if since == token => {
                if !new_rooms.is_empty() {
                    self.sent.retain(|(room, _)| !new_rooms.contains(room));
                }
                if self.sent.len() + members.len() > MEMBERS_MAX {
                    self.sent.clear();
                }
                self.sent.extend(members.into_iter().take(MEMBERS_MAX));
            }
            (Some(since), _) if self.at == Some(since) => {}
            _ => self.sent.clear(),
        }
        self.at = since;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rooms::Position;
    use ruma::{device_id, user_id};

    use super::*;

    const ROOM: RoomNumber = RoomNumber::new(1);

    fn token(position: u64) -> SyncToken {
        let position = Position::new(position);
        SyncToken { position, boot: 1, typing: 0, presence: 0, to_device: position }
    }

    fn event(number: u64) -> EventNumber {
        EventNumber::new(number)
    }

    fn begin(members: &SentMembers, since: Option<u64>) -> KnownMembers {
        let device = (user_id!("@a:x").to_owned(), device_id!("D").to_owned());
        members.begin(device, since.map(token))
    }

    #[test]
    fn what_was_sent_counts_once_the_client_comes_back_with_its_token() {
        let members = SentMembers::default();
        let first = begin(&members, None);
        first.note(ROOM, [event(1), event(2)]);
        first.finish(token(1));
        let second = begin(&members, Some(1));
        assert!(second.has(ROOM, event(1)));
        assert!(!second.has(ROOM, event(3)));
        assert!(!second.has(RoomNumber::new(2), event(1)));
    }

    #[test]
    fn a_lost_response_does_not_count() {
        let members = SentMembers::default();
        let first = begin(&members, None);
        first.note(ROOM, [event(1)]);
        first.finish(token(1));
        let lost = begin(&members, Some(1));
        lost.note(ROOM, [event(2)]);
        lost.finish(token(2));
        let again = begin(&members, Some(1));
        assert!(again.has(ROOM, event(1)));
        assert!(!again.has(ROOM, event(2)));
    }

    #[test]
    fn what_was_sent_of_a_room_before_it_was_new_does_not_count() {
        let members = SentMembers::default();
        let first = begin(&members, None);
        first.note(ROOM, [event(1)]);
        first.finish(token(1));
        let second = begin(&members, Some(1));
        second.note_new_room(ROOM);
        second.note(ROOM, [event(2)]);
        second.finish(token(2));
        let third = begin(&members, Some(2));
        assert!(!third.has(ROOM, event(1)));
        assert!(third.has(ROOM, event(2)));
    }

    #[test]
    fn beginning_anew_or_with_an_older_token_forgets_all() {
        let members = SentMembers::default();
        for since in [None, Some(1)] {
            let first = begin(&members, None);
            first.note(ROOM, [event(1)]);
            first.finish(token(1));
            begin(&members, Some(1)).finish(token(2));
            begin(&members, Some(2)).finish(token(3));
            assert!(!begin(&members, since).has(ROOM, event(1)));
        }
    }

    #[test]
    fn what_is_remembered_of_a_device_is_bounded() {
        let members = SentMembers::default();
        begin(&members, None).finish(token(0));
        for round in 0..4_u64 {
            let response = begin(&members, Some(round));
            let numbers = (0..3_000).map(|number| event(round * 3_000 + number));
            response.note(ROOM, numbers);
            response.finish(token(round + 1));
        }
        let last = begin(&members, Some(4));
        assert!(lock(&last.known).sent.len() <= MEMBERS_MAX);
        assert!(last.has(ROOM, event(9_001)));
    }
}

//! What is known of everybody's presence, as plain data: no clock, no lock.

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedUserId, UserId, presence::PresenceState};

use super::{PRESENCE_ACTIVE_MS, PRESENCE_ONLINE_MS, Presence};

/// Most users whose presence is kept. Beyond it those who have been offline longest are forgotten.
const ENTRIES_MAX: usize = 100_000;

/// The presence of one user.
#[derive(Debug)]
struct Entry {
    state: PresenceState,
    status_msg: Option<String>,
    last_active_ms: Option<u64>,
    /// When a client last spoke for the user.
    last_seen_ms: u64,
    /// How many clients wait for news.
    watching: usize,
    /// The version of the newest change; 0 without any.
    version: u64,
}

impl Default for Entry {
    fn default() -> Self {
        Self {
            state: PresenceState::Offline,
            status_msg: None,
            last_active_ms: None,
            last_seen_ms: 0,
            watching: 0,
            version: 0,
        }
    }
}

impl Entry {
    fn is_active(&self, now_ms: u64) -> bool {
        self.state == PresenceState::Online
            && (self.last_active_ms)
                .is_some_and(|at| now_ms.saturating_sub(at) < PRESENCE_ACTIVE_MS)
    }

    fn to_presence(&self, user_id: &UserId, now_ms: u64) -> Presence {
        Presence {
            user_id: user_id.to_owned(),
            state: self.state.clone(),
            status_msg: self.status_msg.clone(),
            last_active_ms: self.last_active_ms,
            currently_active: self.is_active(now_ms),
        }
    }
}

/// The presences by user, and the users by their newest change.
#[derive(Debug, Default)]
pub(super) struct Known {
    entries: HashMap<OwnedUserId, Entry>,
    by_version: BTreeMap<u64, OwnedUserId>,
    version: u64,
}

impl Known {
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn knows(&self, user_id: &UserId) -> bool {
        self.entries.contains_key(user_id)
    }

    pub(super) fn get(&self, user_id: &UserId, now_ms: u64) -> Presence {
        match self.entries.get(user_id) {
            Some(entry) => entry.to_presence(user_id, now_ms),
            None => Entry::default().to_presence(user_id, now_ms),
        }
    }

    /// Takes over what the store says of a user who is not known yet.
    pub(super) fn remember(&mut self, user_id: &UserId, status_msg: String) {
        let fresh = || Entry { status_msg: Some(status_msg), ..Entry::default() };
        self.entries.entry(user_id.to_owned()).or_insert_with(fresh);
        self.bound();
    }

    pub(super) fn set(
        &mut self,
        user_id: &UserId,
        state: PresenceState,
        status_msg: Option<String>,
        now_ms: u64,
    ) {
        self.update(user_id, now_ms, |entry| {
            entry.last_seen_ms = now_ms;
            if state != PresenceState::Offline {
                entry.last_active_ms = Some(now_ms);
            }
            entry.state = state;
            entry.status_msg = status_msg;
        });
    }

    pub(super) fn start_watching(&mut self, user_id: &UserId, state: PresenceState, now_ms: u64) {
        self.update(user_id, now_ms, |entry| {
            entry.last_seen_ms = now_ms;
            entry.watching += 1;
            if state == PresenceState::Online {
                entry.last_active_ms = Some(now_ms);
            }
            // One idle device does not hide that the user is there with another.
            let is_elsewhere = entry.watching > 1 && entry.state == PresenceState::Online;
            if !(is_elsewhere && state == PresenceState::Unavailable) {
                entry.state = state;
            }
        });
    }

    pub(super) fn stop_watching(&mut self, user_id: &UserId, now_ms: u64) {
        if let Some(entry) = self.entries.get_mut(user_id) {
            entry.watching = entry.watching.saturating_sub(1);
            entry.last_seen_ms = entry.last_seen_ms.max(now_ms);
        }
    }

    pub(super) fn note_active(&mut self, user_id: &UserId, now_ms: u64) {
        if !self.knows(user_id) {
            return;
        }
        self.update(user_id, now_ms, |entry| {
            entry.last_active_ms = Some(now_ms);
            if entry.state == PresenceState::Unavailable {
                entry.last_seen_ms = now_ms;
                entry.state = PresenceState::Online;
            }
        });
    }

    pub(super) fn sweep(&mut self, now_ms: u64) {
        let is_gone = |entry: &Entry| {
            entry.state != PresenceState::Offline
                && entry.watching == 0
                && now_ms.saturating_sub(entry.last_seen_ms) >= PRESENCE_ONLINE_MS
        };
        let gone: Vec<OwnedUserId> = (self.entries.iter())
            .filter(|(_, entry)| is_gone(entry))
            .map(|(user_id, _)| user_id.clone())
            .collect();
        for user_id in gone {
            self.update(&user_id, now_ms, |entry| entry.state = PresenceState::Offline);
        }
        self.bound();
    }

    pub(super) fn changes(&self, after: u64, upto: u64, now_ms: u64) -> Vec<Presence> {
        if after >= upto {
            return Vec::new();
        }
        (self.by_version.range(after.saturating_add(1)..=upto))
            .filter_map(|(_, user_id)| {
                Some(self.entries.get(user_id)?.to_presence(user_id, now_ms))
            })
            .collect()
    }

    /// Changes an entry, and gives it a new version if others are to see the change.
    fn update(&mut self, user_id: &UserId, now_ms: u64, with: impl FnOnce(&mut Entry)) {
        let is_new = !self.entries.contains_key(user_id);
        let entry = self.entries.entry(user_id.to_owned()).or_default();
        let before = entry.to_presence(user_id, now_ms);
        with(entry);
        let after = entry.to_presence(user_id, now_ms);
        let is_seen = before.state != after.state
            || before.status_msg != after.status_msg
            || before.currently_active != after.currently_active;
        if is_seen {
            self.version += 1;
            self.by_version.remove(&entry.version);
            entry.version = self.version;
            self.by_version.insert(self.version, user_id.to_owned());
        }
        if is_new {
            self.bound();
        }
    }

    /// Forgets some of the offline users when there are too many of them.
    fn bound(&mut self) {
        if self.entries.len() <= ENTRIES_MAX {
            return;
        }
        let goal = ENTRIES_MAX / 10 * 9;
        let is_idle = |entry: &Entry| entry.state == PresenceState::Offline && entry.watching == 0;
        // Those without a change come first: nobody was ever told of them.
        let mut idle: Vec<(u64, OwnedUserId)> = (self.entries.iter())
            .filter(|(_, entry)| is_idle(entry))
            .map(|(user_id, entry)| (entry.version, user_id.clone()))
            .collect();
        idle.sort_unstable();
        for (version, user_id) in idle.into_iter().take(self.entries.len() - goal) {
            self.entries.remove(&user_id);
            self.by_version.remove(&version);
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn alice() -> &'static UserId {
        user_id!("@alice:example.org")
    }

    fn bob() -> &'static UserId {
        user_id!("@bob:example.org")
    }

    fn states(known: &Known, after: u64, upto: u64) -> Vec<(String, PresenceState)> {
        (known.changes(after, upto, 0).into_iter())
            .map(|presence| (presence.user_id.to_string(), presence.state))
            .collect()
    }

    #[test]
    fn a_user_who_never_showed_up_is_offline() {
        let presence = Known::default().get(alice(), 1_000);
        assert_eq!(presence.state, PresenceState::Offline);
        assert_eq!(presence.last_active_ms, None);
        assert!(!presence.currently_active);
    }

    #[test]
    fn each_user_appears_once_with_the_newest_change() {
        let mut known = Known::default();
        known.set(alice(), PresenceState::Online, None, 1_000);
        known.set(bob(), PresenceState::Online, None, 1_000);
        known.set(alice(), PresenceState::Unavailable, None, 2_000);
        let expected = [
            (bob().to_string(), PresenceState::Online),
            (alice().to_string(), PresenceState::Unavailable),
        ];
        assert_eq!(states(&known, 0, known.version()), expected);
        assert_eq!(states(&known, 2, known.version()), expected[1..]);
        assert!(states(&known, 3, 3).is_empty());
        assert!(states(&known, 9, 3).is_empty());
    }

    #[test]
    fn the_same_again_is_no_change() {
        let mut known = Known::default();
        known.set(alice(), PresenceState::Online, Some("hi".to_owned()), 1_000);
        let version = known.version();
        known.set(alice(), PresenceState::Online, Some("hi".to_owned()), 2_000);
        assert_eq!(known.version(), version);
        known.set(alice(), PresenceState::Online, Some("ho".to_owned()), 2_000);
        assert!(known.version() > version);
    }

    #[test]
    fn who_watches_stays_online_and_goes_offline_after_the_last_watch() {
        let mut known = Known::default();
        known.start_watching(alice(), PresenceState::Online, 0);
        known.sweep(10 * PRESENCE_ONLINE_MS);
        assert_eq!(known.get(alice(), 0).state, PresenceState::Online);
        known.stop_watching(alice(), 10 * PRESENCE_ONLINE_MS);
        known.sweep(11 * PRESENCE_ONLINE_MS - 1);
        assert_eq!(known.get(alice(), 0).state, PresenceState::Online);
        known.sweep(11 * PRESENCE_ONLINE_MS);
        assert_eq!(known.get(alice(), 0).state, PresenceState::Offline);
    }

    #[test]
    fn activity_ends_idleness_but_does_not_unmask_who_is_offline() {
        let mut known = Known::default();
        known.set(alice(), PresenceState::Unavailable, None, 1_000);
        known.set(bob(), PresenceState::Offline, None, 1_000);
        for user_id in [alice(), bob()] {
            known.note_active(user_id, 2_000);
        }
        assert_eq!(known.get(alice(), 2_000).state, PresenceState::Online);
        let presence = known.get(bob(), 2_000);
        assert_eq!(presence.state, PresenceState::Offline);
        assert_eq!(presence.last_active_ms, Some(2_000));
    }

    #[test]
    fn watching_keeps_the_status_message() {
        let mut known = Known::default();
        known.set(alice(), PresenceState::Unavailable, Some("lunch".to_owned()), 0);
        known.start_watching(alice(), PresenceState::Online, 10);
        let presence = known.get(alice(), 10);
        assert_eq!(presence.status_msg.as_deref(), Some("lunch"));
        assert_eq!(presence.state, PresenceState::Online);
        assert!(presence.currently_active);
    }

    #[test]
    fn memory_is_bounded_and_keeps_who_is_online() {
        let mut known = Known::default();
        known.start_watching(alice(), PresenceState::Online, 0);
        for number in 0..=ENTRIES_MAX {
            let user_id = OwnedUserId::try_from(format!("@u{number}:example.org")).unwrap();
            known.remember(&user_id, "x".to_owned());
        }
        assert!(known.entries.len() <= ENTRIES_MAX);
        assert_eq!(known.get(alice(), 0).state, PresenceState::Online);
    }
}

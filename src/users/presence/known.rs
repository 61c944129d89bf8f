//! What is known of everybody's presence, as plain data: no clock, no lock.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use ruma::{OwnedServerName, OwnedUserId, UserId, presence::PresenceState};

use super::{PRESENCE_ACTIVE_MS, PRESENCE_ONLINE_MS, Presence, REMOTE_PRESENCE_MS};

/// Most users whose presence is kept. Beyond it those who have been offline longest are forgotten.
const ENTRIES_MAX: usize = 100_000;

/// Most users of one other server whose presence is kept. Beyond it, new ones are passed over.
const ENTRIES_OF_SERVER_MAX: usize = 20_000;

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
    /// What the user's server says of them, where that is another one.
    remote: Option<Remote>,
}

/// What only another server knows of its user.
#[derive(Clone, Copy, Debug)]
struct Remote {
    is_active: bool,
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
            remote: None,
        }
    }
}

impl Entry {
    fn is_active(&self, now_ms: u64) -> bool {
        let lately = |at| now_ms.saturating_sub(at) < PRESENCE_ACTIVE_MS;
        self.state == PresenceState::Online
            && match self.remote {
                Some(remote) => remote.is_active,
                None => self.last_active_ms.is_some_and(lately),
            }
    }

    /// How long the user stays as they are without being heard of, in milliseconds.
    fn lasts_ms(&self) -> u64 {
        if self.remote.is_some() { REMOTE_PRESENCE_MS } else { PRESENCE_ONLINE_MS }
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
    /// How many users of each other server are kept.
    by_server: HashMap<OwnedServerName, usize>,
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

    /// Takes over what another server says of its user.
    pub(super) fn receive(&mut self, told: Presence, now_ms: u64) {
        let user_id = told.user_id;
        if !self.knows(&user_id) {
            let count = self.by_server.entry(user_id.server_name().to_owned()).or_default();
            if *count >= ENTRIES_OF_SERVER_MAX {
                return;
            }
            *count += 1;
        }
        self.update(&user_id, now_ms, |entry| {
            entry.last_seen_ms = now_ms;
            entry.last_active_ms = told.last_active_ms;
            entry.state = told.state;
            entry.status_msg = told.status_msg;
            entry.remote = Some(Remote { is_active: told.currently_active });
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
                && now_ms.saturating_sub(entry.last_seen_ms) >= entry.lasts_ms()
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

    /// Forgets some of the offline users when there are too many of them; then some of other
    /// servers, those first that have not changed for longest.
    fn bound(&mut self) {
        if self.entries.len() <= ENTRIES_MAX {
            return;
        }
        let goal = ENTRIES_MAX / 10 * 9;
        let is_idle = |entry: &Entry| entry.state == PresenceState::Offline && entry.watching == 0;
        // Those without a change come first: nobody was ever told of them.
        let idle: Vec<(u64, OwnedUserId)> = (self.entries.iter())
            .filter(|(_, entry)| is_idle(entry))
            .map(|(user_id, entry)| (entry.version, user_id.clone()))
            .collect();
        self.forget(idle, goal);
        if self.entries.len() > goal {
            let remote = (self.entries.iter()).filter(|(_, entry)| entry.remote.is_some());
            let remote = remote.map(|(user_id, entry)| (entry.version, user_id.clone())).collect();
            self.forget(remote, goal);
        }
    }

    /// Forgets the first of these, by version, until there are no more users than wanted.
    fn forget(&mut self, mut users: Vec<(u64, OwnedUserId)>, goal: usize) {
        users.sort_unstable();
        for (version, user_id) in users.into_iter().take(self.entries.len().saturating_sub(goal)) {
            self.by_version.remove(&version);
            let entry = self.entries.remove(&user_id);
            if entry.is_some_and(|entry| entry.remote.is_some())
                && let Some(count) = self.by_server.get_mut(user_id.server_name())
            {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.by_server.remove(user_id.server_name());
                }
            }
        }
    }
}

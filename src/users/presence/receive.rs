//! What other servers tell of the presence of their users.

use ruma::{
    ServerName, api::federation::transactions::edu::PresenceUpdate, presence::PresenceState,
};

use super::{Presence, cut};
use crate::Users;

/// Most presences taken from one message of another server; the rest is passed over.
const UPDATES_MAX: usize = 1_000;

impl Users {
    /// Takes note of the presence of another server's users: the content of an `m.presence` EDU.
    /// What a server says of others' users is passed over.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#presence)
    pub fn receive_presence(&self, origin: &ServerName, updates: Vec<PresenceUpdate>) {
        let updates: Vec<PresenceUpdate> = updates
            .into_iter()
            .filter(|update| update.user_id.server_name() == origin)
            .filter(|update| !self.is_local(&update.user_id))
            .filter(|update| !matches!(update.presence, PresenceState::_Custom(_)))
            .take(UPDATES_MAX)
            .collect();
        if updates.is_empty() {
            return;
        }
        self.inner.presence.change(|known, now_ms| {
            for update in updates {
                let told = Presence {
                    user_id: update.user_id,
                    currently_active: update.currently_active,
                    last_active_ms: Some(now_ms.saturating_sub(update.last_active_ago.into())),
                    state: update.presence,
                    status_msg: update.status_msg.filter(|text| !text.is_empty()).map(cut),
                };
                known.receive(told, now_ms);
            }
        });
    }
}

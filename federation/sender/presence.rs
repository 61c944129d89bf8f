//! Tells other servers who of our users is online.

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedUserId, UInt, UserId,
    api::federation::transactions::edu::{PresenceContent, PresenceUpdate},
    presence::PresenceState,
};
use serde_json::value::RawValue as RawJsonValue;
use tokio::{sync::watch, time::Instant};

use super::{Shared, edus, transaction::SenderError};

/// How often it is said again that somebody is online. Other servers forget it after 30 minutes.
const AGAIN: Duration = Duration::from_secs(20 * 60);

/// Tells of each change of presence of our users to the servers that share a room with them.
pub(super) async fn run(shared: Arc<Shared>, mut versions: watch::Receiver<u64>) {
    let mut again = tokio::time::interval_at(Instant::now() + AGAIN, AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut done = 0;
    loop {
        let version = *versions.borrow_and_update();
        for presence in shared.users.presence_changes(done, version) {
            if shared.users.is_local(&presence.user_id) {
                tell(&shared, &presence.user_id).await;
            }
        }
        done = version;
        tokio::select! {
            changed = versions.changed() => if changed.is_err() { return },
            _ = again.tick() => {
                for presence in shared.users.presence_changes(0, version) {
                    let is_online = presence.state != PresenceState::Offline;
                    if is_online && shared.users.is_local(&presence.user_id) {
                        tell(&shared, &presence.user_id).await;
                    }
                }
            }
        }
    }
}

async fn tell(shared: &Arc<Shared>, user: &UserId) {
    let servers = match shared.rooms.servers_sharing(user).await {
        Ok(servers) => servers,
        Err(error) => {
            tracing::warn!(%error, "no other server is told of a presence");
            return;
        }
    };
    for server in servers.iter().filter(|server| shared.is_told(server)) {
        shared.touch_if_near(server, |destination| {
            destination.fleeting.add_presence(user.to_owned());
        });
    }
}

/// The EDU with the presence of some users, as it is now; `None` where there are none.
pub(super) async fn edu(
    shared: &Shared,
    users: Vec<OwnedUserId>,
) -> Result<Option<Box<RawJsonValue>>, SenderError> {
    let now_ms = shared.now_ms();
    let mut push = Vec::with_capacity(users.len());
    for user in users {
        let presence = shared.users.presence(&user).await?;
        let ago = presence.last_active_ms.map_or(0, |at| now_ms.saturating_sub(at));
        let ago = UInt::new_saturating(ago);
        let mut update = PresenceUpdate::new(presence.user_id, presence.state, ago);
        update.status_msg = presence.status_msg;
        update.currently_active = presence.currently_active;
        push.push(update);
    }
    if push.is_empty() {
        return Ok(None);
    }
    Ok(edus::edu("m.presence", PresenceContent::new(push)))
}

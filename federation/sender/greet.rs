//! Whose presence is told to whom when somebody joins a room.

use std::{collections::BTreeMap, sync::Arc};

use rooms::Room;
use ruma::{OwnedServerName, OwnedUserId, UserId};

use super::{Shared, transaction::SenderError};

/// Most users of ours in a room whose presence is told to a server that comes in.
const USERS_MAX: usize = 500;

impl Shared {
    /// The presences that servers have to learn because a user has joined a room.
    pub(super) async fn greetings(
        self: &Arc<Self>,
        room: &Room,
        user: &UserId,
    ) -> Result<BTreeMap<OwnedServerName, Vec<OwnedUserId>>, SenderError> {
        let mut greetings = BTreeMap::new();
        if !self.config.sends_presence {
            return Ok(greetings);
        }
        if !self.rooms.is_local(user) {
            if !self.is_told(user.server_name()) {
                return Ok(greetings);
            }
            let joined = self.rooms.joined_users(room).await?;
            let local = joined.iter().filter(|user| self.rooms.is_local(user));
            let seen = local.filter(|user| self.users.is_present(user)).take(USERS_MAX).cloned();
            let seen: Vec<_> = seen.collect();
            if !seen.is_empty() {
                greetings.insert(user.server_name().to_owned(), seen);
            }
        } else if self.users.is_present(user) {
            let servers = self.rooms.joined_servers(room).await?;
            for server in servers.iter().filter(|server| self.is_told(server)) {
                greetings.insert(server.clone(), vec![user.to_owned()]);
            }
        }
        Ok(greetings)
    }
}

//! What other servers tell of who types.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, ServerName, UserId};

use crate::{Rooms, error::Result};

/// How long a user of another server is shown as typing unless their server says it again, in
/// milliseconds.
pub const REMOTE_TYPING_MS: u64 = 60_000;

impl Rooms {
    /// Takes note that a user of another server types in a room, or no longer does. What a server
    /// says of others' users, of rooms that we do not know or of users who are not joined is passed
    /// over.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#typing-notifications)
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn receive_typing(
        &self,
        origin: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        is_typing: bool,
    ) -> Result<()> {
        if user.server_name() != origin || self.is_local(user) {
            return Ok(());
        }
        let Some(room) = self.room(room_id).await? else { return Ok(()) };
        if !self.acl_allows(&room, origin).await? {
            return Ok(());
        }
        let typing = &self.inner.typing;
        if !is_typing {
            typing.stop(&room.room_id, user);
            return Ok(());
        }
        let joined = self.joined_users(&room).await?;
        if !joined.contains(user) || !joined.iter().any(|user| self.is_local(user)) {
            return Ok(());
        }
        typing.start(&room.room_id, user, self.now_ms().saturating_add(REMOTE_TYPING_MS));
        typing.ensure_timer(&self.inner.clock);
        Ok(())
    }

    /// The users of this server who type, with their rooms.
    #[must_use]
    pub fn local_typing(&self) -> Vec<(OwnedRoomId, OwnedUserId)> {
        let state = self.inner.typing.shared.state();
        let rooms = state.rooms.iter();
        let all = rooms.flat_map(|(room, typing)| typing.users.keys().map(move |u| (room, u)));
        let local = all.filter(|(_, user)| self.is_local(user));
        local.map(|(room, user)| (room.clone(), user.clone())).collect()
    }
}

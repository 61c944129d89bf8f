//! When somebody leaves a room, we may no longer be told whose devices change: what we know of them
//! is asked for anew when it is wanted.
//! [Spec](https://spec.matrix.org/v1.19/server-server-api/#device-management)

use rooms::{Position, Room};
use ruma::UserId;

use super::{Shared, transaction::SenderError};

impl Shared {
    /// A user left a room, or was removed from it, by a commit.
    pub(super) async fn part(
        &self,
        room: &Room,
        user: &UserId,
        position: Position,
    ) -> Result<(), SenderError> {
        if !self.rooms.is_local(user) {
            // They may be back already, or in another room with us; but were they all the time?
            self.users.distrust_remote_list(user).await?;
            return Ok(());
        }
        if self.did_stay(room, position).await? {
            return Ok(());
        }
        for other in self.rooms.joined_users(room).await?.iter() {
            if !self.rooms.is_local(other) {
                self.users.distrust_remote_list(other).await?;
            }
        }
        Ok(())
    }

    /// Whether some user of ours is in a room since before a commit.
    async fn did_stay(&self, room: &Room, position: Position) -> Result<bool, SenderError> {
        for other in self.rooms.joined_users(room).await?.iter() {
            if self.rooms.is_local(other) {
                let memberships = self.rooms.memberships(other).await?;
                let since = memberships.get(room.number).map(|record| record.position);
                if since.is_some_and(|since| since < position) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

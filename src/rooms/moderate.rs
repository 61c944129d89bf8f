//! Kicking, banning, and lifting a ban.

use ruma::{RoomId, UserId, events::room::member::MembershipState};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    lane::Lane,
    membership::MemberContent,
};

impl Rooms {
    /// Makes a member leave, or takes an invite back, or refuses a knock.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::Forbidden`] when the sender may not kick the target, or the target is not
    ///   there.
    pub async fn kick(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let lane = self.enter_as_member(sender, room_id).await?;
        match self.membership_now(&lane, target).await? {
            None | Some(MembershipState::Leave | MembershipState::Ban) => {
                return Err(RoomsError::forbidden(format!("{target} is not in the room")));
            }
            Some(_) => {}
        }
        let content = MemberContent::new(MembershipState::Leave).reason(reason);
        self.send_member(lane, sender, target, content).await?;
        Ok(())
    }

    /// Bans a user from a room, whether they are in it or not.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::Forbidden`] when the sender may not ban the target.
    pub async fn ban(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let lane = self.enter_as_member(sender, room_id).await?;
        let content = MemberContent::new(MembershipState::Ban).reason(reason);
        self.send_member(lane, sender, target, content).await?;
        Ok(())
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::BadState`] when the target is not banned.
    /// - [`RoomsError::Forbidden`] when the sender may not lift the ban.
    pub async fn unban(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        reason: Option<String>,
    ) -> Result<()> {
        let lane = self.enter_as_member(sender, room_id).await?;
        if self.membership_now(&lane, target).await? != Some(MembershipState::Ban) {
            return Err(RoomsError::BadState { why: format!("{target} is not banned") });
        }
        let content = MemberContent::new(MembershipState::Leave).reason(reason);
        self.send_member(lane, sender, target, content).await?;
        Ok(())
    }

    /// Enters the lane of a room whose members one may change only as one of them.
    async fn enter_as_member(&self, sender: &UserId, room_id: &RoomId) -> Result<Lane> {
        if let Some(room) = self.room(room_id).await? {
            // The target may be one of those that we have not been told of yet.
            self.wait_until_whole(&room).await;
        }
        let lane = self.enter(room_id).await?;
        match self.membership_now(&lane, sender).await? {
            Some(MembershipState::Join) => Ok(lane),
            _ => Err(RoomsError::forbidden("you are not in this room")),
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::events::room::member::MembershipState;

    use crate::{
        RoomsError,
        tests::life::{Home, membership},
    };

    #[tokio::test]
    async fn a_kicked_user_is_out_and_may_come_back() {
        let home = Home::new().await;
        let room = home.public_room("alice").await;
        home.join("bob", &room).await.unwrap();
        home.kick("alice", &room, "bob").await.unwrap();
        assert_eq!(membership(&home, "bob", &room).await, Some(MembershipState::Leave));
        let again = home.kick("alice", &room, "bob").await;
        assert!(matches!(again, Err(RoomsError::Forbidden { .. })), "{again:?}");
        home.join("bob", &room).await.unwrap();
    }

    #[tokio::test]
    async fn a_banned_user_cannot_rejoin_until_the_ban_is_lifted() {
        let home = Home::new().await;
        let room = home.public_room("alice").await;
        home.join("bob", &room).await.unwrap();
        home.ban("alice", &room, "bob").await.unwrap();
        let refused = home.join("bob", &room).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        let kicked = home.kick("alice", &room, "bob").await;
        assert!(matches!(kicked, Err(RoomsError::Forbidden { .. })), "a kick lifts no ban");
        home.unban("alice", &room, "bob").await.unwrap();
        let again = home.unban("alice", &room, "bob").await;
        assert!(matches!(again, Err(RoomsError::BadState { .. })), "{again:?}");
        home.join("bob", &room).await.unwrap();
    }

    #[tokio::test]
    async fn an_invite_can_be_taken_back() {
        let home = Home::new().await;
        let room = home.private_room("alice").await;
        home.invite("alice", &room, "bob").await.unwrap();
        home.kick("alice", &room, "bob").await.unwrap();
        assert!(home.join("bob", &room).await.is_err());
    }

    #[tokio::test]
    async fn members_without_power_moderate_nobody() {
        let home = Home::new().await;
        let room = home.public_room("alice").await;
        home.join("bob", &room).await.unwrap();
        home.join("carol", &room).await.unwrap();
        for refused in [
            home.kick("bob", &room, "carol").await,
            home.ban("bob", &room, "alice").await,
            home.kick("dave", &room, "carol").await,
        ] {
            assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        }
    }
}

//! Inviting a user into a room.

mod elsewhere;

use ruma::{RoomId, UserId, events::room::member::MembershipState};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    lane::Lane,
    membership::{MemberContent, Profile},
    new_event::to_raw,
};

impl Rooms {
    /// Invites a user into a room. Inviting again in the same words changes nothing. One of
    /// another server is invited through that server, which has to agree.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::Forbidden`] when the sender may not invite, or the target is joined or
    ///   banned.
    /// - [`RoomsError::Servers`] when the target's server does not agree.
    pub async fn invite(
        &self,
        sender: &UserId,
        room_id: &RoomId,
        target: &UserId,
        profile: Profile,
        reason: Option<String>,
        is_direct: bool,
    ) -> Result<()> {
        let content = MemberContent::new(MembershipState::Invite)
            .profile(profile)
            .reason(reason)
            .direct(is_direct);
        if !self.is_local(target) {
            self.invite_elsewhere(sender, room_id, target, to_raw(&content)?).await?;
            return Ok(());
        }
        let lane = self.enter(room_id).await?;
        self.check_may_invite(&lane, sender, target).await?;
        self.send_member(lane, sender, target, content).await?;
        Ok(())
    }

    /// Refuses an invite that makes no sense, whatever the rules of the room say.
    async fn check_may_invite(&self, lane: &Lane, sender: &UserId, target: &UserId) -> Result<()> {
        if self.membership_now(lane, sender).await? != Some(MembershipState::Join) {
            return Err(RoomsError::forbidden("you are not in this room"));
        }
        match self.membership_now(lane, target).await? {
            Some(MembershipState::Join) => {
                Err(RoomsError::forbidden(format!("{target} is in the room already")))
            }
            Some(MembershipState::Ban) => {
                Err(RoomsError::forbidden(format!("{target} is banned from the room")))
            }
            _ => Ok(()),
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
    async fn an_invite_is_made_once_and_says_who_is_invited() {
        let home = Home::new().await;
        let room = home.private_room("alice").await;
        home.invite("alice", &room, "bob").await.unwrap();
        let before = home.rooms.store().position();
        home.invite("alice", &room, "bob").await.unwrap();
        assert_eq!(home.rooms.store().position(), before);
        assert_eq!(membership(&home, "bob", &room).await, Some(MembershipState::Invite));
    }

    #[tokio::test]
    async fn only_members_invite_and_only_who_is_neither_joined_nor_banned() {
        let home = Home::new().await;
        let room = home.public_room("alice").await;
        for (sender, target) in [("bob", "carol"), ("alice", "alice")] {
            let refused = home.invite(sender, &room, target).await;
            assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        }
        home.ban("alice", &room, "bob").await.unwrap();
        let refused = home.invite("alice", &room, "bob").await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_user_of_another_server_is_not_invited_without_that_server() {
        let home = Home::new().await;
        let room = home.private_room("alice").await;
        let refused = home.invite("alice", &room, "@bob:elsewhere.example").await;
        assert!(matches!(refused, Err(RoomsError::Servers { .. })), "{refused:?}");
    }
}

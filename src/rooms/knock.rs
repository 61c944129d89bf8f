//! Knocking: asking to be invited into a room.

use ruma::{RoomId, UserId, events::room::member::MembershipState};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    membership::{MemberContent, Profile},
};

impl Rooms {
    /// Asks to be invited into a room.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::Forbidden`] when the room cannot be knocked on, or the user is joined,
    ///   invited or banned.
    pub async fn knock(
        &self,
        user: &UserId,
        room_id: &RoomId,
        profile: Profile,
        reason: Option<String>,
    ) -> Result<()> {
        let mut lane = self.enter(room_id).await?;
        let refused = match self.membership_now(&lane, user).await? {
            Some(MembershipState::Join) => Some("you are in this room already"),
            Some(MembershipState::Invite) => Some("you are invited to this room already"),
            Some(MembershipState::Ban) => Some("you are banned from this room"),
            _ => None,
        };
        if let Some(why) = refused {
            return Err(RoomsError::forbidden(why));
        }
        let content = MemberContent::new(MembershipState::Knock).profile(profile).reason(reason);
        self.send_member(&mut lane, user, user, content).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ruma::events::room::member::MembershipState;
    use serde_json::json;

    use crate::{
        Profile, RoomsError,
        tests::life::{Home, membership},
    };

    #[tokio::test]
    async fn a_knock_is_answered_by_an_invite_or_taken_back() {
        let home = Home::new().await;
        let room = home.private_room("alice").await;
        let bob = home.user("bob");
        let refused = home.rooms.knock(&bob, &room, Profile::default(), None).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        home.set("alice", &room, "m.room.join_rules", "", json!({ "join_rule": "knock" })).await;
        home.rooms.knock(&bob, &room, Profile::default(), None).await.unwrap();
        assert_eq!(membership(&home, "bob", &room).await, Some(MembershipState::Knock));
        home.leave("bob", &room).await.unwrap();
        home.rooms.knock(&bob, &room, Profile::default(), Some("please".to_owned())).await.unwrap();
        home.invite("alice", &room, "bob").await.unwrap();
        let refused = home.rooms.knock(&bob, &room, Profile::default(), None).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        home.join("bob", &room).await.unwrap();
        let refused = home.rooms.knock(&bob, &room, Profile::default(), None).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
    }
}

//! Telling all rooms of a user's new name or picture.

use ruma::{UserId, events::room::member::MembershipState};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    membership::{MemberContent, Profile},
};

impl Rooms {
    /// Makes a new member event in each room where a user is joined, as far as it says something
    /// new.
    ///
    /// # Errors
    /// [`RoomsError::Store`] and the like. A room that refuses the event is passed over.
    pub async fn set_profile(&self, user: &UserId, profile: &Profile) -> Result<()> {
        let memberships = self.memberships(user).await?;
        for record in memberships.joined() {
            let lane = self.enter(&record.room_id).await?;
            if self.membership_now(&lane, user).await? != Some(MembershipState::Join) {
                continue;
            }
            let content = MemberContent::new(MembershipState::Join).profile(profile.clone());
            match self.send_member(lane, user, user, content).await {
                Ok(_) => {}
                Err(error @ (RoomsError::Store(_) | RoomsError::Stopping)) => return Err(error),
                Err(error) => {
                    tracing::warn!(room.id = %record.room_id, %error, "a profile was refused");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ruma::events::room::member::MembershipState;

    use crate::{
        Profile,
        tests::life::{Home, membership},
    };

    #[tokio::test]
    async fn a_new_name_is_told_once_in_each_joined_room() {
        let home = Home::new().await;
        let (first, second) = (home.public_room("alice").await, home.public_room("alice").await);
        let left = home.public_room("carol").await;
        home.join("alice", &left).await.unwrap();
        home.leave("alice", &left).await.unwrap();
        let alice = home.user("alice");
        let profile = Profile { displayname: Some("Alice".to_owned()), avatar_url: None };
        home.rooms.set_profile(&alice, &profile).await.unwrap();
        for room in [&first, &second] {
            let members = home.rooms.joined_members(&alice, room).await.unwrap();
            assert_eq!(members, [(alice.clone(), profile.clone())]);
        }
        assert_eq!(membership(&home, "alice", &left).await, Some(MembershipState::Leave));
        let before = home.rooms.store().position();
        home.rooms.set_profile(&alice, &profile).await.unwrap();
        assert_eq!(home.rooms.store().position(), before);
    }
}

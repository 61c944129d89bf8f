//! Leaving a room, rejecting an invite, taking back a knock, and forgetting.

mod elsewhere;

use ruma::{OwnedUserId, RoomId, UserId, events::room::member::MembershipState};
use store::{Batch, Json, Stamped};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    log_row::{LOG_TOPIC, RoomsLogRow},
    membership::{MemberContent, Profile, handshake::Wish},
    remote::Step,
    tables::MEMBERSHIPS,
};

impl Rooms {
    /// Leaves a room, rejects an invite to it or takes back a knock. One who has left stays so,
    /// without a new event.
    ///
    /// An invite or a knock of a room that this server is not in is ended with the help of a server
    /// that is; where none helps, only here.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::NotJoined`] when the user never was in the room.
    /// - [`RoomsError::Forbidden`] when the user is banned.
    pub async fn leave(
        &self,
        user: &UserId,
        room_id: &RoomId,
        reason: Option<String>,
    ) -> Result<()> {
        let room = self.load_room(room_id).await?;
        if self.is_resident(&room).await? {
            return self.leave_here(user, room_id, reason).await;
        }
        let now = self.membership_anywhere(&room, user).await?;
        if !may_leave(user, room_id, now.as_ref())? {
            return Ok(());
        }
        let rooms = self.clone();
        let wish = Wish {
            user: user.to_owned(),
            room_id: room_id.to_owned(),
            step: Step::Leave,
            profile: Profile::default(),
            reason,
        };
        self.see_through(async move { rooms.leave_elsewhere(&room, wish).await }).await
    }

    /// Leaves a room that we may answer for.
    async fn leave_here(
        &self,
        user: &UserId,
        room_id: &RoomId,
        reason: Option<String>,
    ) -> Result<()> {
        let lane = self.enter(room_id).await?;
        let now = self.membership_now(&lane, user).await?;
        if !may_leave(user, room_id, now.as_ref())? {
            return Ok(());
        }
        let content = MemberContent::new(MembershipState::Leave).reason(reason);
        self.send_member(lane, user, user, content).await?;
        Ok(())
    }

    /// Leaves all rooms, rejects all invites and takes back all knocks of a user, as far as it
    /// goes.
    ///
    /// # Errors
    /// [`RoomsError::Store`] and the like. A room that does not let the user go is passed over.
    pub async fn leave_all(&self, user: &UserId) -> Result<()> {
        let memberships = self.memberships(user).await?;
        for record in memberships.iter() {
            if matches!(record.membership, MembershipState::Leave | MembershipState::Ban) {
                continue;
            }
            match self.leave(user, &record.room_id, None).await {
                Ok(()) => {}
                Err(error @ (RoomsError::Store(_) | RoomsError::Stopping)) => return Err(error),
                Err(error) => {
                    tracing::warn!(room.id = %record.room_id, %error, "a user could not leave");
                }
            }
        }
        Ok(())
    }

    /// Forgets a room that a user has left: they can no longer read it, until they are invited or
    /// join again.
    ///
    /// # Errors
    /// [`RoomsError::Invalid`] when the user is still joined, invited or knocking.
    pub async fn forget(&self, user: &UserId, room_id: &RoomId) -> Result<()> {
        let lane = self.enter(room_id).await?;
        let room = lane.room();
        let key = (user.as_str().to_owned(), room.number);
        let Some(old) = self.store().get(&MEMBERSHIPS, &key).await? else { return Ok(()) };
        if old.value.0.forgotten {
            return Ok(());
        }
        if !matches!(old.value.0.membership, MembershipState::Leave | MembershipState::Ban) {
            let membership = &old.value.0.membership;
            return Err(RoomsError::invalid(format!(
                "you cannot forget a room while your membership is {membership}"
            )));
        }
        let mut row = old.value.0.clone();
        row.forgotten = true;
        let user: OwnedUserId = user.to_owned();
        let log = RoomsLogRow::Forgotten {
            room: room.number,
            room_id: room.room_id.clone(),
            user: user.clone(),
        };
        let mut batch = Batch::new();
        batch.expect(&MEMBERSHIPS, &key, Some(&old));
        batch.put(&MEMBERSHIPS, &key, &Stamped { position: old.position, value: Json(row) });
        batch.log(LOG_TOPIC, log.encode()?);
        self.inner.caches.memberships.begin(&user);
        self.write(batch, lane.held.clone(), move |rooms, _| {
            rooms.inner.caches.memberships.drop_value(&user);
        })
        .await?;
        Ok(())
    }
}

/// Whether one of some membership has anything to leave.
fn may_leave(user: &UserId, room_id: &RoomId, now: Option<&MembershipState>) -> Result<bool> {
    match now {
        Some(MembershipState::Leave) => Ok(false),
        Some(MembershipState::Ban) => Err(RoomsError::forbidden("you are banned from this room")),
        Some(_) => Ok(true),
        None => Err(RoomsError::NotJoined { user: user.to_owned(), room: room_id.to_owned() }),
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
    async fn one_leaves_once_and_only_where_one_was() {
        let home = Home::new().await;
        let room = home.public_room("alice").await;
        let stranger = home.leave("bob", &room).await;
        assert!(matches!(stranger, Err(RoomsError::NotJoined { .. })), "{stranger:?}");
        home.join("bob", &room).await.unwrap();
        home.leave("bob", &room).await.unwrap();
        let before = home.rooms.store().position();
        home.leave("bob", &room).await.unwrap();
        assert_eq!(home.rooms.store().position(), before);
        assert_eq!(membership(&home, "bob", &room).await, Some(MembershipState::Leave));
    }

    #[tokio::test]
    async fn an_invite_can_be_rejected_and_made_again() {
        let home = Home::new().await;
        let room = home.private_room("alice").await;
        home.invite("alice", &room, "bob").await.unwrap();
        home.leave("bob", &room).await.unwrap();
        assert_eq!(membership(&home, "bob", &room).await, Some(MembershipState::Leave));
        assert!(home.join("bob", &room).await.is_err());
        home.invite("alice", &room, "bob").await.unwrap();
        home.join("bob", &room).await.unwrap();
    }

    #[tokio::test]
    async fn a_room_is_forgotten_only_when_left_and_comes_back_with_an_invite() {
        let home = Home::new().await;
        let room = home.public_room("alice").await;
        home.join("bob", &room).await.unwrap();
        let bob = home.user("bob");
        let still = home.rooms.forget(&bob, &room).await;
        assert!(matches!(still, Err(RoomsError::Invalid { .. })), "{still:?}");
        home.leave("bob", &room).await.unwrap();
        let left = home.rooms.memberships(&bob).await.unwrap();
        let position = left.by_id(&room).unwrap().position;
        home.rooms.forget(&bob, &room).await.unwrap();
        home.rooms.forget(&bob, &room).await.unwrap();
        let memberships = home.rooms.memberships(&bob).await.unwrap();
        let record = memberships.by_id(&room).unwrap();
        assert!(record.forgotten);
        assert_eq!(record.position, position);
        home.invite("alice", &room, "bob").await.unwrap();
        let memberships = home.rooms.memberships(&bob).await.unwrap();
        assert!(!memberships.by_id(&room).unwrap().forgotten);
    }

    #[tokio::test]
    async fn all_rooms_are_left_at_once_and_bans_stay() {
        let home = Home::new().await;
        let (joined, banned) = (home.public_room("alice").await, home.public_room("alice").await);
        let invited = home.private_room("alice").await;
        home.join("bob", &joined).await.unwrap();
        home.ban("alice", &banned, "bob").await.unwrap();
        home.invite("alice", &invited, "bob").await.unwrap();
        home.rooms.leave_all(&home.user("bob")).await.unwrap();
        assert_eq!(membership(&home, "bob", &joined).await, Some(MembershipState::Leave));
        assert_eq!(membership(&home, "bob", &invited).await, Some(MembershipState::Leave));
        assert_eq!(membership(&home, "bob", &banned).await, Some(MembershipState::Ban));
    }
}

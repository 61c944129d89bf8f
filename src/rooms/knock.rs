//! Knocking: asking to be invited into a room.

use ruma::{OwnedServerName, RoomId, ServerName, UserId, events::room::member::MembershipState};

use crate::{
    Received, Rooms,
    error::{Result, RoomsError},
    membership::{
        MemberContent, Profile,
        handshake::{Prepared, Setback, Turn, Wish},
        invited::keep,
        outside::{Outsider, Residency},
    },
    remote::Step,
};

impl Rooms {
    /// Asks to be invited into a room. Where this server is not in it, servers that are there are
    /// asked to take the knock: those in `via` first.
    ///
    /// # Errors
    /// - [`RoomsError::Forbidden`] when the room cannot be knocked on, or the user is joined,
    ///   invited or banned.
    /// - [`RoomsError::Servers`] when no server could help.
    pub async fn knock(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
        profile: Profile,
        reason: Option<String>,
    ) -> Result<()> {
        let residency = self.residency_in(room_id).await?;
        if residency == Residency::Inside {
            return self.knock_here(user, room_id, profile, reason).await;
        }
        if let Some(room) = self.room(room_id).await? {
            may_knock(self.membership_anywhere(&room, user).await?.as_ref())?;
        }
        let is_deserted = residency == Residency::Deserted;
        let servers = if is_deserted {
            self.helpers_back(user, room_id, via).await?
        } else {
            self.helpers(user, room_id, via).await?
        };
        let (room_id, user) = (room_id.to_owned(), user.to_owned());
        let wish = Wish { user, room_id, step: Step::Knock, profile, reason };
        let rooms = self.clone();
        self.see_through(async move { rooms.knock_elsewhere(servers, wish, is_deserted).await })
            .await
    }

    /// Knocks on a room that we may answer for.
    async fn knock_here(
        &self,
        user: &UserId,
        room_id: &RoomId,
        profile: Profile,
        reason: Option<String>,
    ) -> Result<()> {
        let lane = self.enter(room_id).await?;
        may_knock(self.membership_now(&lane, user).await?.as_ref())?;
        let content = MemberContent::new(MembershipState::Knock).profile(profile).reason(reason);
        self.send_member(lane, user, user, content).await?;
        Ok(())
    }

    /// Knocks with the help of other servers; on a room that we believe deserted, without it where
    /// none helps.
    async fn knock_elsewhere(
        &self,
        servers: Vec<OwnedServerName>,
        wish: Wish,
        is_deserted: bool,
    ) -> Result<()> {
        let mut turn =
            if is_deserted { Turn::brief(self, servers) } else { Turn::new(self, servers) };
        while let Some(server) = turn.next_server() {
            if turn.ask(self.knock_through(&server, &wish)).await?.is_some() {
                return Ok(());
            }
        }
        if is_deserted {
            return self.knock_here(&wish.user, &wish.room_id, wish.profile, wish.reason).await;
        }
        Err(turn.give_up())
    }

    async fn knock_through(&self, server: &ServerName, wish: &Wish) -> Result<(), Setback> {
        let Prepared { room, event } = self.prepare_with(server, wish).await?;
        let told = self.inner.config.remote.send_knock(server, &room, &event).await?;
        if self.room_if_resident(&room.room_id).await?.is_some() {
            // We have the room's state, which the knock changes like any other event.
            let event = self.verify_ours(&room, &event)?;
            return match self.receive_step(server, event).await? {
                Received::Known | Received::Accepted => Ok(()),
                Received::SoftFailed { why } | Received::Rejected { why } => {
                    Err(RoomsError::Forbidden { why }.into())
                }
                Received::NotOurs => Err(RoomsError::NotFound { what: "room" }.into()),
            };
        }
        let entrance = self.enter_any(&room.room_id, &room.version).await;
        let entrance = entrance.map_err(|error| Setback::blame(server, error))?;
        let outsider = Outsider {
            user: wish.user.clone(),
            event,
            server: server.to_owned(),
            state: keep(told),
        };
        self.put_outsider(entrance, outsider).await?;
        Ok(())
    }
}

/// Refuses one who has nothing to knock for.
fn may_knock(now: Option<&MembershipState>) -> Result<()> {
    let refused = match now {
        Some(MembershipState::Join) => "you are in this room already",
        Some(MembershipState::Invite) => "you are invited to this room already",
        Some(MembershipState::Ban) => "you are banned from this room",
        _ => return Ok(()),
    };
    Err(RoomsError::forbidden(refused))
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
        let refused = home.rooms.knock(&bob, &room, &[], Profile::default(), None).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        home.set("alice", &room, "m.room.join_rules", "", json!({ "join_rule": "knock" })).await;
        home.rooms.knock(&bob, &room, &[], Profile::default(), None).await.unwrap();
        assert_eq!(membership(&home, "bob", &room).await, Some(MembershipState::Knock));
        home.leave("bob", &room).await.unwrap();
        home.rooms
            .knock(&bob, &room, &[], Profile::default(), Some("please".to_owned()))
            .await
            .unwrap();
        home.invite("alice", &room, "bob").await.unwrap();
        let refused = home.rooms.knock(&bob, &room, &[], Profile::default(), None).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
        home.join("bob", &room).await.unwrap();
        let refused = home.rooms.knock(&bob, &room, &[], Profile::default(), None).await;
        assert!(matches!(refused, Err(RoomsError::Forbidden { .. })), "{refused:?}");
    }
}

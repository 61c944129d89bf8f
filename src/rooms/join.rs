//! Joining a room: public, invited to, or restricted to the members of other rooms; one that this
//! server is in, or one that others let it into.

mod adopt;
mod restricted;
#[cfg(test)]
mod tests;

use event::VerifiedPdu;
use ruma::{OwnedServerName, RoomId, ServerName, UserId, events::room::member::MembershipState};

use crate::{
    Received, Rooms,
    error::{Result, RoomsError},
    membership::{
        MemberContent, Profile,
        handshake::{Prepared, Setback, Turn, Wish},
        outside::Residency,
    },
    remote::{RemoteError, Step},
    room::Room,
};

impl Rooms {
    /// Joins a room. One who is joined stays so, without a new event.
    ///
    /// Where this server is not in the room, or cannot let the user in, servers that are there are
    /// asked: those in `via` first, then those that we know of.
    ///
    /// In a restricted room, one who is in a room that it names is let in by the server of a member
    /// with the power to invite.
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms)
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room here, and no server to be asked.
    /// - [`RoomsError::Forbidden`] when the room does not let the user in.
    /// - [`RoomsError::Servers`] when no server could help.
    pub async fn join(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
        profile: Profile,
        reason: Option<String>,
    ) -> Result<()> {
        if !self.is_local(user) {
            return Err(RoomsError::Remote { user: user.to_owned() });
        }
        let residency = self.residency_in(room_id).await?;
        if residency == Residency::Deserted {
            let servers = self.helpers_back(user, room_id, via).await?;
            let (room_id, user) = (room_id.to_owned(), user.to_owned());
            let wish = Wish { user, room_id, step: Step::Join, profile, reason };
            let rooms = self.clone();
            return self.see_through(async move { rooms.rejoin(servers, wish).await }).await;
        }
        let mut ours = None;
        if residency == Residency::Inside {
            let joined = self.join_here(user, room_id, profile.clone(), reason.clone()).await;
            match joined {
                Err(error @ (RoomsError::UnableToAuthorise | RoomsError::UnableToGrant)) => {
                    ours = Some(error);
                }
                done => return done,
            }
        }
        let servers = self.helpers(user, room_id, via).await?;
        if servers.is_empty() {
            return Err(match ours {
                Some(ours) => RoomsError::forbidden(ours.to_string()),
                None => RoomsError::NotFound { what: "room" },
            });
        }
        let (room_id, user) = (room_id.to_owned(), user.to_owned());
        let wish = Wish { user, room_id, step: Step::Join, profile, reason };
        let rooms = self.clone();
        self.see_through(async move { rooms.join_elsewhere(servers, wish).await }).await
    }

    /// Joins a room that we may answer for.
    async fn join_here(
        &self,
        user: &UserId,
        room_id: &RoomId,
        profile: Profile,
        reason: Option<String>,
    ) -> Result<()> {
        let lane = self.enter(room_id).await?;
        let via = match self.membership_now(&lane, user).await? {
            Some(MembershipState::Join) => return Ok(()),
            Some(MembershipState::Ban) => {
                return Err(RoomsError::forbidden("you are banned from this room"));
            }
            Some(MembershipState::Invite) => None,
            _ => self.authorising_member(lane.room(), lane.state(), user).await?,
        };
        let content = MemberContent::new(MembershipState::Join)
            .profile(profile)
            .reason(reason)
            .authorised_via(via.as_deref());
        self.send_member(lane, user, user, content).await?;
        Ok(())
    }

    /// Joins with the help of other servers.
    async fn join_elsewhere(&self, servers: Vec<OwnedServerName>, wish: Wish) -> Result<()> {
        let mut turn = Turn::new(self, servers);
        if self.join_in_turn(&mut turn, &wish).await? { Ok(()) } else { Err(turn.give_up()) }
    }

    /// Joins a room that we believe deserted. Others may have come back to it without our hearing
    /// of it: a join that does not follow what they have done since would leave us alone for ever.
    async fn rejoin(&self, servers: Vec<OwnedServerName>, wish: Wish) -> Result<()> {
        let mut turn = Turn::brief(self, servers);
        if self.join_in_turn(&mut turn, &wish).await? {
            return Ok(());
        }
        match self.join_here(&wish.user, &wish.room_id, wish.profile, wish.reason).await {
            Err(error @ (RoomsError::UnableToAuthorise | RoomsError::UnableToGrant)) => {
                Err(RoomsError::forbidden(error.to_string()))
            }
            done => done,
        }
    }

    async fn join_in_turn(&self, turn: &mut Turn<'_>, wish: &Wish) -> Result<bool> {
        while let Some(server) = turn.next_server() {
            if turn.ask(self.join_through(&server, wish)).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Joins with the help of one server.
    async fn join_through(&self, server: &ServerName, wish: &Wish) -> Result<(), Setback> {
        let Prepared { room, event } = self.prepare_with(server, wish).await?;
        let known = self.room_if_resident(&room.room_id).await?.is_some();
        let remote = &self.inner.config.remote;
        let answer = remote.send_join(server, &room, &event, true).await?;
        let event = self.signed_join(server, &room, event, answer.event.clone())?;
        if !known && self.adopt(server, &room, event.clone(), answer).await? {
            return Ok(());
        }
        // We are in the room, through somebody else: the join is an event like any other.
        match self.receive_step(server, event).await? {
            Received::Known | Received::Accepted => Ok(()),
            Received::SoftFailed { why } | Received::Rejected { why } => {
                Err(RoomsError::Forbidden { why }.into())
            }
            Received::NotOurs => Err(RoomsError::NotFound { what: "room" }.into()),
        }
    }

    /// Our join with all its signatures: in a restricted room the other server has added its own.
    fn signed_join(
        &self,
        server: &ServerName,
        room: &Room,
        ours: event::Pdu,
        theirs: Option<VerifiedPdu>,
    ) -> Result<VerifiedPdu, Setback> {
        if let Some(theirs) = theirs
            && room.rules.authorization.restricted_join_rule
        {
            if theirs.pdu().event_id == ours.event_id {
                return Ok(theirs);
            }
            let (server, why) = (server.to_owned(), "it gave back another join".to_owned());
            return Err(RemoteError::BadAnswer { server, why }.into());
        }
        self.verify_ours(room, &ours).map_err(|error| Setback::blame(server, error))
    }

    /// An event that we have signed, as one that was verified.
    pub(crate) fn verify_ours(&self, room: &Room, event: &event::Pdu) -> Result<VerifiedPdu> {
        let keys = self.inner.config.key.public_keys(self.server_name());
        Ok(event::verify(&event.json, &keys, &room.rules)?)
    }
}

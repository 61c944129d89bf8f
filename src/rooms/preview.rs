//! What may be told of a room to those who are not in it.

use ruma::{
    EventEncryptionAlgorithm, OwnedRoomId, OwnedServerName, RoomId, RoomOrAliasId, ServerName,
    UserId,
    events::{
        StateEventType,
        room::{
            join_rules::{AllowRule, JoinRule, RoomJoinRulesEventContent},
            member::MembershipState,
        },
    },
    room::{JoinRuleSummary, RoomSummary},
};
use serde::Deserialize;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    hierarchy::remote::ServerHierarchy,
    room::Room,
    tables::StateRoot,
};

/// Who wants to know of a room.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    /// A user of this server.
    User(&'a UserId),
    /// Another server, for its users.
    Server(&'a ServerName),
    /// Someone who has no account.
    Anybody,
}

/// Most servers that are asked about one room.
pub(crate) const SERVERS_ASKED_MAX: usize = 3;

/// A room as its members, and those who might join it, may see it from outside.
#[derive(Clone, Debug)]
pub struct Preview {
    /// What is told.
    pub summary: RoomSummary,
    /// What the asker is in the room, where the asker is a user of ours who ever was anything.
    pub membership: Option<MembershipState>,
}

impl Rooms {
    /// What a room looks like from outside, asking the servers in `via` where we are not in it.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias)
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when there is no such room, or the asker may not know of it.
    pub async fn room_summary(
        &self,
        asker: Asker<'_>,
        room: &RoomOrAliasId,
        via: &[OwnedServerName],
    ) -> Result<Preview> {
        let not_found = || RoomsError::NotFound { what: "room" };
        let is_elsewhere = <&ruma::RoomAliasId>::try_from(room)
            .is_ok_and(|alias| alias.server_name() != self.server_name());
        if is_elsewhere && matches!(asker, Asker::Anybody) {
            // Strangers don't make us call others.
            return Err(not_found());
        }
        let (room_id, mut servers) = self.find_room(room).await?;
        servers.extend_from_slice(via);
        let membership = match asker {
            Asker::User(user) => self
                .memberships(user)
                .await?
                .by_id(&room_id)
                .map(|record| record.membership.clone()),
            Asker::Server(_) | Asker::Anybody => None,
        };
        if let Some(room) = self.known_state(&room_id).await? {
            if !self.may_preview(asker, &room).await? {
                return Err(not_found());
            }
            return Ok(Preview { summary: self.preview(&room).await?, membership });
        }
        if matches!(asker, Asker::Anybody) {
            return Err(not_found());
        }
        let answer = self.remote_hierarchy(&room_id, &servers, false).await;
        let Some(ServerHierarchy { room: told, .. }) = answer else { return Err(not_found()) };
        if !self.may_see_remote(asker, &told.summary).await? {
            return Err(not_found());
        }
        Ok(Preview { summary: told.summary, membership })
    }

    /// The room of an ID or alias, and servers that know it.
    async fn find_room(&self, room: &RoomOrAliasId) -> Result<(OwnedRoomId, Vec<OwnedServerName>)> {
        if let Ok(room_id) = <&RoomId>::try_from(room) {
            return Ok((room_id.to_owned(), Vec::new()));
        }
        let alias = <&ruma::RoomAliasId>::try_from(room)
            .map_err(|error| RoomsError::invalid_param(error.to_string()))?;
        if alias.server_name() == self.server_name() {
            let found = self.resolve_alias(alias).await?;
            return found.ok_or(RoomsError::NotFound { what: "alias" });
        }
        let found = self.inner.config.remote.resolve_alias(alias).await;
        let found = found.map_err(|_| RoomsError::NotFound { what: "alias" })?;
        Ok((found.room_id, found.servers))
    }

    /// A room whose current state we have.
    pub(crate) async fn known_state(
        &self,
        room_id: &RoomId,
    ) -> Result<Option<std::sync::Arc<Room>>> {
        let Some(room) = self.room(room_id).await? else { return Ok(None) };
        let root = self.current_state(&room).await?;
        Ok((root != StateRoot::EMPTY).then_some(room))
    }

    /// What is told of a room whose state we have.
    pub(crate) async fn preview(&self, room: &Room) -> Result<RoomSummary> {
        #[derive(Deserialize)]
        struct Encryption {
            algorithm: EventEncryptionAlgorithm,
        }
        let entry = self.directory_entry(room.number).await?;
        let root = self.current_state(room).await?;
        let rule = match self.join_rule(room, root).await? {
            Some(rule) => JoinRuleSummary::from(rule),
            None => JoinRuleSummary::Invite,
        };
        let encryption = self.state_event(room, root, &StateEventType::RoomEncryption, "").await?;
        let mut summary = RoomSummary::new(
            room.room_id.clone(),
            rule,
            entry.guest_can_join,
            entry.num_joined_members,
            entry.world_readable,
        );
        summary.canonical_alias = entry.canonical_alias;
        summary.name = entry.name;
        summary.topic = entry.topic;
        summary.avatar_url = entry.avatar_url;
        summary.room_type = entry.room_type;
        summary.encryption = encryption
            .and_then(|event| event.content_as::<Encryption>().ok())
            .map(|content| content.algorithm);
        summary.room_version = Some(room.version.clone());
        Ok(summary)
    }

    /// The join rule in a state.
    async fn join_rule(&self, room: &Room, root: StateRoot) -> Result<Option<JoinRule>> {
        let event = self.state_event(room, root, &StateEventType::RoomJoinRules, "").await?;
        let content = event.and_then(|event| event.content_as::<RoomJoinRulesEventContent>().ok());
        Ok(content.map(|content| content.join_rule))
    }

    /// Whether someone may know what a room looks like: everybody of rooms that they could join,
    /// knock on or read, others of rooms that they are in or invited to.
    pub(crate) async fn may_preview(&self, asker: Asker<'_>, room: &Room) -> Result<bool> {
        let root = self.current_state(room).await?;
        let allowed = match self.join_rule(room, root).await? {
            Some(JoinRule::Public | JoinRule::Knock | JoinRule::KnockRestricted(_)) => {
                return Ok(true);
            }
            Some(JoinRule::Restricted(restricted)) => restricted.allow,
            _ => Vec::new(),
        };
        if self.is_world_readable(room).await? {
            return Ok(true);
        }
        match asker {
            Asker::Anybody => Ok(false),
            Asker::User(user) => {
                let memberships = self.memberships(user).await?;
                let inside = memberships.get(room.number).is_some_and(|record| {
                    matches!(record.membership, MembershipState::Join | MembershipState::Invite)
                });
                Ok(inside || self.is_in_one_of(user, &rooms_of(&allowed)).await?)
            }
            Asker::Server(server) => {
                if self.has_member_of(server, room).await? {
                    return Ok(true);
                }
                for other in rooms_of(&allowed) {
                    let Some(other) = self.known_state(&other).await? else { continue };
                    if self.has_member_of(server, &other).await? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Whether someone may see what another server told us of a room.
    pub(crate) async fn may_see_remote(
        &self,
        asker: Asker<'_>,
        summary: &RoomSummary,
    ) -> Result<bool> {
        let allowed = match &summary.join_rule {
            JoinRuleSummary::Public
            | JoinRuleSummary::Knock
            | JoinRuleSummary::KnockRestricted(_) => return Ok(true),
            JoinRuleSummary::Restricted(restricted) => restricted.allowed_room_ids.clone(),
            _ => Vec::new(),
        };
        if summary.world_readable {
            return Ok(true);
        }
        let Asker::User(user) = asker else { return Ok(false) };
        let invited = self.memberships(user).await?.by_id(&summary.room_id).is_some_and(|record| {
            matches!(record.membership, MembershipState::Join | MembershipState::Invite)
        });
        Ok(invited || self.is_in_one_of(user, &allowed).await?)
    }

    async fn is_in_one_of(&self, user: &UserId, rooms: &[OwnedRoomId]) -> Result<bool> {
        let memberships = self.memberships(user).await?;
        Ok(memberships.joined().any(|record| rooms.contains(&record.room_id)))
    }

    /// Whether a user of a server is joined to a room.
    async fn has_member_of(&self, server: &ServerName, room: &Room) -> Result<bool> {
        let users = self.joined_users(room).await?;
        Ok(users.iter().any(|user| user.server_name() == server))
    }
}

/// The rooms whose members may join.
fn rooms_of(allow: &[AllowRule]) -> Vec<OwnedRoomId> {
    allow
        .iter()
        .filter_map(|rule| match rule {
            AllowRule::RoomMembership(other) => Some(other.room_id.clone()),
            _ => None,
        })
        .collect()
}

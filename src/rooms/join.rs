//! Joining a room: public, invited to, or restricted to the members of other rooms.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ruma::{
    OwnedUserId, RoomId, UserId,
    events::{
        StateEventType,
        room::{
            join_rules::{AllowRule, JoinRule, RoomJoinRulesEventContent},
            member::MembershipState,
        },
    },
    state_res::events::RoomPowerLevelsIntField,
};
use serde::{Deserialize, de::IgnoredAny};
use store::Page;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    lane::Lane,
    membership::{MemberContent, Profile},
    tables::ROOM_MEMBERS,
};

/// How many members are looked at to find one who may invite, besides those named in the power
/// levels.
const INVITERS_MAX: usize = 256;

impl Rooms {
    /// Joins a room. One who is joined stays so, without a new event.
    ///
    /// In a restricted room, one who is in a room that it names is let in by the server of a member
    /// with the power to invite.
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms)
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such room.
    /// - [`RoomsError::Forbidden`] when the room does not let the user in.
    pub async fn join(
        &self,
        user: &UserId,
        room_id: &RoomId,
        profile: Profile,
        reason: Option<String>,
    ) -> Result<()> {
        let mut lane = self.enter(room_id).await?;
        let via = match self.membership_now(&lane, user).await? {
            Some(MembershipState::Join) => return Ok(()),
            Some(MembershipState::Ban) => {
                return Err(RoomsError::forbidden("you are banned from this room"));
            }
            Some(MembershipState::Invite) => None,
            _ => self.authorising_user(&lane, user).await?,
        };
        let content = MemberContent::new(MembershipState::Join)
            .profile(profile)
            .reason(reason)
            .authorised_via(via.as_deref());
        self.send_member(&mut lane, user, user, content).await?;
        Ok(())
    }

    /// In a restricted room, the local member by whose power a user may join. `None` where none is
    /// needed.
    pub(crate) async fn authorising_user(
        &self,
        lane: &Lane,
        user: &UserId,
    ) -> Result<Option<OwnedUserId>> {
        let Some(allow) = self.allow_rules(lane).await? else { return Ok(None) };
        let memberships = self.memberships(user).await?;
        let allowed = allow.iter().any(|rule| match rule {
            AllowRule::RoomMembership(other) => memberships
                .by_id(&other.room_id)
                .is_some_and(|record| record.membership == MembershipState::Join),
            _ => false,
        });
        if !allowed {
            return Err(RoomsError::forbidden(
                "you are in none of the rooms whose members may join this one",
            ));
        }
        match self.find_inviter(lane).await? {
            Some(inviter) => Ok(Some(inviter)),
            None => Err(RoomsError::forbidden(
                "nobody on this server has the power to let you into this room",
            )),
        }
    }

    /// Who may join without an invite, where the room is restricted.
    async fn allow_rules(&self, lane: &Lane) -> Result<Option<Vec<AllowRule>>> {
        let rules = &lane.room().rules.authorization;
        let kind = StateEventType::RoomJoinRules;
        let event = self.state_event(lane.room(), lane.state(), &kind, "").await?;
        let content = event.and_then(|event| event.content_as::<RoomJoinRulesEventContent>().ok());
        Ok(match content.map(|content| content.join_rule) {
            Some(JoinRule::Restricted(allow)) if rules.restricted_join_rule => Some(allow.allow),
            Some(JoinRule::KnockRestricted(allow)) if rules.knock_restricted_join_rule => {
                Some(allow.allow)
            }
            _ => None,
        })
    }

    /// A joined user of this server who may invite. First those whom the power levels or the create
    /// event name are tried.
    async fn find_inviter(&self, lane: &Lane) -> Result<Option<OwnedUserId>> {
        let room = lane.room();
        let powers = self.powers(room, lane.state()).await?;
        let may_invite = |user: &UserId| {
            self.is_local(user) && powers.may(user, RoomPowerLevelsIntField::Invite)
        };
        let join = MembershipState::Join.to_string();
        let named = self.powerful_users(lane).await?;
        let rows: Vec<_> = named
            .into_iter()
            .filter(|user| may_invite(user))
            .map(|user| (room.number, join.clone(), user.to_string()))
            .collect();
        let joined = self.store().multi_get(&ROOM_MEMBERS, &rows).await?;
        let found = rows.iter().zip(joined).find(|(_, event)| event.is_some());
        if let Some(((_, _, user), _)) = found {
            return Ok(user.as_str().try_into().ok());
        }
        let range = ROOM_MEMBERS.prefix(&(room.number, join));
        let members = self.store().scan(&ROOM_MEMBERS, range, Page::first(INVITERS_MAX)).await?;
        let users = members.into_iter().filter_map(|((_, _, user), _)| user.try_into().ok());
        Ok(users.into_iter().find(|user: &OwnedUserId| may_invite(user)))
    }

    /// The users that the power levels or the create event name.
    async fn powerful_users(&self, lane: &Lane) -> Result<Vec<OwnedUserId>> {
        #[derive(Deserialize)]
        struct Levels {
            #[serde(default)]
            users: BTreeMap<String, IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct Create {
            #[serde(default)]
            additional_creators: Vec<String>,
        }
        let (room, root) = (lane.room(), lane.state());
        let mut users = Vec::new();
        let levels = self.state_event(room, root, &StateEventType::RoomPowerLevels, "").await?;
        if let Some(Ok(levels)) = levels.map(|event| event.content_as::<Levels>()) {
            users.extend(levels.users.into_keys());
        }
        if let Some(create) = self.state_event(room, root, &StateEventType::RoomCreate, "").await? {
            users.push(create.sender.to_string());
            if let Ok(content) = create.content_as::<Create>() {
                users.extend(content.additional_creators);
            }
        }
        Ok(users.into_iter().filter_map(|user| user.try_into().ok()).collect())
    }
}

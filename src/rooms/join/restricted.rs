//! Joins without an invite that are allowed to the members of other rooms.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms)

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UserId,
    events::{StateEventType, room::member::MembershipState},
    state_res::events::RoomPowerLevelsIntField,
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value as JsonValue};
use store::Page;

use crate::{
    Rooms,
    error::{Result, RoomsError},
    room::Room,
    tables::{ROOM_MEMBERS, StateRoot},
};

/// How many members are looked at to find one who may invite, besides those named in the power
/// levels.
const INVITERS_MAX: usize = 256;

/// How many conditions of one room are looked at.
const CONDITIONS_MAX: usize = 100;

/// Whether we see that a user is in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// They are.
    In,
    /// They are not.
    NotIn,
    /// We are not in the room ourselves.
    Unknown,
}

impl Rooms {
    /// In a restricted room, the local member by whose power a user may join. `None` where none is
    /// needed.
    ///
    /// # Errors
    /// - [`RoomsError::Forbidden`] when the user is in none of the rooms named.
    /// - [`RoomsError::UnableToAuthorise`] when we are in none of them, so that we cannot tell.
    /// - [`RoomsError::UnableToGrant`] when nobody here has the power to let the user in.
    pub(crate) async fn authorising_member(
        &self,
        room: &Room,
        root: StateRoot,
        user: &UserId,
    ) -> Result<Option<OwnedUserId>> {
        let Some(allow) = self.conditions(room, root).await? else { return Ok(None) };
        let mut unknown = !allow.is_empty();
        let mut allowed = false;
        for other in &allow {
            match self.is_seen_in(other, user).await? {
                Seen::In => allowed = true,
                Seen::NotIn => unknown = false,
                Seen::Unknown => {}
            }
            if allowed {
                break;
            }
        }
        if !allowed && unknown {
            return Err(RoomsError::UnableToAuthorise);
        }
        if !allowed {
            return Err(RoomsError::forbidden(
                "only the members of certain other rooms may join this one",
            ));
        }
        self.find_inviter(room, root).await?.map(Some).ok_or(RoomsError::UnableToGrant)
    }

    /// Whether a user is joined to a room, as far as we can see. All rooms of our own users are
    /// known to us.
    async fn is_seen_in(&self, room_id: &RoomId, user: &UserId) -> Result<Seen> {
        let membership = match self.room_if_resident(room_id).await? {
            Some(room) => {
                let root = self.current_state(&room).await?;
                let kind = StateEventType::RoomMember;
                let event = self.state_event(&room, root, &kind, user.as_str()).await?;
                if event.is_none() && self.is_partial(room.number) {
                    return Ok(Seen::Unknown);
                }
                event.and_then(|event| event.membership())
            }
            None if self.is_local(user) => None,
            None => return Ok(Seen::Unknown),
        };
        Ok(if membership == Some(MembershipState::Join) { Seen::In } else { Seen::NotIn })
    }

    /// The rooms whose members may join without an invite, where the room is restricted. What is
    /// malformed among them lets nobody in.
    async fn conditions(&self, room: &Room, root: StateRoot) -> Result<Option<Vec<OwnedRoomId>>> {
        let rules = &room.rules.authorization;
        let kind = StateEventType::RoomJoinRules;
        let Some(event) = self.state_event(room, root, &kind, "").await? else { return Ok(None) };
        let content: Map<String, JsonValue> = event.content_as().unwrap_or_default();
        let text = |value: Option<&JsonValue>| value.and_then(JsonValue::as_str).map(str::to_owned);
        let restricted = match text(content.get("join_rule")).as_deref() {
            Some("restricted") => rules.restricted_join_rule,
            Some("knock_restricted") => rules.knock_restricted_join_rule,
            _ => false,
        };
        if !restricted {
            return Ok(None);
        }
        let entries = content.get("allow").and_then(JsonValue::as_array);
        let rooms = entries.into_iter().flatten().filter_map(|entry| {
            let is_room = text(entry.get("type")).as_deref() == Some("m.room_membership");
            let room_id = text(entry.get("room_id")).filter(|_| is_room)?;
            OwnedRoomId::try_from(room_id).ok()
        });
        Ok(Some(rooms.take(CONDITIONS_MAX).collect()))
    }

    /// A joined user of this server who may invite. First those whom the power levels or the create
    /// event name are tried.
    async fn find_inviter(&self, room: &Room, root: StateRoot) -> Result<Option<OwnedUserId>> {
        let powers = self.powers(room, root).await?;
        let may_invite = |user: &UserId| {
            self.is_local(user) && powers.may(user, RoomPowerLevelsIntField::Invite)
        };
        let join = MembershipState::Join.to_string();
        let named = self.powerful_users(room, root).await?;
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
    async fn powerful_users(&self, room: &Room, root: StateRoot) -> Result<Vec<OwnedUserId>> {
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

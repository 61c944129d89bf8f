//! A room in short: for those who sync without its members, and for those who are invited.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use event::Pdu;
use ruma::{
    OwnedUserId, UserId,
    events::{AnyStrippedStateEvent, StateEventType, room::member::MembershipState},
    serde::Raw,
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;
use store::Position;

use crate::{
    Rooms,
    error::Result,
    new_event::to_raw,
    room::Room,
    state::StateSelect,
    stored_event::StoredEvent,
    tables::{EventNumber, StateRoot},
};

/// How many heroes a room without a name has.
const HEROES_MAX: usize = 5;

/// How many members of each membership are looked at for heroes.
const CANDIDATES_MAX: usize = 512;

/// What a client needs to name a room whose members it does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Up to five other members; empty where the room has a name or a canonical alias.
    pub heroes: Vec<OwnedUserId>,
    /// How many users are joined.
    pub joined_count: u64,
    /// How many users are invited.
    pub invited_count: u64,
}

impl Rooms {
    /// A room in short, as it is now.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3sync_response-200_roomsummary)
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn summary(&self, room: &Room, viewer: &UserId) -> Result<Summary> {
        let head = self.head(room.number).await?;
        let heroes = if self.has_name(room, head.state()).await? {
            Vec::new()
        } else {
            self.heroes(room, viewer).await?
        };
        let (joined_count, invited_count) = (head.joined_count(), head.invited_count());
        Ok(Summary { heroes, joined_count, invited_count })
    }

    /// Whether a room needs no heroes to be named.
    pub(crate) async fn has_name(&self, room: &Room, root: StateRoot) -> Result<bool> {
        #[derive(Deserialize)]
        struct Content {
            #[serde(default)]
            name: Option<String>,
            #[serde(default)]
            alias: Option<String>,
        }
        let select = StateSelect::Keys(vec![
            (StateEventType::RoomName, String::new()),
            (StateEventType::RoomCanonicalAlias, String::new()),
        ]);
        let events = self.state_events(room, root, &select).await?;
        Ok(events.iter().any(|event| {
            event.content_as::<Content>().is_ok_and(|content| {
                content.name.or(content.alias).is_some_and(|name| !name.is_empty())
            })
        }))
    }

    /// The first members besides the viewer: joined or invited ones, or else those who were there.
    async fn heroes(&self, room: &Room, viewer: &UserId) -> Result<Vec<OwnedUserId>> {
        for memberships in [
            [MembershipState::Join, MembershipState::Invite],
            [MembershipState::Leave, MembershipState::Ban],
        ] {
            let mut found: Vec<(EventNumber, OwnedUserId)> = Vec::new();
            for membership in memberships {
                let members = self.members_with(room, &membership, CANDIDATES_MAX).await?;
                found.extend(members.into_iter().map(|(user, event)| (event, user)));
            }
            found.retain(|(_, user)| *user != viewer);
            found.sort_unstable();
            found.truncate(HEROES_MAX);
            if !found.is_empty() {
                return Ok(found.into_iter().map(|(_, user)| user).collect());
            }
        }
        Ok(Vec::new())
    }

    /// What someone who is invited to a room or knocks on it is told of it: a few state events, and
    /// the members concerned. `member_event` is the invite or the knock.
    ///
    /// The create event is there as a whole, since from room version 12 on the room's ID is its
    /// hash.
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#stripped-state)
    ///
    /// # Errors
    /// [`crate::RoomsError::Store`].
    pub async fn stripped_state(
        &self,
        room: &Room,
        member_event: &StoredEvent,
    ) -> Result<Vec<Raw<AnyStrippedStateEvent>>> {
        if member_event.position == Position::ZERO {
            return self.state_told_outside(room, member_event).await;
        }
        let keys = stripped_keys(&member_event.pdu);
        let root = member_event.state_after;
        let events = self.state_events(room, root, &StateSelect::Keys(keys)).await?;
        events.iter().map(|event| Ok(Raw::from_json(stripped(event)?))).collect()
    }
}

/// The keys of the state events that one who is outside of a room is told, by whom a member event
/// concerns.
pub(crate) fn stripped_keys(member_event: &Pdu) -> Vec<(StateEventType, String)> {
    let kinds = [
        StateEventType::RoomCreate,
        StateEventType::RoomJoinRules,
        StateEventType::RoomName,
        StateEventType::RoomAvatar,
        StateEventType::RoomTopic,
        StateEventType::RoomCanonicalAlias,
        StateEventType::RoomEncryption,
    ];
    let mut keys: Vec<_> = kinds.into_iter().map(|kind| (kind, String::new())).collect();
    let target = member_event.state_key.as_deref().unwrap_or_default();
    for user in BTreeSet::from([member_event.sender.as_str(), target]) {
        keys.push((StateEventType::RoomMember, user.to_owned()));
    }
    keys
}

/// The stripped form of a state event; the whole one of a create event.
pub(crate) fn stripped(event: &Pdu) -> Result<Box<RawJsonValue>> {
    #[derive(serde::Serialize)]
    struct Stripped<'a> {
        content: &'a RawJsonValue,
        sender: &'a UserId,
        state_key: &'a str,
        #[serde(rename = "type")]
        kind: String,
    }
    if event.kind == ruma::events::TimelineEventType::RoomCreate {
        let json = event.sync_json();
        return Ok(
            RawJsonValue::from_string(json.as_ref().to_owned()).map_err(event::EventError::from)?
        );
    }
    to_raw(&Stripped {
        content: &event.content,
        sender: &event.sender,
        state_key: event.state_key.as_deref().unwrap_or_default(),
        kind: event.kind.to_string(),
    })
}

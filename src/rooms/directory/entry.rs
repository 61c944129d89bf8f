//! What the directory tells of one room.

use event::Pdu;
use ruma::{
    UInt,
    directory::{Filter, PublicRoomsChunk, PublicRoomsChunkInit, RoomTypeFilter},
    events::{StateEventType, room::history_visibility::HistoryVisibility},
    room::{JoinRuleKind, RoomType},
};
use serde::Deserialize;

use crate::{
    Rooms, error::Result, state::StateSelect, tables::RoomNumber, visibility::visibility_in,
};

/// The parts of state events that are told.
#[derive(Debug, Default, Deserialize)]
struct Content {
    alias: Option<String>,
    guest_access: Option<String>,
    join_rule: Option<String>,
    name: Option<String>,
    topic: Option<String>,
    url: Option<String>,
    #[serde(rename = "type")]
    room_type: Option<String>,
}

impl Rooms {
    /// What the directory tells of a room.
    pub(crate) async fn directory_entry(&self, number: RoomNumber) -> Result<PublicRoomsChunk> {
        let room = self.room_by_number(number).await?;
        let head = self.head(number).await?;
        let kinds = [
            StateEventType::RoomCreate,
            StateEventType::RoomName,
            StateEventType::RoomTopic,
            StateEventType::RoomCanonicalAlias,
            StateEventType::RoomAvatar,
            StateEventType::RoomJoinRules,
            StateEventType::RoomHistoryVisibility,
            StateEventType::RoomGuestAccess,
        ];
        let keys = kinds.into_iter().map(|kind| (kind, String::new())).collect();
        let state = self.state_events(&room, head.state(), &StateSelect::Keys(keys)).await?;
        let mut entry = PublicRoomsChunk::from(PublicRoomsChunkInit {
            num_joined_members: UInt::new_saturating(head.joined_count()),
            room_id: room.room_id.clone(),
            world_readable: false,
            guest_can_join: false,
        });
        entry.join_rule = JoinRuleKind::Invite;
        for event in state {
            tell(&mut entry, &event);
        }
        Ok(entry)
    }
}

/// Adds to an entry what one state event says.
fn tell(entry: &mut PublicRoomsChunk, event: &Pdu) {
    let content: Content = event.content_as().unwrap_or_default();
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    match StateEventType::from(event.kind.to_string()) {
        StateEventType::RoomCreate => entry.room_type = content.room_type.map(RoomType::from),
        StateEventType::RoomName => entry.name = text(content.name),
        StateEventType::RoomTopic => entry.topic = text(content.topic),
        StateEventType::RoomCanonicalAlias => {
            entry.canonical_alias = content.alias.and_then(|alias| alias.try_into().ok());
        }
        StateEventType::RoomAvatar => entry.avatar_url = text(content.url).map(Into::into),
        StateEventType::RoomJoinRules => {
            if let Some(join_rule) = content.join_rule {
                entry.join_rule = join_rule.into();
            }
        }
        StateEventType::RoomHistoryVisibility => {
            entry.world_readable = visibility_in(event) == HistoryVisibility::WorldReadable;
        }
        StateEventType::RoomGuestAccess => {
            entry.guest_can_join = content.guest_access.as_deref() == Some("can_join");
        }
        _ => {}
    }
}

/// Whether a room is one of those looked for. Upper and lower case are alike.
pub(super) fn matches(entry: &PublicRoomsChunk, filter: &Filter) -> bool {
    let room_type = RoomTypeFilter::from(entry.room_type.clone());
    if !filter.room_types.is_empty() && !filter.room_types.contains(&room_type) {
        return false;
    }
    let Some(term) = filter.generic_search_term.as_deref().filter(|term| !term.is_empty()) else {
        return true;
    };
    let term = term.to_lowercase();
    let alias = entry.canonical_alias.as_ref().map(|alias| alias.as_str());
    [entry.name.as_deref(), entry.topic.as_deref(), alias]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(&term))
}

//! The contents of a new room's first events.

use ruma::events::{
    StateEventType,
    room::{member::MembershipState, topic::RoomTopicEventContent},
};
use serde_json::{Value as JsonValue, json, value::RawValue as RawJsonValue};

use crate::{
    Rooms,
    create::{
        RoomPreset,
        validate::{JsonMap, Plan},
    },
    error::Result,
    membership::Profile,
    new_event::{NewEvent, to_raw},
};

/// What a room's creator, and whoever is trusted like them, may do.
const CREATOR_LEVEL: i64 = 100;

/// What it takes to replace a room where creators stand above all levels.
const TOMBSTONE_LEVEL: i64 = 150;

impl Plan {
    /// The content of the create event.
    pub(super) fn create_content(&self) -> Result<Box<RawJsonValue>> {
        let mut content = self.creation_content.clone();
        content.insert("room_version".to_owned(), json!(self.version));
        content.remove("creator");
        if !self.rules.authorization.use_room_create_sender {
            content.insert("creator".to_owned(), json!(self.creator));
        }
        if self.rules.authorization.additional_room_creators {
            content.remove("additional_creators");
            let creators = self.additional_creators()?;
            if !creators.is_empty() {
                content.insert("additional_creators".to_owned(), json!(creators));
            }
        }
        to_raw(&content)
    }

    /// All events after the create event, in order; without the invites of other servers' users.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3createroom)
    pub(super) fn events(&self, rooms: &Rooms) -> Result<Vec<NewEvent>> {
        let mut events = Vec::new();
        let mut put = |kind: StateEventType, key: &str, content: JsonValue| -> Result<()> {
            events.push(NewEvent::state(kind, key, to_raw(&content)?));
            Ok(())
        };
        let join = member(MembershipState::Join, &self.wish.creator_profile, false);
        put(StateEventType::RoomMember, self.creator.as_str(), join)?;
        put(StateEventType::RoomPowerLevels, "", JsonValue::Object(self.power_levels()?))?;
        if let Some(alias) = &self.alias {
            put(StateEventType::RoomCanonicalAlias, "", json!({ "alias": alias }))?;
        }
        for (kind, content) in self.preset_state() {
            let wished =
                |(other, key, _): &(StateEventType, String, _)| *other == kind && key.is_empty();
            if !self.wish.initial_state.iter().any(wished) {
                put(kind, "", content)?;
            }
        }
        for (kind, key, content) in &self.wish.initial_state {
            events.push(NewEvent::state(kind.clone(), key, content.clone()));
        }
        let mut put = |kind: StateEventType, key: &str, content: Box<RawJsonValue>| {
            events.push(NewEvent::state(kind, key, content));
        };
        if let Some(name) = &self.wish.name {
            put(StateEventType::RoomName, "", to_raw(&json!({ "name": name }))?);
        }
        if let Some(topic) = &self.wish.topic {
            let content = to_raw(&RoomTopicEventContent::new(topic.clone()))?;
            put(StateEventType::RoomTopic, "", content);
        }
        for (user, profile) in self.wish.invites.iter().filter(|(user, _)| rooms.is_local(user)) {
            let invite = member(MembershipState::Invite, profile, self.wish.is_direct);
            put(StateEventType::RoomMember, user.as_str(), to_raw(&invite)?);
        }
        Ok(events)
    }

    /// The power levels: ours, and on top of them those wished.
    fn power_levels(&self) -> Result<JsonMap> {
        let open = self.preset == RoomPreset::PublicChat;
        let mut users = JsonMap::new();
        if !self.privileged() {
            users.insert(self.creator.to_string(), json!(CREATOR_LEVEL));
            if self.preset == RoomPreset::TrustedPrivateChat {
                let level = |user: &ruma::OwnedUserId| (user.to_string(), json!(CREATOR_LEVEL));
                users.extend(self.wish.invites.iter().map(|(user, _)| level(user)));
            }
        }
        let tombstone = if self.privileged() { TOMBSTONE_LEVEL } else { CREATOR_LEVEL };
        let ours = json!({
            "users": users,
            "users_default": 0,
            "events": {
                "m.room.avatar": 50,
                "m.room.canonical_alias": 50,
                "m.room.encryption": 100,
                "m.room.history_visibility": 100,
                "m.room.name": 50,
                "m.room.power_levels": 100,
                "m.room.server_acl": 100,
                "m.room.tombstone": tombstone,
            },
            "events_default": 0,
            "state_default": 50,
            "ban": 50,
            "kick": 50,
            "redact": 50,
            "invite": if open { 50 } else { 0 },
            "historical": 100,
        });
        let JsonValue::Object(mut levels) = ours else { return Ok(JsonMap::new()) };
        levels.extend(self.power_level_override.clone());
        if self.privileged() {
            raise_tombstone(&mut levels);
        }
        Ok(levels)
    }

    /// The state events that the preset stands for.
    fn preset_state(&self) -> [(StateEventType, JsonValue); 3] {
        let (join_rule, guest_access) = match self.preset {
            RoomPreset::PublicChat => ("public", "forbidden"),
            RoomPreset::PrivateChat | RoomPreset::TrustedPrivateChat => ("invite", "can_join"),
        };
        [
            (StateEventType::RoomJoinRules, json!({ "join_rule": join_rule })),
            (StateEventType::RoomHistoryVisibility, json!({ "history_visibility": "shared" })),
            (StateEventType::RoomGuestAccess, json!({ "guest_access": guest_access })),
        ]
    }
}

/// Where the wished levels say nothing of it, only creators may replace the room.
fn raise_tombstone(levels: &mut JsonMap) {
    let state_default = levels.get("state_default").and_then(JsonValue::as_i64).unwrap_or(50);
    let level = TOMBSTONE_LEVEL.max(state_default.saturating_add(50));
    if let Some(JsonValue::Object(events)) = levels.get_mut("events") {
        let tombstone = events.entry("m.room.tombstone").or_insert_with(|| json!(level));
        if tombstone == &json!(TOMBSTONE_LEVEL) {
            *tombstone = json!(level);
        }
    }
}

/// The content of a member event.
fn member(membership: MembershipState, profile: &Profile, is_direct: bool) -> JsonValue {
    let mut content = JsonMap::new();
    content.insert("membership".to_owned(), json!(membership));
    if let Some(name) = &profile.displayname {
        content.insert("displayname".to_owned(), json!(name));
    }
    if let Some(url) = &profile.avatar_url {
        content.insert("avatar_url".to_owned(), json!(url));
    }
    if is_direct {
        content.insert("is_direct".to_owned(), json!(true));
    }
    JsonValue::Object(content)
}

//! What is wished of a new room, checked and completed.

use std::collections::BTreeSet;

use ruma::{
    OwnedRoomAliasId, OwnedUserId, RoomAliasId, RoomVersionId, UserId, events::StateEventType,
    room_version_rules::RoomVersionRules,
};
use serde_json::{Map, Value as JsonValue, value::RawValue as RawJsonValue};

use crate::{
    Rooms,
    aliases::Canonical,
    create::{NewRoom, RoomPreset, Visibility},
    error::{Result, RoomsError},
};

/// Most users that can be invited when a room is created.
const INVITES_LEN_MAX: usize = 500;

/// Most state events that can be given for a new room.
const INITIAL_STATE_LEN_MAX: usize = 500;

/// A JSON object.
pub(super) type JsonMap = Map<String, JsonValue>;

/// A wish that makes sense, and what follows from it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) wish: NewRoom,
    pub(super) creator: OwnedUserId,
    pub(super) version: RoomVersionId,
    pub(super) rules: RoomVersionRules,
    pub(super) preset: RoomPreset,
    pub(super) alias: Option<OwnedRoomAliasId>,
    pub(super) creation_content: JsonMap,
    pub(super) power_level_override: JsonMap,
}

impl Plan {
    pub(super) fn new(rooms: &Rooms, creator: &UserId, mut wish: NewRoom) -> Result<Self> {
        let version = wish.version.clone().unwrap_or_else(|| rooms.default_version().clone());
        let supported = event::SUPPORTED.contains(&version);
        let Some(rules) = event::rules(&version).filter(|_| supported) else {
            return Err(RoomsError::UnsupportedVersion { version });
        };
        if !rooms.is_local(creator) {
            return Err(RoomsError::Remote { user: creator.to_owned() });
        }
        let preset = wish.preset.unwrap_or(match wish.visibility {
            Visibility::Public => RoomPreset::PublicChat,
            Visibility::Private => RoomPreset::PrivateChat,
        });
        let alias = match &wish.alias_localpart {
            Some(localpart) => Some(alias(rooms, localpart)?),
            None => None,
        };
        check_invites(creator, &mut wish)?;
        check_initial_state(&mut wish)?;
        check_canonical_aliases(&wish, alias.as_deref())?;
        let creation_content = object(wish.creation_content.take(), "creation_content")?;
        let power_level_override =
            object(wish.power_level_override.take(), "power_level_content_override")?;
        let plan = Self {
            wish,
            creator: creator.to_owned(),
            version,
            rules,
            preset,
            alias,
            creation_content,
            power_level_override,
        };
        plan.check_power_levels()?;
        Ok(plan)
    }

    /// Whether creators have their power by being creators, and are absent from the power levels.
    pub(super) fn privileged(&self) -> bool {
        self.rules.authorization.explicitly_privilege_room_creators
    }

    /// The power levels must leave the creator able to go on.
    fn check_power_levels(&self) -> Result<()> {
        let Some(users) = self.power_level_override.get("users") else { return Ok(()) };
        let Some(users) = users.as_object() else {
            let what = "power_level_content_override: users must be an object";
            return Err(RoomsError::invalid(what));
        };
        if !self.privileged() && !users.contains_key(self.creator.as_str()) {
            let what = format!(
                "power_level_content_override: users must contain the creator, {}",
                self.creator
            );
            return Err(RoomsError::invalid(what));
        }
        if self.privileged() {
            let creators = self.creators()?;
            if let Some(user) = creators.iter().find(|user| users.contains_key(user.as_str())) {
                let what = "power_level_content_override: users must not contain creators";
                return Err(RoomsError::invalid(format!("{what}, and {user} is one")));
            }
        }
        Ok(())
    }

    /// All creators: whoever creates the room, and from room version 12 on those named besides.
    pub(super) fn creators(&self) -> Result<BTreeSet<OwnedUserId>> {
        let mut creators = self.additional_creators()?;
        creators.insert(self.creator.clone());
        Ok(creators)
    }

    /// The creators besides the one who creates the room.
    pub(super) fn additional_creators(&self) -> Result<BTreeSet<OwnedUserId>> {
        let mut creators = BTreeSet::new();
        if !self.rules.authorization.additional_room_creators {
            return Ok(creators);
        }
        if let Some(named) = self.creation_content.get("additional_creators") {
            let bad =
                || RoomsError::invalid_param("additional_creators must be a list of user IDs");
            for user in named.as_array().ok_or_else(bad)? {
                let user = user.as_str().and_then(|user| UserId::parse(user).ok());
                let user = user.ok_or_else(bad)?;
                user.validate_historical().map_err(|_| bad())?;
                creators.insert(user);
            }
        }
        if self.preset == RoomPreset::TrustedPrivateChat {
            creators.extend(self.wish.invites.iter().map(|(user, _)| user.clone()));
        }
        creators.remove(&self.creator);
        Ok(creators)
    }
}

fn alias(rooms: &Rooms, localpart: &str) -> Result<OwnedRoomAliasId> {
    let bad = |why: &str| RoomsError::invalid_param(format!("room_alias_name {why}"));
    if localpart.contains(':') || localpart.chars().any(char::is_whitespace) {
        return Err(bad("must have no colon and no white space: it is the local part only"));
    }
    let alias = format!("#{localpart}:{}", rooms.server_name());
    let alias = RoomAliasId::parse(alias).map_err(|_| bad("does not make a valid alias"))?;
    rooms.check_alias(&alias)?;
    Ok(alias)
}

fn check_invites(creator: &UserId, wish: &mut NewRoom) -> Result<()> {
    if wish.invites.len() > INVITES_LEN_MAX {
        let what = format!("at most {INVITES_LEN_MAX} users can be invited at once");
        return Err(RoomsError::invalid_param(what));
    }
    let mut seen = BTreeSet::new();
    wish.invites.retain(|(user, _)| seen.insert(user.clone()));
    for (user, _) in &wish.invites {
        if user == creator {
            return Err(RoomsError::invalid_param("you cannot invite yourself to your own room"));
        }
    }
    Ok(())
}

/// A room that is not there yet has no alias but the one that is made with it.
fn check_canonical_aliases(wish: &NewRoom, made: Option<&RoomAliasId>) -> Result<()> {
    let made = made.map(RoomAliasId::as_str);
    for (kind, key, content) in &wish.initial_state {
        if *kind != StateEventType::RoomCanonicalAlias || !key.is_empty() {
            continue;
        }
        let content: Canonical = serde_json::from_str(content.get())
            .map_err(|error| RoomsError::invalid_param(error.to_string()))?;
        if let Some(alias) = content.all().find(|alias| Some(alias.as_str()) != made) {
            let why = format!("the alias {alias} does not point to the room");
            return Err(RoomsError::BadAlias { why });
        }
    }
    Ok(())
}

/// Leaves out what other wishes replace.
fn check_initial_state(wish: &mut NewRoom) -> Result<()> {
    if wish.initial_state.len() > INITIAL_STATE_LEN_MAX {
        let what = format!("initial_state has more than {INITIAL_STATE_LEN_MAX} events");
        return Err(RoomsError::invalid_param(what));
    }
    let (named, with_topic) = (wish.name.is_some(), wish.topic.is_some());
    wish.initial_state.retain(|(kind, key, _)| {
        let replaced = (named && *kind == StateEventType::RoomName)
            || (with_topic && *kind == StateEventType::RoomTopic);
        !(replaced && key.is_empty())
    });
    if wish.initial_state.iter().any(|(kind, _, _)| *kind == StateEventType::RoomCreate) {
        return Err(RoomsError::invalid_param(
            "initial_state must not have an m.room.create event",
        ));
    }
    Ok(())
}

fn object(raw: Option<Box<RawJsonValue>>, name: &str) -> Result<JsonMap> {
    let Some(raw) = raw else { return Ok(JsonMap::new()) };
    serde_json::from_str(raw.get())
        .map_err(|_| RoomsError::invalid(format!("{name} must be an object")))
}

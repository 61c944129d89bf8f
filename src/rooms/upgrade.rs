//! Replacing a room by one of another version.
//!
//! [Spec](https://spec.matrix.org/v1.19/client-server-api/#room-upgrades)

use std::sync::Arc;

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde_json::{Map, Value as JsonValue, json, value::RawValue as RawJsonValue};
use store::{Batch, Json, Page};

use crate::{
    NewRoom, Rooms,
    error::{Result, RoomsError},
    membership::Profile,
    new_event::{NewEvent, to_raw},
    room::Room,
    state::StateSelect,
    tables::{ALIASES, DIRECTORY, ROOM_ALIASES, StateRoot},
};

/// What is taken over into the new room, besides its power levels.
const TAKEN_OVER: [&str; 8] = [
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
];

/// The level that is needed to speak in a room that was replaced, at least.
const CLOSED_LEVEL: i64 = 50;

/// The level with which a creator sets up the new room.
const CREATOR_LEVEL: i64 = 100;

/// Most aliases that move.
const ALIASES_MAX: usize = 1_000;

/// Most bans and children of a space that are taken over.
const KEYED_STATE_MAX: usize = 400;

/// How a room is to be replaced.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// The version of the new room.
    pub version: RoomVersionId,
    /// Its creators besides the user, from version 12 on.
    pub additional_creators: Vec<OwnedUserId>,
    /// The user's profile.
    pub profile: Profile,
}

impl Rooms {
    /// Makes a new room of another version, with the old one's state, moves the aliases of this
    /// server there, and closes the old room with a tombstone.
    ///
    /// The new room comes first: if the server is killed in between, the old room is as it was, and
    /// a second try makes another new room.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`], [`RoomsError::Forbidden`] when the user may not send
    ///   `m.room.tombstone`.
    /// - [`RoomsError::UnsupportedVersion`], and whatever [`Rooms::create`] refuses.
    pub async fn upgrade(
        &self,
        user: &UserId,
        room_id: &RoomId,
        upgrade: Upgrade,
    ) -> Result<OwnedRoomId> {
        let Some(rules) =
            event::rules(&upgrade.version).filter(|_| event::SUPPORTED.contains(&upgrade.version))
        else {
            return Err(RoomsError::UnsupportedVersion { version: upgrade.version });
        };
        let old = self.load_room(room_id).await?;
        let root = self.current_state(&old).await?;
        if !self.is_joined(user, old.number).await? {
            return Err(RoomsError::forbidden("you are not in this room"));
        }
        let powers = self.powers(&old, root).await?;
        if !powers.may_send(user, &TimelineEventType::RoomTombstone, Some("")) {
            return Err(RoomsError::forbidden("you may not replace this room"));
        }
        let privileged = rules.authorization.explicitly_privilege_room_creators;
        let levels = self.levels(&old, root).await?;
        let was_privileged = old.rules.authorization.explicitly_privilege_room_creators;
        let levels = match levels {
            Some(levels) if was_privileged && !privileged => {
                Some(with_creators(levels, &self.creators(&old, root).await?))
            }
            levels => levels,
        };
        let wish = self.successor(user, &old, root, upgrade, &levels, privileged).await?;
        let first = wish.power_level_override.as_ref().map(|raw| raw.get().to_owned());
        let creators = creators_in(&wish, user);
        let new_id = self.create(user, wish).await?;
        let new = self.load_room(&new_id).await?;
        if let Some(levels) = levels {
            let wanted = new_levels(&levels, &creators, privileged);
            if first.as_deref() != Some(to_raw(&wanted)?.get()) {
                self.set_levels(user, &new, wanted).await?;
            }
        }
        self.close(user, &old, &new).await?;
        Ok(new_id)
    }

    /// The creators of a room.
    async fn creators(&self, room: &Room, root: StateRoot) -> Result<Vec<String>> {
        let create = self.state_event(room, root, &StateEventType::RoomCreate, "").await?;
        let Some(create) = create else { return Ok(Vec::new()) };
        let content: Map<String, JsonValue> = create.content_as().unwrap_or_default();
        Ok(creators_named(&content, create.sender.as_str()))
    }

    async fn levels(&self, room: &Room, root: StateRoot) -> Result<Option<Map<String, JsonValue>>> {
        let event = self.state_event(room, root, &StateEventType::RoomPowerLevels, "").await?;
        Ok(event.and_then(|event| event.content_as().ok()))
    }

    /// The new room, as far as it can be made at once.
    async fn successor(
        &self,
        user: &UserId,
        old: &Arc<Room>,
        root: StateRoot,
        upgrade: Upgrade,
        levels: &Option<Map<String, JsonValue>>,
        privileged: bool,
    ) -> Result<NewRoom> {
        let create = self.state_event(old, root, &StateEventType::RoomCreate, "").await?;
        let content: Map<String, JsonValue> =
            create.and_then(|event| event.content_as().ok()).unwrap_or_default();
        let mut creation = Map::new();
        for kept in ["type", "m.federate"] {
            if let Some(value) = content.get(kept) {
                creation.insert(kept.to_owned(), value.clone());
            }
        }
        creation.insert("predecessor".to_owned(), json!({ "room_id": old.room_id }));
        if privileged && !upgrade.additional_creators.is_empty() {
            creation.insert("additional_creators".to_owned(), json!(upgrade.additional_creators));
        }
        let mut wish = NewRoom {
            version: Some(upgrade.version),
            creation_content: Some(to_raw(&creation)?),
            creator_profile: upgrade.profile,
            initial_state: self.taken_over(old, root).await?,
            ..NewRoom::default()
        };
        if let Some(levels) = levels {
            let mut first = new_levels(levels, &creators_in(&wish, user), privileged);
            if !privileged {
                let users = first.entry("users").or_insert_with(|| json!({}));
                if let Some(users) = users.as_object_mut() {
                    let level = users.get(user.as_str()).and_then(JsonValue::as_i64);
                    let level = level.unwrap_or(0).max(CREATOR_LEVEL);
                    users.insert(user.to_string(), json!(level));
                }
            }
            wish.power_level_override = Some(to_raw(&first)?);
        }
        Ok(wish)
    }

    /// The state that the new room begins with.
    async fn taken_over(
        &self,
        old: &Arc<Room>,
        root: StateRoot,
    ) -> Result<Vec<(StateEventType, String, Box<RawJsonValue>)>> {
        let keys = TAKEN_OVER.into_iter().map(|kind| (kind.into(), String::new())).collect();
        let mut events = self.state_events(old, root, &StateSelect::Keys(keys)).await?;
        let types = StateSelect::Types([StateEventType::SpaceChild].into());
        events
            .extend(self.state_events(old, root, &types).await?.into_iter().take(KEYED_STATE_MAX));
        let banned = self.members_with(old, &MembershipState::Ban, KEYED_STATE_MAX).await?;
        let numbers: Vec<_> = banned.into_iter().map(|(_, event)| event).collect();
        let bans = self.events(old, &numbers).await?;
        events.extend(bans.iter().map(|event| Arc::clone(&event.pdu)));
        events.truncate(KEYED_STATE_MAX);
        Ok(events
            .iter()
            .filter_map(|event| {
                let (kind, key) = event.state_entry()?;
                Some((kind, key.to_owned(), event.content.clone()))
            })
            .collect())
    }

    async fn set_levels(
        &self,
        user: &UserId,
        room: &Arc<Room>,
        levels: Map<String, JsonValue>,
    ) -> Result<()> {
        let event = NewEvent::state(StateEventType::RoomPowerLevels, "", to_raw(&levels)?);
        self.send(user, &room.room_id, event).await?;
        Ok(())
    }

    /// Sends the tombstone, moves the aliases, and takes from the old room what makes people talk
    /// there.
    async fn close(&self, user: &UserId, old: &Arc<Room>, new: &Arc<Room>) -> Result<()> {
        let content = json!({
            "body": "This room has been replaced",
            "replacement_room": new.room_id,
        });
        let tombstone = NewEvent::state(StateEventType::RoomTombstone, "", to_raw(&content)?);
        self.send(user, &old.room_id, tombstone).await?;
        self.move_aliases(user, old, new).await?;
        let root = self.current_state(old).await?;
        let Some(mut levels) = self.levels(old, root).await? else { return Ok(()) };
        let number = |name: &str| levels.get(name).and_then(JsonValue::as_i64);
        let closed = CLOSED_LEVEL.max(number("users_default").unwrap_or(0).saturating_add(1));
        let mut changed = false;
        for name in ["events_default", "invite"] {
            if number(name).unwrap_or(0) < closed {
                changed = true;
            }
        }
        if !changed {
            return Ok(());
        }
        for name in ["events_default", "invite"] {
            let level = levels.get(name).and_then(JsonValue::as_i64).unwrap_or(0).max(closed);
            levels.insert(name.to_owned(), json!(level));
        }
        match self.set_levels(user, old, levels).await {
            // Who may replace a room need not be allowed to change its power levels.
            Err(RoomsError::Forbidden { .. }) => Ok(()),
            done => done,
        }
    }

    /// Points the aliases that the old room has on this server to the new one, and lists the new
    /// one in the directory in its place.
    async fn move_aliases(&self, user: &UserId, old: &Room, new: &Room) -> Result<()> {
        let range = ROOM_ALIASES.prefix(&old.number);
        let rows = self.store().scan(&ROOM_ALIASES, range, Page::first(ALIASES_MAX)).await?;
        let mut batch = Batch::new();
        for ((_, alias), ()) in rows {
            let Some(Json(mut row)) = self.store().get(&ALIASES, &alias).await? else { continue };
            batch.expect(&ALIASES, &alias, Some(&Json(row.clone())));
            row.room_id = new.room_id.clone();
            row.room = new.number;
            batch.put(&ALIASES, &alias, &Json(row));
            batch.delete(&ROOM_ALIASES, &(old.number, alias.clone()));
            batch.put(&ROOM_ALIASES, &(new.number, alias), &());
        }
        if self.store().get(&DIRECTORY, &old.number).await?.is_some() {
            batch.delete(&DIRECTORY, &old.number);
            batch.put(&DIRECTORY, &new.number, &());
        }
        if !batch.is_empty() {
            self.store().commit(batch).await?;
        }
        self.move_canonical_alias(user, old, new).await
    }

    async fn move_canonical_alias(&self, user: &UserId, old: &Room, new: &Room) -> Result<()> {
        let kind = StateEventType::RoomCanonicalAlias;
        let root = self.current_state(old).await?;
        let Some(event) = self.state_event(old, root, &kind, "").await? else { return Ok(()) };
        if event.content.get() == "{}" {
            return Ok(());
        }
        let taken = NewEvent::state(kind.clone(), "", to_raw(&json!({}))?);
        let given = NewEvent::state(kind, "", event.content.clone());
        for (room, event) in [(old, taken), (new, given)] {
            match self.send(user, &room.room_id, event).await {
                // An alias of another server still points to the old room, or the user lacks the
                // power: the rooms are connected by the tombstone all the same.
                Err(RoomsError::Forbidden { .. } | RoomsError::BadAlias { .. }) => {}
                done => drop(done?),
            }
        }
        Ok(())
    }
}

/// The creators of a room to be made.
fn creators_in(wish: &NewRoom, user: &UserId) -> Vec<String> {
    let content = wish.creation_content.as_ref();
    let content: Map<String, JsonValue> =
        content.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
    creators_named(&content, user.as_str())
}

/// Who made a room, and those whom the content of its create event names besides.
fn creators_named(content: &Map<String, JsonValue>, creator: &str) -> Vec<String> {
    let named = content.get("additional_creators").and_then(JsonValue::as_array);
    let named = named.into_iter().flatten().filter_map(JsonValue::as_str);
    std::iter::once(creator).chain(named).map(str::to_owned).collect()
}

/// Power levels in which creators, who stood above all levels, have the highest that is there.
fn with_creators(
    mut levels: Map<String, JsonValue>,
    creators: &[String],
) -> Map<String, JsonValue> {
    let within = ["events", "users"].into_iter().filter_map(|name| levels.get(name)?.as_object());
    let named = within.flat_map(|object| object.values()).filter_map(JsonValue::as_i64);
    let highest = named.max().unwrap_or(CREATOR_LEVEL).max(CREATOR_LEVEL);
    let users = levels.entry("users").or_insert_with(|| json!({}));
    if let Some(users) = users.as_object_mut() {
        users.extend(creators.iter().map(|creator| (creator.clone(), json!(highest))));
    }
    levels
}

/// The power levels of the new room: those of the old one, without creators where these stand above
/// all levels.
fn new_levels(
    old: &Map<String, JsonValue>,
    creators: &[String],
    privileged: bool,
) -> Map<String, JsonValue> {
    let mut levels = old.clone();
    if privileged && let Some(users) = levels.get_mut("users").and_then(JsonValue::as_object_mut) {
        users.retain(|user, _| !creators.contains(user));
    }
    levels
}

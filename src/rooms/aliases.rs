//! Aliases: names by which rooms are found.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, UserId,
    events::{StateEventType, TimelineEventType, room::member::MembershipState},
};
use serde::Deserialize;
use serde_json::{Map, Value as JsonValue, value::RawValue as RawJsonValue};
use store::{Batch, Json, Page, StoreError};

use crate::{
    Rooms,
    error::{Result, RoomsError},
    new_event::{Content, NewEvent, to_raw},
    remote::RemoteError,
    room::Room,
    tables::{ALIASES, AliasRow, ROOM_ALIASES, StateRoot},
    visibility::Access,
};

/// Most aliases of one room that are listed.
const ALIASES_MAX: usize = 1_000;

/// Most bytes of an alias.
const ALIAS_BYTES_MAX: usize = 255;

/// Most servers that are named as able to help into the room of an alias.
const ALIAS_SERVERS_MAX: usize = 20;

/// Most aliases of other servers that one event may add.
const FOREIGN_ALIASES_MAX: usize = 10;

/// By whose right an alias is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletedBy {
    /// By that of the one who made it, or of one who has power in its room.
    User,
    /// By that of an administrator of this server.
    Admin,
}

/// The content of `m.room.canonical_alias`, as far as we look at it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Canonical {
    #[serde(default)]
    alias: Option<String>,
    #[serde(default)]
    alt_aliases: Vec<String>,
}

impl Canonical {
    /// All aliases that are named.
    pub(crate) fn all(&self) -> impl Iterator<Item = &String> {
        self.alias.iter().filter(|alias| !alias.is_empty()).chain(&self.alt_aliases)
    }
}

impl Rooms {
    /// Points an alias of this server to a room.
    ///
    /// # Errors
    /// - [`RoomsError::InvalidParam`] when the alias is malformed or of another server.
    /// - [`RoomsError::AliasTaken`] when it points to a room already.
    /// - [`RoomsError::Forbidden`] when the sender is not joined.
    pub async fn create_alias(
        &self,
        sender: &UserId,
        alias: &RoomAliasId,
        room_id: &RoomId,
    ) -> Result<()> {
        self.check_alias(alias)?;
        let room = self.open_joined(sender, room_id).await?;
        let key = alias.as_str().to_owned();
        let taken = || RoomsError::AliasTaken { alias: alias.to_owned() };
        if self.store().get(&ALIASES, &key).await?.is_some() {
            return Err(taken());
        }
        let row = AliasRow {
            room_id: room.room_id.clone(),
            room: room.number,
            creator: sender.to_owned(),
            servers: Vec::new(),
        };
        let mut batch = Batch::new();
        batch.expect(&ALIASES, &key, None);
        batch.put(&ALIASES, &key, &Json(row));
        batch.put(&ROOM_ALIASES, &(room.number, key.clone()), &());
        match self.store().commit(batch).await {
            Err(StoreError::Conflict { .. }) => Err(taken()),
            done => Ok(done.map(|_| ())?),
        }
    }

    /// Takes an alias from its room. If the room's canonical aliases name it and the sender may
    /// change them, it goes there too.
    ///
    /// # Errors
    /// - [`RoomsError::NotFound`] when there is no such alias.
    /// - [`RoomsError::Forbidden`] when the sender neither made it nor has power in the room.
    pub async fn delete_alias(
        &self,
        sender: &UserId,
        alias: &RoomAliasId,
        by: DeletedBy,
    ) -> Result<()> {
        self.check_alias(alias)?;
        let key = alias.as_str().to_owned();
        let row = self.store().get(&ALIASES, &key).await?;
        let row = row.ok_or(RoomsError::NotFound { what: "alias" })?;
        let room = self.load_room(&row.0.room_id).await?;
        let may = by == DeletedBy::Admin
            || row.0.creator == sender
            || self.may_set_aliases(sender, &room).await?;
        if !may {
            return Err(RoomsError::forbidden("you may not delete this alias"));
        }
        let mut batch = Batch::new();
        batch.expect(&ALIASES, &key, Some(&row));
        batch.delete(&ALIASES, &key);
        batch.delete(&ROOM_ALIASES, &(room.number, key));
        match self.store().commit(batch).await {
            Err(StoreError::Conflict { .. }) => return Err(RoomsError::NotFound { what: "alias" }),
            done => done?,
        };
        match self.drop_canonical(sender, &room, alias).await {
            Err(error @ (RoomsError::Store(_) | RoomsError::Stopping)) => Err(error),
            // The alias is gone, whether the sender may say so in the room or not.
            _ => Ok(()),
        }
    }

    /// The room that an alias points to, and servers that can help to join it: asks the alias's
    /// server where that is another one. `None` for an alias that does not exist.
    ///
    /// # Errors
    /// [`RoomsError::Servers`] when the other server cannot be asked.
    pub async fn find_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<Option<(OwnedRoomId, Vec<OwnedServerName>)>> {
        if alias.server_name() == self.server_name() {
            return self.resolve_alias(alias).await;
        }
        match self.inner.config.remote.resolve_alias(alias).await {
            Ok(found) => {
                let mut servers = found.servers;
                servers.truncate(ALIAS_SERVERS_MAX);
                if !servers.iter().any(|server| server == alias.server_name()) {
                    servers.push(alias.server_name().to_owned());
                }
                Ok(Some((found.room_id, servers)))
            }
            Err(RemoteError::Refused { status: 404, .. }) => Ok(None),
            Err(failure) => Err(RoomsError::Servers { failures: vec![failure] }),
        }
    }

    /// Asks other servers where their aliases point that a new `m.room.canonical_alias` event
    /// names, so that it can be checked when the room's lane is held.
    pub(crate) async fn find_named_aliases(&self, event: &mut NewEvent) {
        let Content::Raw(content) = &event.content else { return };
        if event.kind != TimelineEventType::RoomCanonicalAlias {
            return;
        }
        let Ok(named) = serde_json::from_str::<Canonical>(content.get()) else { return };
        let aliases: Vec<OwnedRoomAliasId> = named
            .all()
            .filter_map(|alias| RoomAliasId::parse(alias).ok())
            .filter(|alias| alias.server_name() != self.server_name())
            .take(FOREIGN_ALIASES_MAX)
            .collect();
        let looking_up = aliases.iter().map(|alias| self.find_alias(alias));
        let found = futures_util::future::join_all(looking_up).await;
        for (alias, found) in aliases.into_iter().zip(found) {
            if let Ok(Some((room_id, _))) = found {
                event.aliases.insert(alias, room_id);
            }
        }
    }

    /// The room that an alias of this server points to, and servers that can help to join it.
    /// `None` for one that does not exist or is of another server.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn resolve_alias(
        &self,
        alias: &RoomAliasId,
    ) -> Result<Option<(OwnedRoomId, Vec<OwnedServerName>)>> {
        let row = self.store().get(&ALIASES, &alias.as_str().to_owned()).await?;
        let Some(Json(row)) = row else { return Ok(None) };
        let mut servers = vec![self.server_name().to_owned()];
        let mut others = row.servers;
        if let Some(room) = self.room(&row.room_id).await? {
            others.extend(self.joined_servers(&room).await?.by_users());
        }
        for server in others {
            if servers.len() < ALIAS_SERVERS_MAX && !servers.contains(&server) {
                servers.push(server);
            }
        }
        Ok(Some((row.room_id, servers)))
    }

    /// The aliases that a room has on this server, for one who may read what is said there now.
    ///
    /// # Errors
    /// [`RoomsError::Forbidden`] when the viewer is not joined and the room is not world readable.
    pub async fn aliases(
        &self,
        viewer: &UserId,
        room_id: &RoomId,
    ) -> Result<Vec<OwnedRoomAliasId>> {
        let (room, access) = self.open_for(viewer, room_id).await?;
        if let Access::Until(_) = access {
            return Err(RoomsError::forbidden("you are no longer in this room"));
        }
        let range = ROOM_ALIASES.prefix(&room.number);
        let rows = self.store().scan(&ROOM_ALIASES, range, Page::first(ALIASES_MAX)).await?;
        Ok(rows.into_iter().filter_map(|((_, alias), ())| alias.try_into().ok()).collect())
    }

    /// Whether a user has the power to name a room's aliases, and with it to publish the room.
    pub(crate) async fn may_set_aliases(&self, user: &UserId, room: &Room) -> Result<bool> {
        if !self.is_joined(user, room.number).await? {
            return Ok(false);
        }
        let powers = self.powers(room, self.current_state(room).await?).await?;
        Ok(powers.may_send(user, &TimelineEventType::RoomCanonicalAlias, Some("")))
    }

    /// Checks what a new `m.room.canonical_alias` event adds: each alias must be well-formed and
    /// point to the room. `found` says where those of other servers point.
    ///
    /// [Spec](https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey)
    ///
    /// # Errors
    /// - [`RoomsError::InvalidParam`] for a malformed alias.
    /// - [`RoomsError::BadAlias`] for one that does not point to the room.
    pub(crate) async fn check_canonical_alias(
        &self,
        room: &Room,
        root: StateRoot,
        content: &RawJsonValue,
        found: &BTreeMap<OwnedRoomAliasId, OwnedRoomId>,
    ) -> Result<()> {
        let new: Canonical = serde_json::from_str(content.get())
            .map_err(|error| RoomsError::invalid_param(error.to_string()))?;
        let kind = StateEventType::RoomCanonicalAlias;
        let old = self.state_event(room, root, &kind, "").await?;
        let old: Canonical = old.and_then(|event| event.content_as().ok()).unwrap_or_default();
        for alias in new.all().filter(|alias| !old.all().any(|known| known == *alias)) {
            let bad = |why: &str| RoomsError::invalid_param(format!("{alias}: {why}"));
            let parsed = <&RoomAliasId>::try_from(alias.as_str())
                .map_err(|error| bad(&error.to_string()))?;
            let target = match found.get(parsed) {
                Some(room_id) => Some(room_id.clone()),
                None => self.resolve_alias(parsed).await?.map(|(room_id, _)| room_id),
            };
            if target.is_none_or(|room_id| room_id != room.room_id) {
                let why = format!("the alias {alias} does not point to the room");
                return Err(RoomsError::BadAlias { why });
            }
        }
        Ok(())
    }

    /// Whether an alias is one that this server may have.
    pub(crate) fn check_alias(&self, alias: &RoomAliasId) -> Result<()> {
        if alias.server_name() != self.server_name() {
            return Err(RoomsError::invalid_param("the alias belongs to another server"));
        }
        if alias.as_str().len() > ALIAS_BYTES_MAX {
            return Err(RoomsError::invalid_param("the alias is longer than 255 bytes"));
        }
        let localpart = alias.alias();
        if localpart.is_empty() || localpart.chars().any(char::is_control) {
            return Err(RoomsError::invalid_param("the alias has no usable local part"));
        }
        Ok(())
    }

    /// Takes an alias out of the room's `m.room.canonical_alias`.
    async fn drop_canonical(
        &self,
        sender: &UserId,
        room: &Room,
        alias: &RoomAliasId,
    ) -> Result<()> {
        let mut lane = self.enter(&room.room_id).await?;
        if self.membership_now(&lane, sender).await? != Some(MembershipState::Join) {
            return Ok(());
        }
        let kind = StateEventType::RoomCanonicalAlias;
        let Some(old) = self.state_event(room, lane.state(), &kind, "").await? else {
            return Ok(());
        };
        let mut content: Map<String, JsonValue> = old.content_as()?;
        let named = content.get("alias").and_then(JsonValue::as_str) == Some(alias.as_str());
        if named {
            content.remove("alias");
        }
        let mut listed = false;
        if let Some(JsonValue::Array(others)) = content.get_mut("alt_aliases") {
            let before = others.len();
            others.retain(|other| other.as_str() != Some(alias.as_str()));
            listed = others.len() < before;
        }
        if named || listed {
            let event = NewEvent::state(kind, "", to_raw(&content)?);
            self.append(&mut lane, sender, event, Batch::new()).await?;
        }
        Ok(())
    }
}

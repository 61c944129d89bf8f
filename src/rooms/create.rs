//! Creating a room: all its first events in one batch.

mod content;
mod validate;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event::{Draft, Pdu};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedUserId, RoomId, RoomVersionId, UInt, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Json, StoreError};

use crate::{
    Rooms,
    append::{Assembly, accept::Place},
    create::validate::Plan,
    error::{Result, RoomsError},
    membership::Profile,
    room::{Room, RoomRecord},
    tables::{ALIASES, AliasRow, DIRECTORY, ROOM_ALIASES, ROOM_NUMBERS, ROOMS},
};

/// A room to be created.
#[derive(Clone, Debug, Default)]
pub struct NewRoom {
    /// The room version; the server's default if `None`.
    pub version: Option<RoomVersionId>,
    /// Which rules the room starts with; follows from the visibility if `None`.
    pub preset: Option<RoomPreset>,
    /// Whether the room is listed in the published directory.
    pub visibility: Visibility,
    /// The local part of an alias to make for the room.
    pub alias_localpart: Option<String>,
    /// The room's name.
    pub name: Option<String>,
    /// The room's topic, in plain text.
    pub topic: Option<String>,
    /// Whom to invite, with their profiles.
    pub invites: Vec<(OwnedUserId, Profile)>,
    /// Whether the invites are to a direct chat.
    pub is_direct: bool,
    /// Further state events: type, state key, content. They take precedence over those of the
    /// preset.
    pub initial_state: Vec<(StateEventType, String, Box<RawJsonValue>)>,
    /// What to change in the power levels: an object whose keys replace ours.
    pub power_level_override: Option<Box<RawJsonValue>>,
    /// Further keys of the create event: an object.
    pub creation_content: Option<Box<RawJsonValue>>,
    /// The profile of the creator.
    pub creator_profile: Profile,
}

/// The rules that a new room starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomPreset {
    /// By invitation only.
    PrivateChat,
    /// By invitation only, and all invited have the same power as the creator.
    TrustedPrivateChat,
    /// Open to everybody but guests.
    PublicChat,
}

/// Whether a room is listed in the published directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Visibility {
    /// It is not.
    #[default]
    Private,
    /// It is.
    Public,
}

/// How often a room ID is made anew when there is such a room already.
const IDS_MAX: u64 = 100;

/// How often a room is tried again when someone else has taken its place meanwhile.
const CONFLICTS_MAX: u32 = 20;

/// How long the creator of a room waits for the servers of those who are invited.
const INVITES_TIME_MAX: Duration = Duration::from_secs(20);

impl Rooms {
    /// Creates a room, with everything in it or not at all. Users of other servers are invited
    /// once it is there, as far as their servers agree.
    ///
    /// # Errors
    /// - [`RoomsError::UnsupportedVersion`], [`RoomsError::AliasTaken`], [`RoomsError::Remote`].
    /// - [`RoomsError::InvalidParam`] and [`RoomsError::Invalid`] for a malformed wish.
    /// - [`RoomsError::InvalidRoomState`] when the rules do not allow the events wished for.
    pub async fn create(&self, creator: &UserId, room: NewRoom) -> Result<OwnedRoomId> {
        let plan = Plan::new(self, creator, room)?;
        if let Some(alias) = &plan.alias {
            let taken = self.store().get(&ALIASES, &alias.as_str().to_owned()).await?;
            if taken.is_some() {
                return Err(RoomsError::AliasTaken { alias: alias.clone() });
            }
        }
        let room_id = self.create_planned(&plan).await?;
        let far = plan.wish.invites.iter().filter(|(user, _)| !self.is_local(user));
        let far: Vec<_> = far.cloned().collect();
        if !far.is_empty() {
            let inviting = self.invite_all_elsewhere(creator, &room_id, far, plan.wish.is_direct);
            // Those that have not answered by then go on without the creator waiting.
            let _ = tokio::time::timeout(INVITES_TIME_MAX, inviting).await;
        }
        Ok(room_id)
    }

    async fn create_planned(&self, plan: &Plan) -> Result<OwnedRoomId> {
        for _ in 0..CONFLICTS_MAX {
            match self.create_as(plan).await {
                Err(RoomsError::Store(StoreError::Conflict { table })) => match &plan.alias {
                    Some(alias) if table == ALIASES.number() => {
                        return Err(RoomsError::AliasTaken { alias: alias.clone() });
                    }
                    // Someone has made the same room at the same time: the next one differs.
                    _ => {}
                },
                done => return done,
            }
        }
        self.create_as(plan).await
    }

    async fn create_as(&self, plan: &Plan) -> Result<OwnedRoomId> {
        let (create, room) = self.new_room(plan).await?;
        let held = self.inner.lanes.hold(room.number).await;
        let mut assembly = Assembly::new_room(self, Arc::clone(&room));
        event::authorise(&create, &room.rules, |_| None, |_, _| None)?;
        assembly.accept(create, Place::at(crate::StateRoot::EMPTY)).await?;
        for event in plan.events(self)? {
            assembly.add(&plan.creator, event).await.map_err(as_room_state)?;
        }
        let extra = rows(&room, plan);
        self.commit_assembly(assembly, extra, &held, &room).await?;
        self.inner.caches.keep_room(&room);
        Ok(room.room_id.clone())
    }

    /// The create event, and the room that it makes.
    async fn new_room(&self, plan: &Plan) -> Result<(Pdu, Arc<Room>)> {
        let config = &self.inner.config;
        let now_ms = self.now_ms();
        for attempt in 0..IDS_MAX {
            // From room version 12 on the ID is a hash of the event, in which nothing but the time
            // differs.
            let timestamp = UInt::new_saturating(now_ms.saturating_add(attempt));
            let draft = Draft {
                room_id: Some(RoomId::new_v1(&config.server_name)),
                sender: plan.creator.clone(),
                kind: TimelineEventType::RoomCreate,
                state_key: Some(String::new()),
                content: plan.create_content()?,
                redacts: None,
                prev_events: Vec::new(),
                auth_events: Vec::new(),
                reference_hashes: BTreeMap::new(),
                depth: UInt::from(1_u32),
                origin_server_ts: MilliSecondsSinceUnixEpoch(timestamp),
            };
            let pdu = event::build(draft, &config.server_name, &config.key, &plan.rules)?;
            let room_id = pdu.room_id.clone();
            let taken = self.store().get(&ROOM_NUMBERS, &room_id.as_str().to_owned()).await?;
            if taken.is_none() {
                let number = self.free_room_number(&room_id).await?;
                let (version, rules) = (plan.version.clone(), plan.rules.clone());
                return Ok((pdu, Arc::new(Room { number, room_id, version, rules })));
            }
        }
        Err(RoomsError::invalid("no free room ID was found"))
    }
}

/// The rows that belong to the room besides its events.
fn rows(room: &Room, plan: &Plan) -> Batch {
    let mut batch = Batch::new();
    let room_id = room.room_id.as_str().to_owned();
    let record = RoomRecord { room_id: room.room_id.clone(), version: room.version.clone() };
    batch.expect(&ROOMS, &room.number, None);
    batch.expect(&ROOM_NUMBERS, &room_id, None);
    batch.put(&ROOMS, &room.number, &Json(record));
    batch.put(&ROOM_NUMBERS, &room_id, &room.number);
    if let Some(alias) = &plan.alias {
        let key = alias.as_str().to_owned();
        let row = AliasRow {
            room_id: room.room_id.clone(),
            room: room.number,
            creator: plan.creator.clone(),
            servers: Vec::new(),
        };
        batch.expect(&ALIASES, &key, None);
        batch.put(&ALIASES, &key, &Json(row));
        batch.put(&ROOM_ALIASES, &(room.number, key), &());
    }
    if plan.wish.visibility == Visibility::Public {
        batch.put(&DIRECTORY, &room.number, &());
    }
    batch
}

/// What the rules refuse in a new room is a fault of the wish, not a lack of rights.
fn as_room_state(error: RoomsError) -> RoomsError {
    match error {
        RoomsError::Forbidden { why } => RoomsError::InvalidRoomState { why },
        other => other,
    }
}

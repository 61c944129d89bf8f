//! Memberships of our users in rooms where this server is not: invites and knocks, and how they
//! end.

use std::sync::Arc;

use event::Pdu;
use ruma::{
    OwnedEventId, OwnedServerName, OwnedUserId, RoomId, RoomVersionId, ServerName, UserId,
    events::room::member::MembershipState,
};
use serde_json::value::RawValue as RawJsonValue;
use store::{Batch, Json, Position, Stamped};

use crate::{
    Rooms,
    append::Assembly,
    error::{Result, RoomsError},
    head::Head,
    lane::Lane,
    log_row::{LOG_TOPIC, RoomsLogRow},
    room::{Room, RoomRecord},
    stored_event::StoredEvent,
    tables::{
        EVENT_META, EVENTS, HEADS, MEMBERSHIPS, MembershipRow, OUTSIDE, OutsideRow, ROOM_NUMBERS,
        ROOMS, StateRoot,
    },
};

/// Most users who have left a deserted room whose servers are asked whether they are back.
const FORMER_MAX: usize = 1_000;

/// Most servers that are asked then.
const SERVERS_BACK_MAX: usize = 10;

/// How this server stands to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// Users of ours are joined.
    Inside,
    /// We have been in it, and nobody is joined now, as far as we know: others may have come back
    /// without telling us.
    Deserted,
    /// We are not in it; others may be.
    Outside,
}

/// The lane of a room that may not be stored yet.
pub(crate) struct Entrance {
    pub(crate) lane: Lane,
    stored: Stored,
}

/// What is in the store of a room as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// Nothing.
    No,
    /// The room.
    Yes,
    /// The room, as being of another version: we only had it from hearsay.
    OtherVersion,
}

impl Entrance {
    /// An assembly upon what is stored.
    pub(crate) fn assembly<'a>(&self, rooms: &'a Rooms) -> Assembly<'a> {
        let room = Arc::clone(self.lane.room());
        match self.stored {
            Stored::No => Assembly::new_room(rooms, room),
            Stored::Yes | Stored::OtherVersion => {
                Assembly::new(rooms, room, Arc::clone(&self.lane.head))
            }
        }
    }

    /// The rows of the room as such, as far as they are not there.
    pub(crate) fn rows(&self) -> Batch {
        let mut batch = Batch::new();
        let room = self.lane.room();
        let room_id = room.room_id.as_str().to_owned();
        let record = RoomRecord { room_id: room.room_id.clone(), version: room.version.clone() };
        match self.stored {
            Stored::Yes => {}
            Stored::OtherVersion => batch.put(&ROOMS, &room.number, &Json(record)),
            Stored::No => {
                batch.expect(&ROOMS, &room.number, None);
                batch.expect(&ROOM_NUMBERS, &room_id, None);
                batch.put(&ROOMS, &room.number, &Json(record));
                batch.put(&ROOM_NUMBERS, &room_id, &room.number);
            }
        }
        batch
    }

    /// The head in the store.
    fn base(&self) -> Option<&Head> {
        (self.stored != Stored::No).then_some(&*self.lane.head)
    }
}

/// A membership outside, to be written.
pub(crate) struct Outsider {
    /// Whose membership it is.
    pub(crate) user: OwnedUserId,
    /// The member event.
    pub(crate) event: Pdu,
    /// The server that it came from, or that took it.
    pub(crate) server: OwnedServerName,
    /// What is told of the room.
    pub(crate) state: Vec<Box<RawJsonValue>>,
}

impl Rooms {
    /// Enters the lane of a room, whether we know it or not.
    ///
    /// # Errors
    /// - [`RoomsError::UnsupportedVersion`] when we cannot take part in rooms of the version.
    /// - [`RoomsError::Invalid`] when we are or were in the room, and it is of another version.
    pub(crate) async fn enter_any(
        &self,
        room_id: &RoomId,
        version: &RoomVersionId,
    ) -> Result<Entrance> {
        let supported = event::SUPPORTED.contains(version);
        let Some(rules) = event::rules(version).filter(|_| supported) else {
            return Err(RoomsError::UnsupportedVersion { version: version.clone() });
        };
        let room = match self.room(room_id).await? {
            Some(room) => room,
            None => Arc::new(Room {
                number: self.free_room_number(room_id).await?,
                room_id: room_id.to_owned(),
                version: version.clone(),
                rules: rules.clone(),
            }),
        };
        let held = self.inner.lanes.hold(room.number).await;
        let Some(known) = self.room(room_id).await? else {
            let lane = Lane::new(room, Arc::new(Head::new()), held);
            return Ok(Entrance { lane, stored: Stored::No });
        };
        if known.number != room.number {
            // Another room has taken the number meanwhile.
            return Err(RoomsError::invalid("the room could not be entered: try again"));
        }
        let head = self.head(known.number).await?;
        if known.version == *version {
            return Ok(Entrance { lane: Lane::new(known, head, held), stored: Stored::Yes });
        }
        if !head.extremities.is_empty() {
            let version = &known.version;
            return Err(RoomsError::invalid(format!("{room_id} is of version {version}")));
        }
        let room = Arc::new(Room { version: version.clone(), rules, ..Room::clone(&known) });
        Ok(Entrance { lane: Lane::new(room, head, held), stored: Stored::OtherVersion })
    }

    /// The row of a membership outside, if that is what a user has.
    pub(crate) async fn outside_row(
        &self,
        room: &Room,
        user: &UserId,
    ) -> Result<Option<OutsideRow>> {
        let key = (room.number, user.as_str().to_owned());
        Ok(self.store().get(&OUTSIDE, &key).await?.map(|Json(row)| row))
    }

    /// Writes a membership outside. Where the user has it already, nothing changes.
    ///
    /// `false` when we have come into the room meanwhile: then the room's state says what the user
    /// is, and nothing has been written.
    pub(crate) async fn put_outsider(
        &self,
        entrance: Entrance,
        outsider: Outsider,
    ) -> Result<bool> {
        let is_stored = entrance.stored == Stored::Yes;
        if is_stored && self.is_resident(entrance.lane.room()).await? {
            return Ok(false);
        }
        let Some(membership) = outsider.event.membership() else {
            return Err(RoomsError::invalid("not a membership"));
        };
        let room = Arc::clone(entrance.lane.room());
        let user = outsider.user.clone();
        let old = self.outside_row(&room, &user).await?;
        if let Some(old) = &old {
            let event = self.load_event(&room, old.event).await?;
            if event.pdu.event_id == outsider.event.event_id {
                return Ok(true);
            }
        }
        let mut head = Head::clone(&entrance.lane.head);
        let number = old.as_ref().map_or_else(|| head.take_event_number(), |old| old.event);
        let before = match old {
            Some(old) => old.before,
            None => self.member_event_before(&room, &user).await?,
        };
        let row = OutsideRow {
            event: number,
            server: outsider.server,
            before: before.clone(),
            state: outsider.state,
        };
        let event = StoredEvent {
            pdu: Arc::new(outsider.event),
            number,
            position: Position::ZERO,
            index: 0,
            state_before: StateRoot::EMPTY,
            state_after: StateRoot::EMPTY,
            redacted_by: None,
            txn: None,
            prev_state: before,
            rejected: false,
            soft_failed: false,
        };
        let mut batch = entrance.rows();
        batch.expect(&HEADS, &room.number, entrance.base());
        batch.put(&HEADS, &room.number, &head);
        let key = (room.number, number);
        batch.put(&EVENTS, &key, &event.pdu.json.as_ref().to_owned());
        batch.put(&EVENT_META, &key, &Stamped { position: Position::ZERO, value: event.meta() });
        batch.put(&OUTSIDE, &(room.number, user.to_string()), &Json(row));
        let standing = MembershipRow {
            room_id: room.room_id.clone(),
            membership: membership.clone(),
            event: number,
            forgotten: false,
        };
        let member_key = (user.to_string(), room.number);
        batch.put(&MEMBERSHIPS, &member_key, &Stamped::pending(Json(standing)));
        let log = RoomsLogRow::Outside {
            room: room.number,
            room_id: room.room_id.clone(),
            event: number,
            user: user.clone(),
            membership,
        };
        batch.log(LOG_TOPIC, log.encode()?);
        self.write_outsider(entrance, batch, (Arc::new(event), Arc::new(head)), user).await?;
        Ok(true)
    }

    async fn write_outsider(
        &self,
        entrance: Entrance,
        batch: Batch,
        (event, head): (Arc<StoredEvent>, Arc<Head>),
        user: OwnedUserId,
    ) -> Result<()> {
        let room = Arc::clone(entrance.lane.room());
        let key = (room.number, event.number);
        let caches = &self.inner.caches;
        caches.heads.begin(&room.number);
        caches.events.begin(&key);
        caches.memberships.begin(&user);
        self.write(batch, Arc::clone(&entrance.lane.held), move |rooms, result| {
            let caches = &rooms.inner.caches;
            let is_written = result.is_ok();
            caches.heads.finish(&room.number, is_written.then_some(head));
            caches.events.finish(&key, is_written.then_some(event));
            caches.memberships.finish(&user, None);
            if is_written {
                caches.keep_room(&room);
            }
        })
        .await?;
        Ok(())
    }

    /// The member event by which a user left a room that this server was in.
    async fn member_event_before(
        &self,
        room: &Room,
        user: &UserId,
    ) -> Result<Option<OwnedEventId>> {
        let memberships = self.memberships(user).await?;
        let Some(record) = memberships.get(room.number) else { return Ok(None) };
        Ok(Some(self.load_event(room, record.event).await?.pdu.event_id.clone()))
    }

    /// What a user is in a room: by its state where we are there, else by what we were told.
    pub(crate) async fn membership_anywhere(
        &self,
        room: &Room,
        user: &UserId,
    ) -> Result<Option<MembershipState>> {
        let memberships = self.memberships(user).await?;
        Ok(memberships.get(room.number).map(|record| record.membership.clone()))
    }

    /// Whether we may answer for a room: users of ours are joined, or nobody else is.
    ///
    /// # Errors
    /// [`RoomsError::Store`].
    pub async fn is_resident(&self, room: &Room) -> Result<bool> {
        Ok(self.residency(room).await? != Residency::Outside)
    }

    /// How this server stands to a room.
    async fn residency(&self, room: &Room) -> Result<Residency> {
        if self.head(room.number).await?.extremities.is_empty() {
            return Ok(Residency::Outside);
        }
        let servers = self.joined_servers(room).await?;
        Ok(if servers.contains(self.server_name()) {
            Residency::Inside
        } else if servers.is_empty() {
            Residency::Deserted
        } else {
            Residency::Outside
        })
    }

    /// How this server stands to a room that it may not know.
    pub(crate) async fn residency_in(&self, room_id: &RoomId) -> Result<Residency> {
        match self.room(room_id).await? {
            Some(room) => self.residency(&room).await,
            None => Ok(Residency::Outside),
        }
    }

    /// Those who may be in a room although we believe it deserted: beside the usual helpers the
    /// servers of users who were in it.
    pub(crate) async fn helpers_back(
        &self,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<Vec<OwnedServerName>> {
        let mut servers = self.helpers(user, room_id, via).await?;
        let room = self.load_room(room_id).await?;
        let former = self.members_with(&room, &MembershipState::Leave, FORMER_MAX).await?;
        for (member, _) in former {
            let server = member.server_name();
            if server != self.server_name()
                && !servers.iter().any(|other| other == server)
                && servers.len() < SERVERS_BACK_MAX
            {
                servers.push(server.to_owned());
            }
        }
        Ok(servers)
    }

    /// A room that we may answer for.
    ///
    /// # Errors
    /// [`RoomsError::NotFound`] when there is none.
    pub(crate) async fn room_if_resident(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        match self.room(room_id).await? {
            Some(room) if self.is_resident(&room).await? => Ok(Some(room)),
            _ => Ok(None),
        }
    }

    /// The server that an invite or a knock of a user went through, and the one that sent it.
    pub(crate) async fn servers_outside(
        &self,
        room: &Room,
        user: &UserId,
    ) -> Result<Vec<OwnedServerName>> {
        let Some(row) = self.outside_row(room, user).await? else { return Ok(Vec::new()) };
        let event = self.load_event(room, row.event).await?;
        let sender: &ServerName = event.pdu.sender.server_name();
        Ok(vec![row.server, sender.to_owned()])
    }
}

//! Coming into a room from outside: its state as another server gives it, and our join upon that.

use std::{collections::BTreeSet, sync::Arc};

use event::VerifiedPdu;
use ruma::{
    EventId, OwnedServerName, OwnedUserId, RoomVersionId, ServerName, UserId,
    events::{StateEventType, TimelineEventType},
};
use serde::Deserialize;
use store::{Batch, Json, Page, Stamped};

use crate::{
    Rooms,
    append::{Assembly, MemberChange, accept::Place},
    error::{Result, RoomsError},
    membership::handshake::Setback,
    outliers::{check_by_auth_events, deciding},
    partial::{PartialRow, SERVERS_MAX},
    remote::JoinAnswer,
    room::Room,
    tables::{ENTERED, OUTSIDE, PARTIAL, StateRoot},
};

/// Most users of ours whose memberships from before our join are looked at.
const OUTSIDERS_MAX: usize = 10_000;

impl Rooms {
    /// Takes over a room that another server has let us into. `false` when somebody else has
    /// brought us there meanwhile: then nothing has been done.
    pub(super) async fn adopt(
        &self,
        server: &ServerName,
        room: &Room,
        join: VerifiedPdu,
        answer: JoinAnswer,
    ) -> Result<bool, Setback> {
        check_create(room, &answer.state).map_err(|error| Setback::blame(server, error))?;
        let told = if answer.members_omitted {
            let mut servers = vec![server.to_owned()];
            let others = answer.servers_in_room.iter().filter(|other| *other != server);
            servers.extend(others.take(SERVERS_MAX).cloned());
            servers
        } else {
            Vec::new()
        };
        let adopted = self.adopt_in_lane(room, join, answer, told).await;
        adopted.map_err(|error| Setback::blame(server, error))
    }

    async fn adopt_in_lane(
        &self,
        room: &Room,
        join: VerifiedPdu,
        answer: JoinAnswer,
        told: Vec<OwnedServerName>,
    ) -> Result<bool> {
        self.store_ahead(room, &answer.state, &answer.auth_chain).await?;
        let entrance = self.enter_any(&room.room_id, &room.version).await?;
        let room = Arc::clone(entrance.lane.room());
        let is_new = entrance.lane.head.extremities.is_empty();
        if !is_new && self.is_resident(&room).await? {
            return Ok(false);
        }
        let mut assembly = entrance.assembly(self);
        let before = assembly.import(answer.state, answer.auth_chain).await?;
        let join = join.into_pdu();
        assembly.check_join(&join, before).await?;
        // What we had of the room from an earlier stay lies before the hole that the join leaves.
        assembly.head.extremities.clear();
        let join = assembly.accept(join, Place::at(before)).await?;
        let mut extra = entrance.rows();
        extra.extend(assembly.let_outsiders_in().await?);
        extra.put(&ENTERED, &room.number, &Stamped::pending(()));
        let partial = !told.is_empty();
        if partial {
            let row = PartialRow { join, servers: told, whole: false };
            extra.put(&PARTIAL, &room.number, &Stamped::pending(Json(row)));
            self.inner.partials.begin(room.number);
        } else {
            extra.delete(&PARTIAL, &room.number);
        }
        let held = &entrance.lane.held;
        let written = self.commit_assembly(assembly, extra, held, &room).await;
        if !partial || written.is_err() {
            self.inner.partials.forget(room.number);
        }
        written?;
        self.inner.caches.joined_servers.drop_value(&room.number);
        self.inner.caches.keep_room(&room);
        if partial {
            self.complete_behind(room.number);
        }
        Ok(true)
    }
}

impl Assembly<'_> {
    /// Checks our own join by its auth events, and by the state that we were given.
    async fn check_join(&self, join: &event::Pdu, before: StateRoot) -> Result<()> {
        let auth: Vec<_> = deciding(join, &self.room).collect();
        let known = self.known(&auth).await?;
        let decides = |id: &EventId| known.get(id).map(|event| Arc::clone(&event.pdu));
        check_by_auth_events(join, &self.room, decides)?;
        self.allows(join, before).await?.map_err(|why| RoomsError::Forbidden { why })
    }

    /// Puts the room's state in the place of what our users were in the room before we came.
    async fn let_outsiders_in(&mut self) -> Result<Batch> {
        let mut batch = Batch::new();
        if self.base.is_none() {
            return Ok(batch);
        }
        let range = OUTSIDE.prefix(&self.room.number);
        let rows = self.rooms.store().scan(&OUTSIDE, range, Page::first(OUTSIDERS_MAX)).await?;
        for (key, _) in rows {
            batch.delete(&OUTSIDE, &key);
            let Ok(user) = OwnedUserId::try_from(key.1) else { continue };
            if self.members.contains_key(&user) {
                continue;
            }
            let to = self.member_in_state(&user).await?;
            self.members.insert(user, MemberChange { from: None, to });
        }
        Ok(batch)
    }

    /// What a user is in the current state, by which event.
    async fn member_in_state(
        &self,
        user: &UserId,
    ) -> Result<Option<(ruma::events::room::member::MembershipState, crate::EventNumber)>> {
        let kind = StateEventType::RoomMember;
        let event = self.state_event(self.head.state, kind, user.as_str()).await?;
        Ok(event.and_then(|event| Some((event.pdu.membership()?, event.number))))
    }
}

/// Checks that a state has one create event, which makes a room of this version.
fn check_create(room: &Room, state: &[VerifiedPdu]) -> Result<()> {
    #[derive(Deserialize)]
    struct Content {
        #[serde(default = "first_version")]
        room_version: RoomVersionId,
    }
    let creates: BTreeSet<&EventId> = state
        .iter()
        .map(VerifiedPdu::pdu)
        .filter(|pdu| pdu.kind == TimelineEventType::RoomCreate)
        .filter(|pdu| pdu.state_key.as_deref() == Some(""))
        .map(|pdu| &*pdu.event_id)
        .collect();
    let create = state.iter().map(VerifiedPdu::pdu).find(|pdu| creates.contains(&*pdu.event_id));
    let Some(create) = create.filter(|_| creates.len() == 1) else {
        return Err(RoomsError::invalid("the state has not exactly one create event"));
    };
    let version = create.content_as::<Content>()?.room_version;
    if version != room.version {
        return Err(RoomsError::invalid(format!("the room is of version {version}")));
    }
    Ok(())
}

/// The version of a room whose create event names none.
fn first_version() -> RoomVersionId {
    RoomVersionId::V1
}

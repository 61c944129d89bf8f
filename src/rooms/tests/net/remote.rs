//! Asking another server of the same process, as federation would.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use event::{Pdu, VerifiedPdu};
use ruma::{
    EventId, OwnedEventId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId,
    events::TimelineEventType,
};
use serde_json::value::RawValue as RawJsonValue;
use store::Position;

use super::{Lie, Wires};
use crate::{
    EventNumber, Gap, JoinAnswer, PublicRoomsPage, PublicRoomsQuery, Remote, RemoteError,
    RemoteResult, RemoteState, ResolvedAlias, Room, Rooms, StateIds, Step, StoredEvent, Template,
    state::StateSelect,
};

/// Most events of one answer.
const ANSWER_LEN: usize = 20;

/// One server's way to all others.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) me: OwnedServerName,
    pub(crate) wires: Arc<Wires>,
}

pub(super) fn unreachable<T>(server: &ServerName) -> RemoteResult<T> {
    Err(RemoteError::Unreachable { server: server.to_owned(), why: "the link is cut".to_owned() })
}

fn refused<T>(server: &ServerName) -> RemoteResult<T> {
    Err(RemoteError::Refused {
        server: server.to_owned(),
        status: 404,
        errcode: "M_NOT_FOUND".to_owned(),
        message: String::new(),
        room_version: None,
    })
}

impl Link {
    pub(super) fn note(&self, server: &ServerName, what: &str) {
        let mut asked = self.wires.asked.lock().unwrap();
        asked.push(format!("{} asks {server} for {what}", self.me));
    }

    /// The other server and the room as it knows it.
    async fn reach(
        &self,
        server: &ServerName,
        room: &Room,
        what: &str,
    ) -> RemoteResult<(Rooms, Arc<Room>)> {
        if !self.is_reachable(server) {
            return unreachable(server);
        }
        self.note(server, what);
        let rooms = self.wires.rooms.lock().unwrap().get(server).cloned();
        let Some(rooms) = rooms else { return unreachable(server) };
        match rooms.room(&room.room_id).await.unwrap() {
            Some(room) => Ok((rooms, room)),
            None => refused(server),
        }
    }

    pub(super) fn verified(&self, pdu: &Pdu, room: &Room) -> VerifiedPdu {
        let keys = self.wires.keys.lock().unwrap().clone();
        let whole = self.wires.whole.lock().unwrap().get(&pdu.event_id).cloned();
        let json = whole.map_or_else(|| Arc::clone(&pdu.json), |whole| Arc::clone(&whole.json));
        event::verify(&json, &keys, &room.rules).unwrap()
    }

    fn lie(&self) -> Option<Lie> {
        *self.wires.lie.lock().unwrap()
    }

    fn lies(&self, how: Lie) -> bool {
        self.lie() == Some(how)
    }

    /// Events that have nothing to do with what was asked.
    async fn unasked(&self, rooms: &Rooms, room: &Room) -> Vec<VerifiedPdu> {
        let head = rooms.head_of(room).await.unwrap();
        let numbers: Vec<_> = (1..head.next_event.get()).rev().map(EventNumber::new).collect();
        let events = rooms.events(room, &numbers).await.unwrap();
        events.iter().map(|event| self.verified(&event.pdu, room)).collect()
    }

    fn is_lost(&self, id: &EventId) -> bool {
        self.wires.lost.lock().unwrap().contains(id)
    }

    /// Events before some others, the deepest first.
    async fn walk(
        &self,
        rooms: &Rooms,
        room: &Room,
        start: Vec<OwnedEventId>,
        stop: &[OwnedEventId],
        limit: usize,
    ) -> Vec<Arc<StoredEvent>> {
        let mut seen: HashSet<OwnedEventId> = stop.iter().cloned().collect();
        let mut queue: BTreeSet<(u64, OwnedEventId)> = BTreeSet::new();
        let mut found = Vec::new();
        let mut next = start;
        while found.len() < limit {
            for id in next.drain(..) {
                let event = rooms.event_by_id(room, &id).await.unwrap();
                let event = event.filter(|event| event.position != Position::ZERO);
                if let Some(event) = event
                    && seen.insert(id.clone())
                {
                    queue.insert((event.pdu.depth.into(), id));
                }
            }
            let Some((_, id)) = queue.pop_last() else { break };
            let event = rooms.event_by_id(room, &id).await.unwrap().unwrap();
            next.extend(event.pdu.prev_events.iter().cloned());
            if !event.rejected && !self.is_lost(&id) {
                found.push(event);
            }
        }
        found
    }

    async fn state_of(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
        what: &str,
    ) -> RemoteResult<(Rooms, Arc<Room>, Vec<Arc<Pdu>>, Vec<Arc<Pdu>>)> {
        let (rooms, room) = self.reach(server, room, what).await?;
        let event = rooms.event_by_id(&room, event_id).await.unwrap();
        let event = event.filter(|event| event.position != Position::ZERO);
        let Some(event) = event else { return refused(server) };
        let root = event.state_before;
        let state = rooms.state_events(&room, root, &StateSelect::All).await.unwrap();
        let chain: Vec<_> = state.iter().flat_map(|pdu| pdu.auth_events.clone()).collect();
        let chain = rooms.auth_chain_of(&room, chain).await.unwrap();
        let numbers: Vec<_> = chain.into_iter().map(|(number, _)| number).collect();
        let chain = rooms.events(&room, &numbers).await.unwrap();
        let chain = chain.iter().map(|event| Arc::clone(&event.pdu)).collect();
        Ok((rooms, room, state, chain))
    }
}

#[async_trait]
impl Remote for Link {
    fn is_reachable(&self, server: &ServerName) -> bool {
        let link = (self.me.clone(), server.to_owned());
        !self.wires.cut.lock().unwrap().contains(&link)
    }

    async fn event(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<VerifiedPdu> {
        let (rooms, room) = self.reach(server, room, "event").await?;
        match rooms.event_by_id(&room, event_id).await.unwrap() {
            Some(event) if !event.rejected && !self.is_lost(event_id) => {
                Ok(self.verified(&event.pdu, &room))
            }
            _ => refused(server),
        }
    }

    async fn missing_events(
        &self,
        server: &ServerName,
        room: &Room,
        gap: Gap,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        let (rooms, room) = self.reach(server, room, "missing events").await?;
        let mut start = Vec::new();
        for id in &gap.latest {
            if let Some(event) = rooms.event_by_id(&room, id).await.unwrap() {
                start.extend(event.pdu.prev_events.iter().cloned());
            }
        }
        if self.lies(Lie::Endless) {
            return Ok(self.unasked(&rooms, &room).await);
        }
        let limit = usize::from(gap.limit).min(ANSWER_LEN);
        let mut events = self.walk(&rooms, &room, start, &gap.earliest, limit).await;
        events.retain(|event| u64::from(event.pdu.depth) >= gap.min_depth);
        events.reverse();
        Ok(events.iter().map(|event| self.verified(&event.pdu, &room)).collect())
    }

    async fn backfill(
        &self,
        server: &ServerName,
        room: &Room,
        from: &[OwnedEventId],
        limit: u16,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        let (rooms, room) = self.reach(server, room, "backfill").await?;
        let events = self.walk(&rooms, &room, from.to_vec(), &[], limit.into()).await;
        Ok(events.iter().map(|event| self.verified(&event.pdu, &room)).collect())
    }

    async fn state_ids(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<StateIds> {
        if self.lies(Lie::Endless) {
            return refused(server);
        }
        let (rooms, room, mut state, mut chain) =
            self.state_of(server, room, event_id, "state IDs").await?;
        match self.lie() {
            Some(Lie::NoCreate) => state.retain(|pdu| pdu.kind != TimelineEventType::RoomCreate),
            Some(Lie::Twice) => {
                let root = rooms.current_state(&room).await.unwrap();
                state.extend(rooms.state_events(&room, root, &StateSelect::All).await.unwrap());
                state.sort_by_key(|pdu| pdu.event_id.clone());
                state.dedup_by_key(|pdu| pdu.event_id.clone());
            }
            Some(Lie::Unasked) => {
                let others = self.unasked(&rooms, &room).await;
                chain.extend(others.into_iter().map(|event| Arc::new(event.into_pdu())));
            }
            Some(Lie::Endless) | None => {}
        }
        let ids = |pdus: Vec<Arc<Pdu>>| pdus.iter().map(|pdu| pdu.event_id.clone()).collect();
        Ok(StateIds { state: ids(state), auth_chain: ids(chain) })
    }

    async fn state(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<RemoteState> {
        if self.wires.no_state.load(std::sync::atomic::Ordering::Relaxed) {
            return unreachable(server);
        }
        let (_, room, mut state, chain) = self.state_of(server, room, event_id, "state").await?;
        if self.lies(Lie::NoCreate) {
            state.retain(|pdu| pdu.kind != TimelineEventType::RoomCreate);
        }
        let verified =
            |pdus: Vec<Arc<Pdu>>| pdus.iter().map(|pdu| self.verified(pdu, &room)).collect();
        Ok(RemoteState { state: verified(state), auth_chain: verified(chain) })
    }

    async fn event_auth(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        let (rooms, room) = self.reach(server, room, "event auth").await?;
        let event = rooms.event_by_id(&room, event_id).await.unwrap();
        let Some(event) = event else { return refused(server) };
        let chain = rooms.auth_chain_of(&room, event.pdu.auth_events.clone()).await.unwrap();
        let numbers: Vec<_> = chain.into_iter().map(|(number, _)| number).collect();
        let chain = rooms.events(&room, &numbers).await.unwrap();
        let chain = chain.iter().filter(|event| !self.is_lost(&event.pdu.event_id));
        Ok(chain.map(|event| self.verified(&event.pdu, &room)).collect())
    }

    async fn timestamp_to_event(
        &self,
        server: &ServerName,
        _: &RoomId,
        _: u64,
        _: bool,
    ) -> RemoteResult<(OwnedEventId, u64)> {
        refused(server)
    }

    async fn prepare(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        step: Step,
        versions: &[RoomVersionId],
    ) -> RemoteResult<Template> {
        self.make(server, room_id, user, step, versions).await
    }

    async fn send_join(
        &self,
        server: &ServerName,
        _: &Room,
        event: &Pdu,
        omit_members: bool,
    ) -> RemoteResult<JoinAnswer> {
        self.join(server, event, omit_members).await
    }

    async fn send_knock(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
    ) -> RemoteResult<Vec<Box<RawJsonValue>>> {
        self.knock(server, room, event).await
    }

    async fn send_leave(&self, server: &ServerName, room: &Room, event: &Pdu) -> RemoteResult<()> {
        self.leave(server, room, event).await
    }

    async fn send_invite(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        told: &[Box<RawJsonValue>],
    ) -> RemoteResult<VerifiedPdu> {
        self.invite(server, room, event, told).await
    }

    async fn exchange_third_party_invite(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event: &RawJsonValue,
    ) -> RemoteResult<()> {
        self.exchange(server, room_id, event).await
    }

    async fn resolve_alias(&self, alias: &RoomAliasId) -> RemoteResult<ResolvedAlias> {
        self.alias(alias).await
    }

    async fn public_rooms(
        &self,
        server: &ServerName,
        _: &PublicRoomsQuery,
    ) -> RemoteResult<PublicRoomsPage> {
        refused(server)
    }

    async fn hierarchy(
        &self,
        server: &ServerName,
        _: &RoomId,
        _: bool,
    ) -> RemoteResult<Box<RawJsonValue>> {
        refused(server)
    }

    async fn policy_signature(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
    ) -> RemoteResult<Box<RawJsonValue>> {
        if !self.is_reachable(server) {
            return unreachable(server);
        }
        if event.content.get().contains("spam") {
            return refused(server);
        }
        let key = policy_key();
        let signed = event::countersign(event, server, &key, &room.rules).unwrap();
        let signed: serde_json::Value = serde_json::from_str(&signed.json).unwrap();
        Ok(serde_json::value::to_raw_value(&signed["signatures"]).unwrap())
    }
}

/// The key with which any server of the network signs as a policy server.
pub(crate) fn policy_key() -> event::ServerKey {
    event::ServerKey::from_parts([77; 32], "policy_server").unwrap()
}

//! Joins, knocks, leaves and invites between servers of the same process.

use event::{Pdu, VerifiedPdu};
use ruma::{RoomAliasId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::value::RawValue as RawJsonValue;

use super::remote::{Link, unreachable};
use crate::{
    JoinAnswer, RemoteError, RemoteResult, ResolvedAlias, Room, Rooms, RoomsError, Step, Template,
};

/// A refusal as a server would put it.
fn refusal(server: &ServerName, error: &RoomsError) -> RemoteError {
    let (status, errcode) = match error {
        RoomsError::NotFound { .. } => (404, "M_NOT_FOUND"),
        RoomsError::IncompatibleVersion { .. } => (400, "M_INCOMPATIBLE_ROOM_VERSION"),
        RoomsError::UnableToAuthorise => (400, "M_UNABLE_TO_AUTHORISE_JOIN"),
        RoomsError::UnableToGrant => (400, "M_UNABLE_TO_GRANT_JOIN"),
        RoomsError::Forbidden { .. } => (403, "M_FORBIDDEN"),
        RoomsError::InvalidParam { .. } => (400, "M_INVALID_PARAM"),
        _ => (500, "M_UNKNOWN"),
    };
    RemoteError::Refused {
        server: server.to_owned(),
        status,
        errcode: errcode.to_owned(),
        message: error.to_string(),
        room_version: None,
    }
}

fn raw(json: &str) -> Box<RawJsonValue> {
    RawJsonValue::from_string(json.to_owned()).unwrap()
}

impl Link {
    fn rooms_of(&self, server: &ServerName, what: &str) -> RemoteResult<Rooms> {
        use crate::Remote;
        if !self.is_reachable(server) {
            return unreachable(server);
        }
        self.note(server, what);
        let rooms = self.wires.rooms.lock().unwrap().get(server).cloned();
        rooms.map_or_else(|| unreachable(server), Ok)
    }

    pub(super) async fn make(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        step: Step,
        versions: &[RoomVersionId],
    ) -> RemoteResult<Template> {
        let rooms = self.rooms_of(server, "a template")?;
        let made = rooms.prepare_for(&self.me, room_id, user, step, versions).await;
        let mut made = made.map_err(|error| refusal(server, &error))?;
        let lie = self.wires.lies.lock().unwrap().template;
        if let Some(lie) = lie {
            let mut event: serde_json::Value = serde_json::from_str(made.event.get()).unwrap();
            lie(&mut event);
            made.event = raw(&event.to_string());
        }
        Ok(made)
    }

    pub(super) async fn join(
        &self,
        server: &ServerName,
        event: &Pdu,
        omit_members: bool,
    ) -> RemoteResult<JoinAnswer> {
        let rooms = self.rooms_of(server, "a join")?;
        let Some(room) = rooms.room(&event.room_id).await.unwrap() else {
            return Err(refusal(server, &RoomsError::NotFound { what: "room" }));
        };
        let signed = rooms.countersign_join(&room, raw(&event.json)).unwrap();
        let keys = self.wires.keys.lock().unwrap().clone();
        let event = event::verify(signed.get(), &keys, &room.rules).unwrap();
        let grant = rooms.accept_join(&self.me, event, omit_members).await;
        let grant = grant.map_err(|error| refusal(server, &error))?;
        let spoilt = self.wires.spoilt.lock().unwrap().clone();
        let verified = async |numbers: &[crate::EventNumber]| -> Vec<VerifiedPdu> {
            let events = rooms.events(&room, numbers).await.unwrap();
            let pdus = events.iter().map(|event| &event.pdu);
            let sound = pdus.filter(|pdu| !spoilt.contains(&pdu.event_id));
            sound.map(|pdu| self.verified(pdu, &room)).collect()
        };
        let mut answer = JoinAnswer {
            event: Some(self.verified(&grant.event, &room)),
            state: verified(&grant.state).await,
            auth_chain: verified(&grant.auth_chain).await,
            members_omitted: grant.members_omitted,
            servers_in_room: grant.servers_in_room,
        };
        let lie = self.wires.lies.lock().unwrap().join;
        if let Some(lie) = lie {
            lie(&mut answer);
        }
        Ok(answer)
    }

    pub(super) async fn knock(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
    ) -> RemoteResult<Vec<Box<RawJsonValue>>> {
        let rooms = self.rooms_of(server, "a knock")?;
        let told = rooms.accept_knock(&self.me, self.verified(event, room)).await;
        told.map_err(|error| refusal(server, &error))
    }

    pub(super) async fn leave(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
    ) -> RemoteResult<()> {
        let rooms = self.rooms_of(server, "a leave")?;
        let left = rooms.accept_leave(&self.me, self.verified(event, room)).await;
        left.map_err(|error| refusal(server, &error))
    }

    pub(super) async fn invite(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        told: &[Box<RawJsonValue>],
    ) -> RemoteResult<VerifiedPdu> {
        let rooms = self.rooms_of(server, "an invite")?;
        let event = self.verified(event, room);
        let signed = rooms.accept_invite(&self.me, &room.version, event, told.to_vec()).await;
        let signed = signed.map_err(|error| refusal(server, &error))?;
        Ok(self.verified(&signed, room))
    }

    pub(super) async fn exchange(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event: &RawJsonValue,
    ) -> RemoteResult<()> {
        let rooms = self.rooms_of(server, "an exchange")?;
        let done = rooms.exchange_third_party(&self.me, room_id, raw(event.get())).await;
        done.map_err(|error| refusal(server, &error))
    }

    pub(super) async fn alias(&self, alias: &RoomAliasId) -> RemoteResult<ResolvedAlias> {
        let server = alias.server_name();
        let rooms = self.rooms_of(server, "an alias")?;
        match rooms.resolve_alias(alias).await.unwrap() {
            Some((room_id, servers)) => Ok(ResolvedAlias { room_id, servers }),
            None => Err(refusal(server, &RoomsError::NotFound { what: "alias" })),
        }
    }
}

//! A server without federation, as rooms see it.

use async_trait::async_trait;
use event::{Pdu, VerifiedPdu};
use ruma::{EventId, OwnedEventId, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId};
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    directory::{PublicRoomsPage, PublicRoomsQuery},
    remote::{
        Gap, JoinAnswer, Remote, RemoteError, RemoteResult, RemoteState, ResolvedAlias, StateIds,
        Step, Template,
    },
    room::Room,
};

/// Refuses everything: federation is switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

/// The answer to everything.
fn off<T>(server: &ServerName) -> RemoteResult<T> {
    let why = "federation is switched off".to_owned();
    Err(RemoteError::Denied { server: server.to_owned(), why })
}

#[async_trait]
impl Remote for Nobody {
    fn is_reachable(&self, _: &ServerName) -> bool {
        false
    }

    async fn event(&self, server: &ServerName, _: &Room, _: &EventId) -> RemoteResult<VerifiedPdu> {
        off(server)
    }

    async fn missing_events(
        &self,
        server: &ServerName,
        _: &Room,
        _: Gap,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        off(server)
    }

    async fn backfill(
        &self,
        server: &ServerName,
        _: &Room,
        _: &[OwnedEventId],
        _: u16,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        off(server)
    }

    async fn state_ids(
        &self,
        server: &ServerName,
        _: &Room,
        _: &EventId,
    ) -> RemoteResult<StateIds> {
        off(server)
    }

    async fn state(&self, server: &ServerName, _: &Room, _: &EventId) -> RemoteResult<RemoteState> {
        off(server)
    }

    async fn event_auth(
        &self,
        server: &ServerName,
        _: &Room,
        _: &EventId,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        off(server)
    }

    async fn timestamp_to_event(
        &self,
        server: &ServerName,
        _: &RoomId,
        _: u64,
        _: bool,
    ) -> RemoteResult<(OwnedEventId, u64)> {
        off(server)
    }

    async fn prepare(
        &self,
        server: &ServerName,
        _: &RoomId,
        _: &UserId,
        _: Step,
        _: &[RoomVersionId],
    ) -> RemoteResult<Template> {
        off(server)
    }

    async fn send_join(
        &self,
        server: &ServerName,
        _: &Room,
        _: &Pdu,
        _: bool,
    ) -> RemoteResult<JoinAnswer> {
        off(server)
    }

    async fn send_knock(
        &self,
        server: &ServerName,
        _: &Room,
        _: &Pdu,
    ) -> RemoteResult<Vec<Box<RawJsonValue>>> {
        off(server)
    }

    async fn send_leave(&self, server: &ServerName, _: &Room, _: &Pdu) -> RemoteResult<()> {
        off(server)
    }

    async fn send_invite(
        &self,
        server: &ServerName,
        _: &Room,
        _: &Pdu,
        _: &[Box<RawJsonValue>],
    ) -> RemoteResult<VerifiedPdu> {
        off(server)
    }

    async fn exchange_third_party_invite(
        &self,
        server: &ServerName,
        _: &RoomId,
        _: &RawJsonValue,
    ) -> RemoteResult<()> {
        off(server)
    }

    async fn resolve_alias(&self, alias: &RoomAliasId) -> RemoteResult<ResolvedAlias> {
        off(alias.server_name())
    }

    async fn public_rooms(
        &self,
        server: &ServerName,
        _: &PublicRoomsQuery,
    ) -> RemoteResult<PublicRoomsPage> {
        off(server)
    }

    async fn hierarchy(
        &self,
        server: &ServerName,
        _: &RoomId,
        _: bool,
    ) -> RemoteResult<Box<RawJsonValue>> {
        off(server)
    }

    async fn policy_signature(
        &self,
        server: &ServerName,
        _: &Room,
        _: &Pdu,
    ) -> RemoteResult<Box<RawJsonValue>> {
        off(server)
    }
}

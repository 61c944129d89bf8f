//! The ports of the domain, answered by asking other servers: [`::rooms::Remote`] and
//! [`::users::Remote`].

mod answers;
mod events;
mod media;
mod membership;
mod questions;
mod users;

use async_trait::async_trait;
use event::{Pdu, VerifiedPdu};
use rooms::{
    Gap, JoinAnswer, PublicRoomsPage, PublicRoomsQuery, RemoteResult, RemoteState, ResolvedAlias,
    Room, StateIds, Step, Template,
};
use ruma::{
    EventId, OwnedEventId, RoomAliasId, RoomId, RoomVersionId, ServerName, UserId,
    api::{OutgoingRequest, path_builder::PathBuilder},
};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    Client, Limits,
    client::{bad_answer, raw_request},
};

/// Largest answer that is read on the spot, in bytes: a larger one would keep others waiting.
const READ_AT_ONCE_MAX: usize = 512 * 1024;

impl Client {
    /// Sends a request of ruma's and reads the answer as the given type, which may be laxer than
    /// ruma's: what we don't use, others may leave out.
    async fn ask<R, T>(&self, server: &ServerName, request: R, limits: Limits) -> RemoteResult<T>
    where
        R: OutgoingRequest,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
        T: DeserializeOwned + Send + 'static,
    {
        let raw = raw_request(request).map_err(|why| bad_answer(server, why))?;
        let body = self.send_raw(server, raw, limits).await?.body;
        let is_large = body.len() > READ_AT_ONCE_MAX;
        let read = move || serde_json::from_slice(&body).map_err(|error| error.to_string());
        let answer = if is_large {
            let task = tokio::task::spawn_blocking(read);
            task.await.unwrap_or_else(|error| Err(error.to_string()))
        } else {
            read()
        };
        answer.map_err(|why| bad_answer(server, why))
    }

    /// Leaves out of a list of events those that are malformed or wrongly signed.
    async fn sound(
        &self,
        server: &ServerName,
        room: &Room,
        events: Vec<Box<RawJsonValue>>,
    ) -> Vec<VerifiedPdu> {
        let results = self.keyring().verify_all(events, &room.rules).await;
        let count = results.len();
        let mut first_error = None;
        let sound: Vec<VerifiedPdu> = results
            .into_iter()
            .filter_map(|result| result.map_err(|error| first_error.get_or_insert(error)).ok())
            .collect();
        if let Some(error) = first_error {
            tracing::warn!(
                %server, room.id = %room.room_id, events = count, bad = count - sound.len(),
                %error, "bad events of a server are left out"
            );
        }
        sound
    }
}

#[async_trait]
impl rooms::Remote for Client {
    fn is_reachable(&self, server: &ServerName) -> bool {
        Self::is_reachable(self, server)
    }

    async fn event(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<VerifiedPdu> {
        self.fetch_event(server, room, event_id).await
    }

    async fn missing_events(
        &self,
        server: &ServerName,
        room: &Room,
        gap: Gap,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        self.fetch_missing_events(server, room, gap).await
    }

    async fn backfill(
        &self,
        server: &ServerName,
        room: &Room,
        from: &[OwnedEventId],
        limit: u16,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        self.fetch_backfill(server, room, from, limit).await
    }

    async fn state_ids(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<StateIds> {
        self.fetch_state_ids(server, room, event_id).await
    }

    async fn state(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<RemoteState> {
        self.fetch_state(server, room, event_id).await
    }

    async fn event_auth(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<Vec<VerifiedPdu>> {
        self.fetch_event_auth(server, room, event_id).await
    }

    async fn timestamp_to_event(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        timestamp_ms: u64,
        backwards: bool,
    ) -> RemoteResult<(OwnedEventId, u64)> {
        self.ask_timestamp_to_event(server, room_id, timestamp_ms, backwards).await
    }

    async fn prepare(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        step: Step,
        versions: &[RoomVersionId],
    ) -> RemoteResult<Template> {
        self.ask_template(server, room_id, user, step, versions).await
    }

    async fn send_join(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        omit_members: bool,
    ) -> RemoteResult<JoinAnswer> {
        self.put_join(server, room, event, omit_members).await
    }

    async fn send_knock(
        &self,
        server: &ServerName,
        _: &Room,
        event: &Pdu,
    ) -> RemoteResult<Vec<Box<RawJsonValue>>> {
        self.put_knock(server, event).await
    }

    async fn send_leave(&self, server: &ServerName, _: &Room, event: &Pdu) -> RemoteResult<()> {
        self.put_leave(server, event).await
    }

    async fn send_invite(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        room_state: &[Box<RawJsonValue>],
    ) -> RemoteResult<VerifiedPdu> {
        self.put_invite(server, room, event, room_state).await
    }

    async fn exchange_third_party_invite(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event: &RawJsonValue,
    ) -> RemoteResult<()> {
        self.put_third_party_invite(server, room_id, event).await
    }

    async fn resolve_alias(&self, alias: &RoomAliasId) -> RemoteResult<ResolvedAlias> {
        self.ask_alias(alias).await
    }

    async fn public_rooms(
        &self,
        server: &ServerName,
        query: &PublicRoomsQuery,
    ) -> RemoteResult<PublicRoomsPage> {
        self.ask_public_rooms(server, query).await
    }

    async fn hierarchy(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> RemoteResult<Box<RawJsonValue>> {
        self.ask_hierarchy(server, room_id, suggested_only).await
    }

    async fn policy_signature(
        &self,
        server: &ServerName,
        _: &Room,
        event: &Pdu,
    ) -> RemoteResult<Box<RawJsonValue>> {
        self.ask_policy_signature(server, event).await
    }
}

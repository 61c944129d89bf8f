//! Aliases, directories, spaces and policies of other servers.

use event::Pdu;
use rooms::{PublicRoomsPage, PublicRoomsQuery, RemoteResult, ResolvedAlias};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UInt,
    api::federation::{
        directory::{get_public_rooms, get_public_rooms_filtered},
        policy::sign_event,
        query::get_room_information,
        space::get_hierarchy,
    },
    directory::PublicRoomsChunk,
};
use serde::Deserialize;
use serde_json::value::RawValue as RawJsonValue;

use crate::{Client, Limits, client::bad_answer, remote::answers::Bounded};

/// Most servers that an alias may name.
const SERVERS_LEN_MAX: usize = 10_000;

/// How many of the servers that an alias names are of use.
const SERVERS_USED_MAX: usize = 100;

/// Most rooms of a page of a directory.
const ROOMS_LEN_MAX: usize = 5_000;

impl Client {
    pub(super) async fn ask_alias(&self, alias: &RoomAliasId) -> RemoteResult<ResolvedAlias> {
        #[derive(Deserialize)]
        struct Answer {
            room_id: OwnedRoomId,
            #[serde(default)]
            servers: Bounded<String, SERVERS_LEN_MAX>,
        }
        let request = get_room_information::v1::Request::new(alias.to_owned());
        let answer: Answer = self.ask(alias.server_name(), request, Limits::URGENT).await?;
        let servers = answer.servers.0.into_iter();
        let servers = servers.filter_map(|name| OwnedServerName::try_from(name).ok());
        Ok(ResolvedAlias {
            room_id: answer.room_id,
            servers: servers.take(SERVERS_USED_MAX).collect(),
        })
    }

    pub(super) async fn ask_public_rooms(
        &self,
        server: &ServerName,
        query: &PublicRoomsQuery,
    ) -> RemoteResult<PublicRoomsPage> {
        #[derive(Deserialize)]
        struct Answer {
            chunk: Bounded<Box<RawJsonValue>, ROOMS_LEN_MAX>,
            next_batch: Option<String>,
            prev_batch: Option<String>,
            total_room_count_estimate: Option<u64>,
        }
        let limit = query.limit.map(|limit| UInt::new_saturating(limit as u64));
        let answer: Answer = if query.filter.is_empty() {
            let mut request = get_public_rooms::v1::Request::new();
            request.limit = limit;
            request.since.clone_from(&query.since);
            self.ask(server, request, Limits::URGENT).await?
        } else {
            let mut request = get_public_rooms_filtered::v1::Request::new();
            request.limit = limit;
            request.since.clone_from(&query.since);
            request.filter = query.filter.clone();
            self.ask(server, request, Limits::URGENT).await?
        };
        // One malformed room is no reason to show none.
        let rooms = answer.chunk.0.iter();
        let chunk: Vec<PublicRoomsChunk> =
            rooms.filter_map(|room| serde_json::from_str(room.get()).ok()).collect();
        Ok(PublicRoomsPage {
            total_estimate: answer.total_room_count_estimate.unwrap_or(chunk.len() as u64),
            chunk,
            next_batch: answer.next_batch,
            prev_batch: answer.prev_batch,
        })
    }

    pub(super) async fn ask_hierarchy(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> RemoteResult<Box<RawJsonValue>> {
        let mut request = get_hierarchy::v1::Request::new(room_id.to_owned());
        request.suggested_only = suggested_only;
        self.ask(server, request, Limits::QUERY).await
    }

    pub(super) async fn ask_policy_signature(
        &self,
        server: &ServerName,
        event: &Pdu,
    ) -> RemoteResult<Box<RawJsonValue>> {
        let pdu = RawJsonValue::from_string(event.json.to_string())
            .map_err(|error| bad_answer(server, format!("no request: {error}")))?;
        self.ask(server, sign_event::v1::Request::new(pdu), Limits::QUERY).await
    }
}

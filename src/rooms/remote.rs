//! What rooms ask of other servers. The crate `federation` answers; [`Nobody`] stands for a server
//! without federation.
//!
//! Every event that comes through here has been verified: an event of a list whose form, hash or
//! signature is wrong has been left out. Whether it belongs to the room and may be there is for
//! this
//! crate to say.

mod nobody;

use std::fmt;

use async_trait::async_trait;
use event::{Pdu, VerifiedPdu};
use ruma::{
    EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, RoomVersionId,
    ServerName, UserId,
};
use serde_json::value::RawValue as RawJsonValue;

use crate::{
    directory::{PublicRoomsPage, PublicRoomsQuery},
    room::Room,
};

pub use self::nobody::Nobody;

/// What another server said, or why it said nothing of use.
pub type RemoteResult<T> = Result<T, RemoteError>;

/// Why another server could not help.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RemoteError {
    /// We may not talk to it: federation is off, or the configuration denies the server.
    #[error("{server} may not be talked to: {why}")]
    Denied {
        /// The server.
        server: OwnedServerName,
        /// The rule, as a sentence for people.
        why: String,
    },
    /// It could not be found or reached, or did not answer in time.
    #[error("{server} could not be reached: {why}")]
    Unreachable {
        /// The server.
        server: OwnedServerName,
        /// What happened, as a sentence for people.
        why: String,
    },
    /// It answered with an error.
    #[error("{server} answered {status} {errcode}: {message}")]
    Refused {
        /// The server.
        server: OwnedServerName,
        /// The HTTP status.
        status: u16,
        /// The Matrix error code, like `M_FORBIDDEN`; empty where it gave none.
        errcode: String,
        /// Its own words, cut to a bounded length.
        message: String,
        /// With `M_INCOMPATIBLE_ROOM_VERSION`: the room's version.
        room_version: Option<RoomVersionId>,
    },
    /// Its answer is malformed, too large or wrongly signed.
    #[error("{server} gave a bad answer: {why}")]
    BadAnswer {
        /// The server.
        server: OwnedServerName,
        /// What is wrong, as a sentence for people.
        why: String,
    },
}

/// The events between what we have and what we have heard of.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Events whose ancestors are missing.
    pub latest: Vec<OwnedEventId>,
    /// Events that we have: the answer needs nothing before them.
    pub earliest: Vec<OwnedEventId>,
    /// Least depth of an event of use.
    pub min_depth: u64,
    /// Most events wanted.
    pub limit: u16,
}

/// The state before an event, by IDs.
#[derive(Clone, Debug, Default)]
pub struct StateIds {
    /// The state events.
    pub state: Vec<OwnedEventId>,
    /// Their auth chains.
    pub auth_chain: Vec<OwnedEventId>,
}

/// The state before an event.
#[derive(Clone, Debug, Default)]
pub struct RemoteState {
    /// The state events.
    pub state: Vec<VerifiedPdu>,
    /// Their auth chains.
    pub auth_chain: Vec<VerifiedPdu>,
}

/// What a user of ours wants of a room that another server holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To join.
    Join,
    /// To knock.
    Knock,
    /// To leave, to reject an invite or to take back a knock.
    Leave,
}

/// A member event that another server prepared for us to complete and sign.
#[derive(Clone, Debug)]
pub struct Template {
    /// The version of the room.
    pub version: RoomVersionId,
    /// The event without hashes and signatures, a JSON object.
    pub event: Box<RawJsonValue>,
}

/// The answer to a join.
#[derive(Clone, Debug)]
pub struct JoinAnswer {
    /// The join event with the signatures that the other server added, where it gave it back.
    pub event: Option<VerifiedPdu>,
    /// The state before the join; without most members where `members_omitted`.
    pub state: Vec<VerifiedPdu>,
    /// The auth chain of the state.
    pub auth_chain: Vec<VerifiedPdu>,
    /// Whether members were left out of the state.
    pub members_omitted: bool,
    /// The servers in the room, given where members were left out.
    pub servers_in_room: Vec<OwnedServerName>,
}

/// Where an alias points.
#[derive(Clone, Debug)]
pub struct ResolvedAlias {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that can help to join.
    pub servers: Vec<OwnedServerName>,
}

/// Other servers, as rooms see them. No method may be awaited inside a lane.
#[async_trait]
pub trait Remote: Send + Sync + fmt::Debug {
    /// Whether a request to a server has a chance now: it is allowed and has not just failed. For
    /// the order in which servers are asked.
    fn is_reachable(&self, server: &ServerName) -> bool;

    /// One event by its ID.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1eventeventid)
    async fn event(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<VerifiedPdu>;

    /// The events in a gap, oldest first as far as the server kept to that.
    async fn missing_events(
        &self,
        server: &ServerName,
        room: &Room,
        gap: Gap,
    ) -> RemoteResult<Vec<VerifiedPdu>>;

    /// The given events and those before them, at most `limit`.
    async fn backfill(
        &self,
        server: &ServerName,
        room: &Room,
        from: &[OwnedEventId],
        limit: u16,
    ) -> RemoteResult<Vec<VerifiedPdu>>;

    /// The state before an event, as IDs.
    async fn state_ids(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<StateIds>;

    /// The state before an event, as events.
    async fn state(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<RemoteState>;

    /// The auth chain of an event.
    async fn event_auth(
        &self,
        server: &ServerName,
        room: &Room,
        event_id: &EventId,
    ) -> RemoteResult<Vec<VerifiedPdu>>;

    /// The event closest to a time in milliseconds since the Unix epoch, and its time: the first at
    /// or after it, or with `backwards` the last at or before it.
    async fn timestamp_to_event(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        timestamp_ms: u64,
        backwards: bool,
    ) -> RemoteResult<(OwnedEventId, u64)>;

    /// Asks for a member event to complete: `make_join`, `make_knock` or `make_leave`. `versions`
    /// are those that we can take part in.
    async fn prepare(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        step: Step,
        versions: &[RoomVersionId],
    ) -> RemoteResult<Template>;

    /// Sends a completed join. With `omit_members` most members may be left out of the answer.
    async fn send_join(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        omit_members: bool,
    ) -> RemoteResult<JoinAnswer>;

    /// Sends a completed knock. Gives the stripped state of the room.
    async fn send_knock(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
    ) -> RemoteResult<Vec<Box<RawJsonValue>>>;

    /// Sends a completed leave.
    async fn send_leave(&self, server: &ServerName, room: &Room, event: &Pdu) -> RemoteResult<()>;

    /// Sends an invite of one of the server's users, with stripped state (or, where the version
    /// wants it, whole events). Gives the event back with the server's signature.
    async fn send_invite(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
        room_state: &[Box<RawJsonValue>],
    ) -> RemoteResult<VerifiedPdu>;

    /// Asks the server that a third-party invite came from to make a real invite of it.
    async fn exchange_third_party_invite(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        event: &RawJsonValue,
    ) -> RemoteResult<()>;

    /// Where an alias of another server points.
    async fn resolve_alias(&self, alias: &RoomAliasId) -> RemoteResult<ResolvedAlias>;

    /// A page of another server's room directory.
    async fn public_rooms(
        &self,
        server: &ServerName,
        query: &PublicRoomsQuery,
    ) -> RemoteResult<PublicRoomsPage>;

    /// A space and its children as another server sees them: the JSON object of
    /// `GET /_matrix/federation/v1/hierarchy/{roomId}`.
    async fn hierarchy(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        suggested_only: bool,
    ) -> RemoteResult<Box<RawJsonValue>>;

    /// Asks a policy server to sign an event. Gives the `signatures` object of its answer.
    /// [Spec](https://spec.matrix.org/v1.19/server-server-api/#policy-servers)
    async fn policy_signature(
        &self,
        server: &ServerName,
        room: &Room,
        event: &Pdu,
    ) -> RemoteResult<Box<RawJsonValue>>;
}

//! The door to this server for others: what it takes to answer them, and which path leads to which
//! answer.

use std::sync::Arc;

use ::media::Media;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use clock::Clock;
use http::StatusCode;
use rooms::Rooms;
use ruma::OwnedServerName;
use serde_json::json;
use store::Store;
use tokio::sync::Semaphore;
use users::Users;

use crate::{
    Client, OwnKeys, Sender,
    inbound::{
        devices,
        error::{Refusal, ok},
        events, invites, media, memberships, notary, openid, queries,
        staging::Staging,
        third_parties, transaction,
        turns::Turns,
    },
    keys,
};

/// How many strangers can make us ask other servers at the same time.
const STRANGERS_MAX: usize = 4;

/// What the door needs to answer other servers.
#[derive(Clone, Debug)]
pub struct DoorParts {
    /// The name of this server.
    pub server_name: OwnedServerName,
    /// The keys that it signs with, and those that it signed with before.
    pub keys: OwnKeys,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The version of this program.
    pub version: &'static str,
    /// Where what came in waits.
    pub store: Store,
    /// The rooms of this server.
    pub rooms: Rooms,
    /// The users of this server.
    pub users: Users,
    /// The files of this server.
    pub media: Media,
    /// Talks with other servers, and knows their keys.
    pub client: Client,
    /// Sends to other servers; told when one of them speaks.
    pub sender: Sender,
}

/// The door. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    pub(crate) server_name: OwnedServerName,
    pub(crate) keys: OwnKeys,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) version: &'static str,
    pub(crate) store: Store,
    pub(crate) rooms: Rooms,
    pub(crate) users: Users,
    pub(crate) media: Media,
    pub(crate) client: Client,
    pub(crate) sender: Sender,
    /// Events that wait for others.
    pub(crate) staging: Staging,
    /// Transactions of one server are received one by one.
    pub(crate) turns: Turns,
    /// What strangers can make us ask other servers is done for a few at a time.
    pub(crate) strangers: Arc<Semaphore>,
}

impl Door {
    /// Opens the door, and goes on with events that were received by the last run of the server and
    /// wait for others.
    #[must_use]
    pub fn start(parts: DoorParts) -> Self {
        let DoorParts {
            server_name,
            keys,
            clock,
            version,
            store,
            rooms,
            users,
            media,
            client,
            sender,
        } = parts;
        let keyring = client.keyring().clone();
        let staging = Staging::start(store.clone(), rooms.clone(), keyring);
        let turns = Turns::default();
        Self {
            server_name,
            keys,
            clock,
            version,
            store,
            rooms,
            users,
            media,
            client,
            sender,
            staging,
            turns,
            strangers: Arc::new(Semaphore::new(STRANGERS_MAX)),
        }
    }

    /// Stops working on events that wait. They stay in the store.
    pub async fn stop(&self) {
        self.staging.stop().await;
    }
}

/// Everything that other servers may ask.
pub fn router(door: Door) -> Router {
    events_router()
        .merge(memberships_router())
        .merge(queries_router())
        .merge(keys_router())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(door)
}

/// Events, states and transactions.
fn events_router() -> Router<Door> {
    const V1: &str = "/_matrix/federation/v1";
    let path = |rest: &str| format!("{V1}/{rest}");
    Router::new()
        .route(&path("send/{txn_id}"), put(transaction::send_transaction))
        .route(&path("event/{event_id}"), get(events::get_event))
        .route(&path("state/{room_id}"), get(events::get_state))
        .route(&path("state_ids/{room_id}"), get(events::get_state_ids))
        .route(&path("event_auth/{room_id}/{event_id}"), get(events::get_event_auth))
        .route(&path("backfill/{room_id}"), get(events::get_backfill))
        .route(&path("get_missing_events/{room_id}"), post(events::get_missing_events))
        .route(&path("timestamp_to_event/{room_id}"), get(events::get_event_by_timestamp))
}

/// Joins, knocks, leaves and invites.
fn memberships_router() -> Router<Door> {
    let v1 = |rest: &str| format!("/_matrix/federation/v1/{rest}");
    let v2 = |rest: &str| format!("/_matrix/federation/v2/{rest}");
    Router::new()
        .route(&v1("make_join/{room_id}/{user_id}"), get(memberships::make_join))
        .route(&v1("send_join/{room_id}/{event_id}"), put(memberships::send_join_v1))
        .route(&v2("send_join/{room_id}/{event_id}"), put(memberships::send_join_v2))
        .route(&v1("make_knock/{room_id}/{user_id}"), get(memberships::make_knock))
        .route(&v1("send_knock/{room_id}/{event_id}"), put(memberships::send_knock))
        .route(&v1("make_leave/{room_id}/{user_id}"), get(memberships::make_leave))
        .route(&v1("send_leave/{room_id}/{event_id}"), put(memberships::send_leave_v1))
        .route(&v2("send_leave/{room_id}/{event_id}"), put(memberships::send_leave_v2))
        .route(&v1("invite/{room_id}/{event_id}"), put(invites::invite_v1))
        .route(&v2("invite/{room_id}/{event_id}"), put(invites::invite_v2))
        .route(&v1("3pid/onbind"), put(third_parties::on_bind))
        .route(
            &v1("exchange_third_party_invite/{room_id}"),
            put(invites::exchange_third_party_invite),
        )
}

/// Questions about users and rooms.
fn queries_router() -> Router<Door> {
    let v1 = |rest: &str| format!("/_matrix/federation/v1/{rest}");
    Router::new()
        .route(&v1("version"), get(version))
        .route(&v1("query/profile"), get(queries::query_profile))
        .route(&v1("query/directory"), get(queries::query_directory))
        .route(&v1("query/{kind}"), get(queries::query_other))
        .route(&v1("publicRooms"), get(queries::get_public_rooms).post(queries::query_public_rooms))
        .route(&v1("hierarchy/{room_id}"), get(queries::get_hierarchy))
        .route(&v1("user/devices/{user_id}"), get(devices::get_devices))
        .route(&v1("user/keys/query"), post(devices::query_keys))
        .route(&v1("user/keys/claim"), post(devices::claim_keys))
        .route(&v1("openid/userinfo"), get(openid::user_info))
        .route(&v1("media/download/{media_id}"), get(media::download))
        .route(&v1("media/thumbnail/{media_id}"), get(media::thumbnail))
}

/// Our signing keys, and those of others.
fn keys_router() -> Router<Door> {
    Router::new()
        .route("/_matrix/key/v2/server", get(keys::server_keys))
        .route("/_matrix/key/v2/query", post(notary::query_batch))
        .route("/_matrix/key/v2/query/{server_name}", get(notary::query))
        // Servers before v1.6 name the key.
        .route("/_matrix/key/v2/server/{key_id}", get(keys::server_keys))
        .route("/_matrix/key/v2/query/{server_name}/{key_id}", get(notary::query_one))
}

/// Tells the name and version of this program.
/// [Spec](https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1version)
async fn version(State(door): State<Door>) -> Response {
    ok(&json!({ "server": { "name": "Natterjack", "version": door.version } }))
}

/// Answers a request for a path that nobody knows.
async fn unknown_path() -> Response {
    Refusal::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "unrecognized request").into_response()
}

/// Answers a request with a method that the path does not have.
async fn wrong_method() -> Response {
    let message = "unrecognized request: wrong method for this path";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "M_UNRECOGNIZED", message).into_response()
}

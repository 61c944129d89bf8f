//! What tests of whole servers stand on: a server in this process, and clients that talk to it over
//! HTTP.
//!
//! ```ignore
//! let server = kit::server().await;
//! let alice = server.register("alice").await;
//! let room = alice.create_room(json!({ "preset": "public_chat" })).await;
//! let event_id = alice.say(&room, "Hello").await;
//! ```
//!
//! A request answers `(status, body)`; its sibling with a leading `do_` insists on 200 and answers
//! the body.

mod authority;
mod client;
mod link;
mod network;
mod peer;
mod peer_host;
mod peer_room;
mod process;
mod room_view;
mod server;
mod user;

pub(crate) use self::{
    authority::Authority,
    client::{Client, Reply, encode, refused, reply},
    network::{Network, network, network_with},
    peer::{Heard, Peer},
    peer_host::Hosted,
    peer_room::{Made, PeerRoom, event_id},
    process::Process,
    room_view::RoomView,
    server::{TestServer, server, server_with},
    user::{PASSWORD, User},
};

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

mod client;
mod process;
mod server;
mod user;

pub(crate) use self::{
    client::{Client, Reply, encode, reply},
    process::Process,
    server::{TestServer, server, server_with},
    user::{PASSWORD, User},
};

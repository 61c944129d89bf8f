//! The door to other servers.
//!
//! Today it answers who this server is: its signing keys and its version. Talking with other
//! servers comes later. It never knows `api`, `syncing` or `push`.

mod client;
mod door;
mod error;
mod inbound;
mod keyring;
mod keys;
mod own_keys;
mod remote;
mod resolve;
mod sender;
mod server_lists;
mod tables;
mod verify;
mod x_matrix;

#[cfg(test)]
mod tests;

pub use crate::{
    client::{Certificates, Client, ClientConfig, Limits, Patience, RawAnswer, RawRequest},
    door::{Door, DoorParts, router},
    error::FederationError,
    keyring::{Keyring, RequestError},
    own_keys::OwnKeys,
    sender::{Deliver, DeliverError, Sender, SenderConfig, SenderParts, Transaction},
    server_lists::ServerLists,
    x_matrix::{XMatrix, XMatrixError, sign as sign_request},
};

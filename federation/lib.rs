//! The door to other servers.
//!
//! Today it answers who this server is: its signing keys and its version. Talking with other
//! servers comes later. It never knows `api`, `syncing` or `push`.

mod door;
mod keys;

pub use crate::door::{Door, router};

//! The door, knocked at by a server of the test's making.

mod door;
mod kit;
mod membership;
mod questions;
mod transactions;

//! The sender on rooms and users in memory, with peers that do as they are told and a clock that
//! stands still.

mod backoff;
mod catch_up;
mod devices;
mod fleeting;
mod kit;
mod order;

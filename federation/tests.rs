//! The client against a fake server that speaks TLS in this process.

mod bounds;
mod discovery;
mod fake;
mod keys;
mod requests;
mod well_known;

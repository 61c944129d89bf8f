//! The client-server API over HTTP: reads requests, asks the domain, writes answers.
//!
//! Handlers translate and nothing else: every rule lives in `rooms`, `users` or `syncing`. This
//! crate does not know other servers, events' formats or storage.

mod account;
mod account_data;
mod admin_register;
mod auth;
mod capabilities;
mod dehydrated;
mod devices;
mod directory;
mod discovery;
mod error;
mod extract;
mod filters;
mod key_backup;
mod keys;
mod login;
mod media;
mod openid;
mod presence;
mod profile;
mod push_rules;
mod rate_limit;
mod register;
mod rooms;
mod router;
mod settings;
mod state;
mod sync;
mod to_device;
mod uia;

pub use crate::{
    account::{deactivate_account, finish_departures},
    error::ApiError,
    rate_limit::PeerAddress,
    router::router,
    settings::{ApiSettings, JSON_BODY_BYTES_MAX_DEFAULT, RegistrationSettings, SupportSettings},
    state::ApiState,
};

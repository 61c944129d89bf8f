//! What other servers ask of this one and tell it.
//!
//! Handlers translate between HTTP and the domain and hold no rule. Every one that takes an
//! [`origin::Signed`] is called for a server that has proved who it is.

pub(crate) mod devices;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod extract;
pub(crate) mod invites;
pub(crate) mod media;
pub(crate) mod memberships;
pub(crate) mod notary;
pub(crate) mod openid;
pub(crate) mod origin;
pub(crate) mod queries;
pub(crate) mod staging;
pub(crate) mod tables;
pub(crate) mod third_parties;
pub(crate) mod transaction;
pub(crate) mod transaction_body;
pub(crate) mod turns;

#[cfg(test)]
mod tests;

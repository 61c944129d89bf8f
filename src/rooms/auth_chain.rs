//! Auth chains: the events that allow an event, and those that allow them, and so on.

/// Most events of an auth chain that are looked at.
pub(crate) const AUTH_CHAIN_LEN_MAX: usize = 200_000;

//! Tests of whole flows, on a store in memory and a clock that stands still.

pub(crate) mod core;
mod far;
pub(crate) mod life;
pub(crate) mod net;

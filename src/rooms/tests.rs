//! Tests of whole flows, on a store in memory and a clock that stands still.

mod core;
pub(crate) mod life;

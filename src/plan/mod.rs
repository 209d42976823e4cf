//! What is to be done, as values that can be printed: in a container's network namespace (`container.rs`), on the host.

mod container;
pub(crate) mod host_plan;
pub(crate) mod persistent;

pub(crate) use container::*;

//! What is to be done, as values: in a container's network namespace, and on the host.

mod container;
pub(crate) mod host_plan;
pub(crate) mod lasting;

pub(crate) use container::*;

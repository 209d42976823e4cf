//! What is to be done, as values: in a container's network namespace, and on the host.

mod container;
pub mod host_plan;
pub mod lasting;

pub use container::*;

//! What OCI runtimes and engines say: state, bundle, annotations, hooks, devices. Only `state.rs` does I/O.
//!
//! An annotation goes from `asked.rs` (all of a container) to `request.rs` (`io.underlay.networks`).

pub(crate) mod address;
pub(crate) mod asked;
pub(crate) mod cdi;
pub(crate) mod injection;
pub(crate) mod own_hooks;
pub(crate) mod request;
pub(crate) mod runtime_call;
mod state;

pub(crate) use state::*;

//! What OCI runtimes and engines say: state, bundle, annotations, hooks, devices. Only `state.rs` does I/O.
//!
//! An annotation goes from `annotation_set.rs` (all of a container) to `annotations.rs` (`io.underlay.networks`).

pub(crate) mod annotation_set;
pub(crate) mod annotations;
pub(crate) mod cdi;
pub(crate) mod hooks;
pub(crate) mod inject;
pub(crate) mod requested_address;
pub(crate) mod runtime_args;
mod state;

pub(crate) use state::*;

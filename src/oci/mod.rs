//! What OCI runtimes and engines tell: state, bundle, annotations, hooks, devices. Only `state.rs` does I/O.
//!
//! `annotation_set.rs` has all annotations of a container; `annotations.rs` parses `io.underlay.networks`.

pub(crate) mod annotation_set;
pub(crate) mod annotations;
pub(crate) mod cdi;
pub(crate) mod hooks;
pub(crate) mod inject;
pub(crate) mod requested_address;
pub(crate) mod runtime_args;
mod state;

pub(crate) use state::*;

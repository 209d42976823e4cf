//! What OCI runtimes and engines say: state, bundle, annotations, hooks, devices.

pub(crate) mod address;
pub(crate) mod asked;
pub(crate) mod cdi;
pub(crate) mod injection;
pub(crate) mod own_hooks;
pub(crate) mod request;
pub(crate) mod runtime_call;
mod state;

pub(crate) use state::*;

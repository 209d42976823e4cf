//! What OCI runtimes and engines say: state, bundle, annotations, hooks, devices.

pub mod address;
pub mod asked;
pub mod cdi;
pub mod injection;
pub mod own_hooks;
pub mod request;
pub mod runtime_call;
mod state;

pub use state::*;

//! underlay gives containers their own place on a physical network.
//!
//! The way of the data, as the `createRuntime` hook goes: the OCI state on stdin names a bundle ([`oci`]), whose
//! annotations ask for networks ([`request`]); their definitions ([`network`]) come from files ([`store`]). Under
//! the ledger's lock a pending record is written ([`record`], [`store`]), from which a list of kernel operations is
//! made ([`plan`]) and carried out ([`kernel`]); then the record is confirmed. `poststop` goes back: record, plan,
//! kernel, release. The stories [`attach()`] and [`detach()`] tell it in order.

// Words: values and rules without I/O.
pub mod config;
pub mod diagnose;
pub mod error;
pub mod escape;
mod hash;
pub mod import;
pub mod json;
pub mod lifecycle;
pub mod net;
pub mod netlink;
pub mod plan;
mod random;

// Edges: one door per resource.
pub mod fs;
pub mod ipam;
pub mod kernel;
pub mod ledger;
pub mod oci;

// Stories: what happens, top to bottom.
pub mod cli;

// What all readers of foreign text promise; not in a build that is shipped.
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;

//! underlay gives containers their own place on a physical network.
//!
//! The way of the data, as the `createRuntime` hook goes: the OCI state on stdin names a bundle (`oci`), whose
//! annotations ask for networks; their definitions (`config`) come from files, and say whether the container may join
//! (`frontend`). Under the ledger's lock addresses are
//! chosen (`ipam`) and a pending record is written (`ledger`), from which a list of operations is made (`plan`) and
//! carried out (`kernel`, `netlink`); then the record is confirmed. `poststop` goes back: record, plan, kernel,
//! release. `lifecycle` tells it in order.
//!
//! Each module uses those below it alone (tests/it/repo/layers.rs).

pub mod cli;
// What all readers of foreign text promise; not in a build that is shipped.
#[cfg(any(test, feature = "fuzzing"))]
#[path = "../fuzz/targets/mod.rs"]
pub mod fuzz;

mod frontend;

mod diagnose;
mod lifecycle;

mod kernel;
mod netlink;

mod ipam;
mod plan;

mod ledger;
mod oci;

mod import;

mod config;

mod dhcp;

mod net;

mod fs;

mod error;
mod escape;
mod hash;
mod json;
mod random;

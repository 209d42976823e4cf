//! `underlay doctor` and `underlay check`.
//!
//! `doctor.rs` examines one area after the other. A file for each area collects facts and turns them into findings
//! (`finding.rs`); `system.rs` reads the files of other programs. `check.rs` reads ledger and kernel, `compare.rs` lists
//! what differs (`difference.rs`).

mod agent;
pub(crate) mod check;
mod check_dhcp;
mod check_host;
mod compare;
mod containers;
pub(crate) mod difference;
mod docker;
pub(crate) mod doctor;
pub(crate) mod finding;
mod hooks;
mod leases;
mod modules;
mod networks;
mod parents;
mod state;
pub(crate) mod system;

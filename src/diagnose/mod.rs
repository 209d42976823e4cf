//! `underlay doctor` and `underlay check`.
//!
//! `doctor.rs` collects facts, one file for each subject turns them into findings (`finding.rs`). `check.rs` reads ledger
//! and kernel, `compare.rs` lists what differs (`difference.rs`). `system.rs` reads the files of other
//! programs.

pub(crate) mod check;
mod check_host;
pub(crate) mod compare;
pub(crate) mod containers;
pub(crate) mod difference;
pub(crate) mod docker;
pub(crate) mod doctor;
pub(crate) mod finding;
pub(crate) mod hooks;
pub(crate) mod links;
pub(crate) mod modules;
pub(crate) mod permissions;
pub(crate) mod programs;
pub(crate) mod quarantine;
pub(crate) mod system;

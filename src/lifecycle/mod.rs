//! Lifecycle of containers, parents and the host's own links. Each file reads from top to bottom.
//!
//! `attach.rs` is `createRuntime`, `detach.rs` is `poststop`. `release.rs` undoes an attach, also one that
//! fails. `repair.rs` repairs the ledger. `gc.rs`, `boot.rs`, `dry_run.rs` and `runtime_wrapper.rs` are
//! commands.

pub(crate) mod affinity;
pub(crate) mod agent;
pub(crate) mod announce;
mod apart;
pub(crate) mod attach;
pub(crate) mod boot;
pub(crate) mod conflicts;
mod connected;
pub(crate) mod context;
pub(crate) mod detach;
pub(crate) mod dhcp;
pub(crate) mod dry_run;
pub(crate) mod endpoint;
pub(crate) mod gc;
pub(crate) mod host_access;
pub(crate) mod host_facts;
pub(crate) mod host_links;
mod late_conflicts;
pub(crate) mod lease_table;
mod leftovers;
pub(crate) mod moved;
pub(crate) mod parents;
pub(crate) mod pod;
pub(crate) mod pod_match;
mod probe_ahead;
pub(crate) mod readdress;
mod rebuild;
pub(crate) mod release;
pub(crate) mod repair;
pub(crate) mod repair_step;
pub(crate) mod report;
pub(crate) mod reseal;
pub(crate) mod reserve;
pub(crate) mod runtime_wrapper;
pub(crate) mod target;

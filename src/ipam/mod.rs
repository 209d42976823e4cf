//! Which container gets which address, MAC address, link name and route.
//!
//! `allocate.rs` chooses, `lease_table.rs` makes the leases, `reserve.rs` writes a record with all of them, `assign.rs` has names
//! and routes. `Locked` and `Store` of the ledger have methods here. Nothing here asks the kernel: what the
//! host has is passed in (`Present` in `reserve.rs`).

mod allocate;
pub(crate) mod assign;
mod host_links;
mod lease_table;
mod preview;
pub(crate) mod previous;
mod quarantine;
pub(crate) mod reserve;

#[cfg(test)]
mod tests;

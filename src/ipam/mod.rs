//! Which container gets which address, MAC address, link name and route.
//!
//! `pick.rs` chooses, `leasing.rs` makes the leases, `reserve.rs` writes a record with all of them, `assign.rs` has names
//! and routes. `Locked` and `Store` of the ledger have methods here. Nothing here asks the kernel: what the
//! host has is passed in (`Present` in `reserve.rs`).

pub(crate) mod assign;
pub(crate) mod hint;
mod host_links;
mod leasing;
mod pick;
mod preview;
mod quarantine;
pub(crate) mod reserve;

#[cfg(test)]
mod tests;

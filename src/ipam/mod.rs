//! Which container gets which address, MAC address, link name and route: no I/O.
//!
//! `reserve.rs` drafts the record of a container or of the host's own link, `allocate.rs` chooses what is in it, `assign.rs` has
//! names and routes. Leases are made through [`lease_table::LeaseTable`]. What the host has is passed in
//! ([`reserve::HostFacts`]), and so are the time and whether a holder lives.

mod allocate;
pub(crate) mod assign;
pub(crate) mod lease_table;
pub(crate) mod previous;
mod quarantine;
pub(crate) mod reserve;

#[cfg(test)]
pub(crate) mod tests;

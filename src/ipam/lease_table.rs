//! What allocation needs of the ledger, and the leases of one draft: all of them are kept, or none.

use crate::error::Result;
use crate::ledger::bitmap::Bitmap;
use crate::ledger::record::{Record, Segment};
use crate::net::lease_key::LeaseKey;
use crate::net::link::Link;
use crate::net::name::{ContainerId, NetworkName};
use crate::net::subnet::Subnet;

/// The leases of a host, and what is written beside them.
pub(crate) trait LeaseTable {
    /// Leases `key` on `segment` to `owner`. Returns false if it is held.
    ///
    /// # Errors
    /// When the lease cannot be made, or its holder cannot be read.
    fn lease(&self, segment: u32, key: LeaseKey, owner: Owner<'_>) -> Result<bool>;

    /// Removes a lease that this process made, and that no record lists.
    fn give_back(&self, segment: u32, key: LeaseKey);

    /// Returns the holder of `key` on `segment` in words, for an error message.
    ///
    /// # Errors
    /// When its holder cannot be read.
    fn held_by(&self, segment: u32, key: LeaseKey) -> Result<String>;

    /// Returns the network whose host's link `key` is leased to, if it is leased to one.
    ///
    /// # Errors
    /// When the lease cannot be read.
    fn leased_to_host(&self, segment: u32, key: LeaseKey) -> Result<Option<NetworkName>>;

    /// Returns what is known of `segment`, and prepares it for leases.
    ///
    /// # Errors
    /// When it cannot be read or prepared.
    fn segment(&self, segment: u32) -> Result<Option<Segment>>;

    /// Returns the map of the pool of `subnet`, or `None` if every address has to be tried. With `fresh`, it is made from
    /// the leases.
    ///
    /// # Errors
    /// When the leases cannot be listed.
    fn map(&self, segment: u32, subnet: &Subnet, fresh: bool) -> Result<Option<Bitmap>>;

    /// Keeps `map`, which is a hint.
    fn write_map(&self, segment: u32, map: &Bitmap);

    /// Returns the records of all containers.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn records(&self) -> Result<Vec<Record>>;

    /// Returns true if records may be missing, because the ledger was lost and has not been repaired yet.
    ///
    /// # Errors
    /// When that is unknown.
    fn is_in_doubt(&self) -> Result<bool>;

    /// Returns the key that MAC addresses on `parent` are derived with.
    fn machine_key(&self, parent: &Link) -> [u8; 16];
}

/// The holder of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Owner<'a> {
    /// A container.
    Container(&'a ContainerId),
    /// The host's own link of a network.
    HostLink(&'a NetworkName),
}

/// The leases of a draft. Dropping them gives them back, except after [`keep`](Self::keep).
pub(crate) struct Leases<'a> {
    pub(crate) table: &'a dyn LeaseTable,
    made: Vec<(u32, LeaseKey)>,
}

impl<'a> Leases<'a> {
    pub(crate) fn new(table: &'a dyn LeaseTable) -> Self {
        Self { table, made: Vec::new() }
    }

    /// Leases `key` on `segment` to `owner`. Returns false if it is held, by this draft or by another holder.
    ///
    /// # Errors
    /// Those of [`LeaseTable::lease`].
    pub(crate) fn lease(&mut self, segment: u32, key: LeaseKey, owner: Owner<'_>) -> Result<bool> {
        let leased = !self.contains(segment, key) && self.table.lease(segment, key, owner)?;
        self.made.extend(leased.then_some((segment, key)));
        Ok(leased)
    }

    /// Returns true if this draft has leased `key`.
    pub(crate) fn contains(&self, segment: u32, key: LeaseKey) -> bool {
        self.made.contains(&(segment, key))
    }

    /// Keeps the leases: a record lists them.
    pub(crate) fn keep(&mut self) {
        self.made.clear();
    }
}

impl Drop for Leases<'_> {
    fn drop(&mut self) {
        self.made.iter().for_each(|&(segment, key)| self.table.give_back(segment, key));
    }
}

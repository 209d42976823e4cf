//! The ledger as a table of leases: with the lock it makes them, without it, it only reads (dry run).

use crate::error::Result;
use crate::fs::file;
use crate::ipam::lease_table::{LeaseTable, Owner};
use crate::ledger::bitmap::Bitmap;
use crate::ledger::lease_link::{host_lease_target, lease_target, leased_to_host};
use crate::ledger::record::{Record, Segment};
use crate::ledger::{Holding, Locked, Store};
use crate::net::lease_key::LeaseKey;
use crate::net::link::Link;
use crate::net::name::NetworkName;
use crate::net::subnet::Subnet;

/// Whether a holder, or a lease without a holder, gives way.
type GivesWay<'a> = &'a dyn Fn(Option<&Record>) -> bool;

/// The leases of the ledger.
pub(crate) struct LedgerTable<'a> {
    store: &'a Store,
    /// The lock, if anything is to be written.
    locked: Option<&'a Locked<'a>>,
    /// In a dry run, the leases of what gives way count as free.
    gives_way: Option<GivesWay<'a>>,
}

impl<'a> LedgerTable<'a> {
    pub(crate) fn new(locked: &'a Locked<'a>) -> Self {
        Self { store: locked.store(), locked: Some(locked), gives_way: None }
    }

    /// The leases as they are, of which none can be made.
    pub(crate) fn read(store: &'a Store) -> Self {
        Self { store, locked: None, gives_way: None }
    }

    pub(crate) fn dry_run(store: &'a Store, gives_way: GivesWay<'a>) -> Self {
        Self { store, locked: None, gives_way: Some(gives_way) }
    }
}

impl LeaseTable for LedgerTable<'_> {
    fn lease(&self, segment: u32, key: LeaseKey, owner: Owner<'_>) -> Result<bool> {
        if let Some(locked) = self.locked {
            let target = match owner {
                Owner::Container(id) => lease_target(id),
                Owner::HostLink(network) => host_lease_target(network),
            };
            return locked.lease(segment, key, &target);
        }
        if !self.store.is_leased(segment, key) {
            return Ok(true);
        }
        let Some(gives_way) = self.gives_way else { return Ok(false) };
        Ok(match self.store.holding(segment, key)? {
            Holding::Container(record) => gives_way(Some(&record)),
            Holding::Nobody => gives_way(None),
            Holding::Unknown(_) | Holding::Host(_) => false,
        })
    }

    fn give_back(&self, segment: u32, key: LeaseKey) {
        if let Some(locked) = self.locked {
            locked.give_back(segment, key);
        }
    }

    fn held_by(&self, segment: u32, key: LeaseKey) -> Result<String> {
        Ok(match self.store.holding(segment, key)? {
            Holding::Container(record) if record.holder.endpoint().is_some() => {
                format!("{}, {}", record.holder, record.container)
            }
            Holding::Container(record) => format!("container {}", record.container),
            Holding::Unknown(id) => format!("container {id}, whose record cannot be read"),
            Holding::Host(network) => format!("the host, in network {network}"),
            Holding::Nobody => self.store.lease_path(segment, key).display().to_string(),
        })
    }

    fn leased_to_host(&self, segment: u32, key: LeaseKey) -> Result<Option<NetworkName>> {
        leased_to_host(&self.store.lease_path(segment, key))
    }

    fn segment(&self, segment: u32) -> Result<Option<Segment>> {
        let known = match self.store.segment(segment) {
            // It contains only hints: leases are files of their own.
            Err(error) if error.kind().is_of_one_file() => {
                log::warn!("{error}");
                if self.locked.is_some() {
                    file::remove(&self.store.segment_path(segment))?;
                }
                None
            }
            known => known?,
        };
        if let (None, Some(locked)) = (&known, self.locked) {
            locked.make_segment(segment)?;
        }
        Ok(known)
    }

    fn map(&self, segment: u32, subnet: &Subnet, fresh: bool) -> Result<Option<Bitmap>> {
        // A dry run tries every address, because a map does not tell which leases give way.
        if self.gives_way.is_some() { Ok(None) } else { self.store.map(segment, subnet, fresh) }
    }

    fn write_map(&self, segment: u32, map: &Bitmap) {
        if let Some(locked) = self.locked {
            locked.write_map(segment, map);
        }
    }

    fn records(&self) -> Result<Vec<Record>> {
        Ok(self.store.records()?.sound)
    }

    fn is_in_doubt(&self) -> Result<bool> {
        self.store.is_in_doubt()
    }

    fn machine_key(&self, parent: &Link) -> [u8; 16] {
        self.store.machine_key(parent)
    }
}

//! Leases by segment, with their holders.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Locked, Store, entries, parsed_names};
use crate::error::{Error, Result};
use crate::fs::file;
use crate::ledger::lease_link::leased_to;
use crate::ledger::record::Record;
use crate::net::lease_key::LeaseKey;
use crate::net::name::{ContainerId, NetworkName};

/// The leases of a segment by holder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leases {
    /// Leases without a holder.
    pub orphans: Vec<LeaseKey>,
    /// Leases of containers with unreadable records.
    pub unknown: Vec<(LeaseKey, ContainerId)>,
    /// The records of all other containers with leases.
    pub holders: Vec<Record>,
}

/// The holder of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holding {
    /// This container: its record lists the lease.
    Container(Box<Record>),
    /// This container, whose record cannot be read.
    Unknown(ContainerId),
    /// The host, by its own link of this network.
    Host(NetworkName),
    /// No holder: no record lists the lease. A killed process has left it.
    Nobody,
}

impl Store {
    /// Returns the numbers of all segments that have been used.
    pub(crate) fn segments(&self) -> Result<Vec<u32>> {
        parsed_names(&self.state_dir.join("segments"), "")
    }

    /// Returns all leases on `segment`.
    pub(crate) fn held(&self, segment: u32) -> Result<Vec<LeaseKey>> {
        parsed_names(&self.segment_dir(segment), "")
    }

    /// Returns true if `claim` is leased on `segment`, with or without a holder.
    pub(crate) fn is_leased(&self, segment: u32, claim: LeaseKey) -> bool {
        fs::symlink_metadata(self.lease_path(segment, claim)).is_ok()
    }

    /// The container that the lease of `claim` names; `None` if that is no lease of ours.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn leased_to(&self, segment: u32, claim: LeaseKey) -> Result<Option<ContainerId>> {
        leased_to(&self.lease_path(segment, claim))
    }

    /// Returns the holder of `claim` on `segment`, which is leased.
    pub(crate) fn holding(&self, segment: u32, claim: LeaseKey) -> Result<Holding> {
        let Some(id) = self.leased_to(segment, claim)? else {
            return Ok(self.host_holding(segment, claim)?.map_or(Holding::Nobody, Holding::Host));
        };
        match self.record(&id) {
            Ok(Some(record)) if record.holds(segment, claim) => Ok(Holding::Container(Box::new(record))),
            Ok(_) => Ok(Holding::Nobody),
            Err(error) if error.kind().is_of_one_file() => Ok(Holding::Unknown(id)),
            Err(error) => Err(error),
        }
    }

    /// Returns the leases on `segment` by holder.
    pub(crate) fn leases(&self, segment: u32) -> Result<Leases> {
        let mut leases = Leases::default();
        let mut holders: BTreeMap<ContainerId, Record> = BTreeMap::new();
        for claim in self.held(segment)? {
            // A container has several leases, but its record is read once.
            let known = self.leased_to(segment, claim)?.and_then(|id| holders.get(&id));
            if known.is_some_and(|record| record.holds(segment, claim)) {
                continue;
            }
            match self.holding(segment, claim)? {
                Holding::Nobody => leases.orphans.push(claim),
                Holding::Host(_) => {}
                Holding::Unknown(id) => leases.unknown.push((claim, id)),
                Holding::Container(record) => {
                    holders.insert(record.container.clone(), *record);
                }
            }
        }
        leases.holders = holders.into_values().collect();
        Ok(leases)
    }
}

impl Locked<'_> {
    /// Returns the temporary files that killed processes have left.
    pub(crate) fn left_over(&self) -> Result<Vec<PathBuf>> {
        let store = self.store;
        let mut folders = vec![store.networks_dir(), store.containers_dir(), store.parents_dir()];
        folders.push(store.host_links_dir());
        folders.extend(store.segments()?.into_iter().map(|segment| store.segment_dir(segment)));
        // An unreadable data dir is reported where the key is needed.
        let data = store.data_folder().ok().flatten();
        if data.is_some() {
            folders.extend([store.docker_networks_dir(), store.podman_networks_dir()]);
        }
        let mut found = Vec::new();
        for folder in folders {
            found.extend(entries(&folder)?.into_iter().filter(|path| file::is_temporary(path)));
        }
        found.extend(store.stray_namespace_links()?);
        // These folders may have files of other programs.
        let events = store.state_dir.join("events.json");
        let host = data.map(|_| store.host_path());
        for path in [events, store.cdi_path()].into_iter().chain(host) {
            let there = path.parent().map(entries).transpose()?.unwrap_or_default();
            found.extend(there.into_iter().filter(|left| file::is_temporary_of(left, &path)));
        }
        Ok(found)
    }

    pub(crate) fn make_segment(&self, segment: u32) -> Result<()> {
        file::make_subfolder(&self.store.state_dir.join("segments"), 0o700)?;
        file::make_subfolder(&self.store.segment_dir(segment), 0o700)
    }

    /// Leases `claim`, by a link to `target`. Returns false if it is leased already.
    ///
    /// # Errors
    /// When the link cannot be made.
    pub(crate) fn lease(&self, segment: u32, claim: LeaseKey, target: &Path) -> Result<bool> {
        let path = self.store.lease_path(segment, claim);
        match symlink(target, &path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::io("create", &path, &error)),
        }
    }

    /// Removes a lease that no record lists.
    pub(crate) fn give_back(&self, segment: u32, claim: LeaseKey) {
        // A lease that stays has no holder, and is swept when its address is needed.
        if let Err(error) = file::remove(&self.store.lease_path(segment, claim)) {
            log::warn!("{error}");
        }
    }

    /// Leases `claim`, by a link to `target`, in place of what is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_lease(&self, segment: u32, claim: LeaseKey, target: &Path) -> Result<()> {
        self.make_segment(segment)?;
        file::replace_link(&self.store.lease_path(segment, claim), target)
    }
}

//! Records and leases: which container holds which address and MAC address.
//!
//! A container's record is `containers/ID.json`. A lease is a symbolic link `segments/IFINDEX/CLAIM` to the
//! record of the container that holds the address or MAC address. One system call makes it, and fails if it
//! exists, so a lease is never half written. Its target is the record of the holder. So the cost of a lease
//! does not depend on the number of leases.

use std::path::PathBuf;

use super::lease_link::lease_target;
use super::{Locked, Store, remove, to_json, write_state};
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ledger::record::{Links, Record};
use crate::net::lease_key::LeaseKey;
use crate::net::name::NetworkName;

/// What a release has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// What the record holds, which it has given back.
    Now,
    /// No record, or that of another container with this id: another process was faster.
    Before,
    /// The record with other links, which it has left alone.
    Changed(Box<Record>),
}

impl Store {
    pub(crate) fn segment_dir(&self, segment: u32) -> PathBuf {
        self.state_dir.join("segments").join(segment.to_string())
    }

    pub(crate) fn lease_path(&self, segment: u32, claim: LeaseKey) -> PathBuf {
        self.segment_dir(segment).join(claim.to_string())
    }

    /// Returns the paths of `record` and its leases.
    pub(crate) fn paths_of(&self, record: &Record) -> Vec<PathBuf> {
        let leases = record.claims().map(|(segment, claim)| self.lease_path(segment, claim));
        leases.chain(self.namespace_link(record)).chain([self.record_path(&record.container)]).collect()
    }
}

impl Locked<'_> {
    /// Writes the record of a container. After an error the old record, if any, is unchanged.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        // Before the record, so that a failure leaves no record without an index link.
        self.enter_namespace(record)?;
        let path = self.store.record_path(&record.container);
        let written = write_state(&path, record);
        if written.is_err() && !path.exists() {
            self.leave_namespace(record).unwrap_or_else(|error| ::log::warn!("{error}"));
        }
        written
    }

    /// Transfers links and leases from one container to another: writes the record `to`, the leases, and the
    /// records of `others` that share the links, and then removes the record `from`. A killed or failed
    /// transfer is finished by the next call; until then, both records list the leases.
    pub(crate) fn transfer(&self, from: &Record, to: &Record, others: &[Record]) -> Result<()> {
        self.write(to)?;
        for (segment, claim) in to.claims() {
            if self.store.leased_to(segment, claim)?.as_ref() == Some(&from.container) {
                self.write_lease(segment, claim, &lease_target(&to.container))?;
            }
        }
        let shares = |other: &&Record| other.shared_with() == Some(&from.container);
        for other in others.iter().filter(shares).filter(|other| other.container != to.container) {
            self.write(&Record { links: Links::SharedWith(to.container.clone()), ..other.clone() })?;
        }
        self.leave_namespace(from)?;
        remove(&self.store.record_path(&from.container))
    }

    /// Gives back all that `record` holds, the record last: what is left by a kill in between is nobody's. If `may_answer`,
    /// the kernel may not have deleted the links yet; if `are_deleted`, none is left anywhere.
    ///
    /// # Errors
    /// The record stays.
    pub(crate) fn release(&self, record: &Record, may_answer: bool, are_deleted: bool) -> Result<Released> {
        let now = self.store.record(&record.container)?;
        match &now {
            Some(now) if now.holder != record.holder => return Ok(Released::Before),
            Some(now) if now.links != record.links => return Ok(Released::Changed(Box::new(now.clone()))),
            _ => {}
        }
        for (segment, claim) in record.claims() {
            if self.store.leased_to(segment, claim)?.as_ref() == Some(&record.container) {
                remove(&self.store.lease_path(segment, claim))?;
            }
        }
        for attached in record.attachments() {
            let addresses: Vec<_> = attached.addresses.iter().map(|net| net.addr()).collect();
            self.free(attached.segment, &addresses);
        }
        self.note_released(record, may_answer, are_deleted);
        self.leave_namespace(record)?;
        remove(&self.store.record_path(&record.container))?;
        Ok(if now.is_some() { Released::Now } else { Released::Before })
    }

    /// Writes the definition of a new network.
    ///
    /// # Errors
    /// [`Kind::Taken`] if there is one of that name.
    pub(crate) fn create_network(&self, network: &Network) -> Result<()> {
        let path = self.store.network_path(&network.name);
        if let Some(folder) = path.parent() {
            file::make_folder(folder, 0o755)?;
        }
        if file::create(&path, &to_json(&network.file)?)? {
            return Ok(());
        }
        Err(Error::new(Kind::Taken, format!("network {} exists already", network.name)).hint(format!(
            "see it with `underlay network inspect {0}`; `underlay network rm {0}` removes it",
            network.name
        )))
    }

    pub(crate) fn remove_network(&self, name: &NetworkName) -> Result<()> {
        remove(&self.store.network_path(name))
    }
}

//! What mends the ledger, as values.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::escape::shell::Line;
use crate::ledger::host_link::HostLink;
use crate::ledger::record::Record;
use crate::lifecycle::reseal::Reseal;
use crate::net::lease_key::LeaseKey;
use crate::net::name::{ContainerId, NetworkName};
use crate::net::parent::MadeParent;

/// One thing that mends the ledger, shown as a command of the shell where there is one.
#[derive(Clone, Debug)]
pub(crate) enum RepairStep {
    /// Writes a container's record as the marks of its links tell it.
    Record(Box<Record>, PathBuf),
    /// Writes a lease that a record of a living container lists.
    Lease(u32, LeaseKey, ContainerId, PathBuf),
    /// Writes down a parent whose mark says that underlay has made it.
    Parent(MadeParent, PathBuf),
    /// Writes down the host's link of a network, as its mark tells it.
    HostLink(Box<HostLink>, PathBuf),
    /// Writes a lease that the record of the host's link lists.
    HostLease(u32, LeaseKey, NetworkName, PathBuf),
    /// Removes a lease, record or half-written file that is nobody's.
    Remove(PathBuf),
}

impl fmt::Display for RepairStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record, path) => {
                let addresses = record.attachments().iter().flat_map(|attached| &attached.addresses);
                let addresses: Vec<_> = addresses.map(ToString::to_string).collect();
                write!(f, "# write {} anew: {}", path.display(), addresses.join(", "))
            }
            Self::Lease(_, _, id, path) => {
                let target = format!("../../containers/{id}.json");
                Line::of("ln -sfn").word(target).path(path).fmt(f)
            }
            Self::Parent(parent, path) => write!(f, "# write {} anew: {}", path.display(), parent.recipe),
            Self::HostLink(link, path) => write!(f, "# write {} anew: {}", path.display(), link.name),
            Self::HostLease(_, _, network, path) => {
                let target = format!("../../host_links/{network}.json");
                Line::of("ln -sfn").word(target).path(path).fmt(f)
            }
            Self::Remove(path) => Line::of("rm").path(path).fmt(f),
        }
    }
}

/// What there was to mend, and what the records are then.
#[derive(Debug, Default)]
pub(crate) struct Repaired {
    /// What is done, in order, but for what failed.
    pub(crate) steps: Vec<RepairStep>,
    /// All records that can be read.
    pub(crate) records: Vec<Record>,
    /// Whether these are the records of all containers that underlay has attached, as far as their links tell.
    pub(crate) all_found: bool,
    /// Whether there may be containers that the ledger does not know: what they may need on the host stays.
    pub(crate) in_doubt: bool,
    /// The marks that are sealed besides.
    pub(crate) seals: Vec<Reseal>,
    /// Why what failed did.
    pub(crate) failed: Vec<Error>,
}

impl Repaired {
    /// Tells what failed, where the rest is enough.
    pub(crate) fn warn(&self) {
        self.failed.iter().for_each(|error| log::warn!("{error}"));
    }

    /// Whether something was missing in the ledger.
    pub(crate) fn has_lost(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(step, RepairStep::Record(..) | RepairStep::Parent(..) | RepairStep::HostLink(..))
        })
    }

    /// The namespaces of the records that are to be written anew.
    pub(crate) fn namespaces(&self) -> BTreeSet<u64> {
        let inode = |step: &RepairStep| match step {
            RepairStep::Record(record, _) => Some(record.holder.netns.inode),
            _ => None,
        };
        self.steps.iter().filter_map(inode).collect()
    }
}

//! Steps of a repair of the ledger, as values.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use crate::error::Error;
use crate::escape::shell::Line;
use crate::ledger::host_link::HostLink;
use crate::ledger::record::Record;
use crate::lifecycle::reseal::Reseal;
use crate::net::lease_key::LeaseKey;
use crate::net::parent::MadeParent;

/// One step, shown as a shell command if there is one.
#[derive(Clone, Debug)]
pub(crate) enum RepairStep {
    /// Writes a container's record, rebuilt from the marks of its links.
    Record(Box<Record>, PathBuf),
    /// Writes a lease that the record of a living container, or of the host's link, lists: a link to that record.
    Lease(u32, LeaseKey, PathBuf, PathBuf),
    /// Writes the record of a parent that has our mark.
    Parent(MadeParent, PathBuf),
    /// Writes the record of the host's link of a network, rebuilt from its mark.
    HostLink(Box<HostLink>, PathBuf),
    /// Removes a lease or record without an owner, or a half-written file.
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
            Self::Lease(_, _, target, path) => Line::of("ln -sfn").path(target).path(path).fmt(f),
            Self::Parent(parent, path) => write!(f, "# write {} anew: {}", path.display(), parent.recipe),
            Self::HostLink(link, path) => write!(f, "# write {} anew: {}", path.display(), link.name),
            Self::Remove(path) => Line::of("rm").path(path).fmt(f),
        }
    }
}

/// The outcome of a repair.
#[derive(Debug, Default)]
pub(crate) struct Repaired {
    /// The steps in order, without those that failed.
    pub(crate) steps: Vec<RepairStep>,
    /// All readable and rebuilt records.
    pub(crate) records: Vec<Record>,
    /// True if there may be containers that the ledger does not know: parents and host links they may need
    /// stay.
    pub(crate) in_doubt: bool,
    /// The marks that are sealed.
    pub(crate) seals: Vec<Reseal>,
    /// The errors of steps that failed.
    pub(crate) failed: Vec<Error>,
}

impl Repaired {
    /// Logs the failures, for callers that go on without those steps.
    pub(crate) fn warn(&self) {
        self.failed.iter().for_each(|error| log::warn!("{error}"));
    }

    /// Returns true if the ledger had lost a record.
    pub(crate) fn has_lost(&self) -> bool {
        self.steps.iter().any(|step| {
            matches!(step, RepairStep::Record(..) | RepairStep::Parent(..) | RepairStep::HostLink(..))
        })
    }

    /// Returns the inodes of the namespaces of rebuilt records.
    pub(crate) fn namespaces(&self) -> BTreeSet<u64> {
        let inode = |step: &RepairStep| match step {
            RepairStep::Record(record, _) => Some(record.holder.netns().inode),
            _ => None,
        };
        self.steps.iter().filter_map(inode).collect()
    }
}

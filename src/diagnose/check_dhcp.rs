//! Leases of DHCP servers in a check: they are renewed, or are over.

use crate::diagnose::difference::{Difference, What};
use crate::error::Result;
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::ledger::wall_clock::rfc3339;

/// The leases of `record` that are over, or that no agent renews.
///
/// # Errors
/// When the ledger cannot be read.
pub(super) fn leases(store: &Store, record: &Record) -> Result<Vec<Difference>> {
    let now = since_boot();
    let mut differences = Vec::new();
    let leases = |attached| Attached::dhcp_leases(attached).map(move |lease| (attached, lease));
    for (attached, lease) in record.attachments().iter().flat_map(leases) {
        let Some(limits) = lease.times().limits.filter(|limits| limits.t1 <= now) else { continue };
        // An agent takes its time, but not after the end.
        if limits.expiry > now && store.has_agent()? {
            continue;
        }
        let (address, renewal) = (lease.address(), rfc3339(limits.t1));
        let end = rfc3339(limits.expiry);
        let found = if limits.expiry > now { format!("ends at {end}") } else { format!("ended at {end}") };
        let renewal =
            Difference::new(What::Renewal, Some(format!("{address} renewed at {renewal}")), Some(found));
        differences.push(renewal.of(&record.container).at(attached));
    }
    Ok(differences)
}

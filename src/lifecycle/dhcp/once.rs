//! Renewal without an agent that stays: what is due is asked for once.

use std::thread;

use crate::error::Result;
use crate::ledger::Store;
use crate::ledger::dhcp_link::DhcpLink;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::dhcp::notices::Notices;
use crate::lifecycle::dhcp::renew::{LISTEN, run};

/// Asks for all leases that are due or missing, and listens for the answers.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn run_once(store: &Store) -> Result<()> {
    let now = since_boot();
    let is_due = |dhcp: &DhcpLink| {
        dhcp.lease.as_ref().is_none_or(|lease| lease.times.limits.is_some_and(|limits| limits.t1 <= now))
    };
    let records = store.records()?.sound;
    let mut links = records.iter().filter(|record| record.is_attached()).flat_map(Record::attachments);
    if !links.any(|attached| attached.dhcp.as_ref().is_some_and(is_due)) {
        return Ok(());
    }
    let (store, notices) = (store.another(), Notices::new()?);
    thread::scope(|scope| {
        scope.spawn(|| run(&store, &notices));
        thread::sleep(LISTEN);
        notices.end();
    });
    Ok(())
}

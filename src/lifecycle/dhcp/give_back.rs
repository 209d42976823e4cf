//! A container that has ended gives its leases back to their servers.

use std::time::Duration;

use crate::dhcp::lease::Lease;
use crate::error::Result;
use crate::kernel;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::session::number;
use crate::lifecycle::dhcp::shared_mac::SharedMac;
use crate::net::name::{ContainerId, IfName};
use crate::plan;

/// How long the agent keeps the leases of a container that has ended. One that is started again meanwhile asks for the same
/// address, and its server need not look whether the address is free, for which some take three seconds.
pub(crate) const LINGER: Duration = Duration::from_secs(5);

/// Whether `record` has a lease to give back.
pub(crate) fn has_lease(record: &Record) -> bool {
    record.attachments().iter().any(|attached| attached.dhcp_leases().next().is_some())
}

/// Gives the leases of `record` back to their servers, from links like those that the container had, which are gone. Its record
/// is marked before, so that one process does it once, and never after another container has got the lease. A server that does
/// not hear of it keeps the address until the lease is over.
///
/// # Errors
/// When the ledger cannot be read or written.
pub(crate) fn give_back(context: &mut Context<'_>, record: &Record) -> Result<Record> {
    let locked = context.lock()?;
    let now = context.store.record(&record.container)?.filter(|now| now.holder == record.holder);
    let Some(now) = now.filter(has_lease) else { return Ok(record.clone()) };
    let mut without = now.clone();
    without.attachments_mut().iter_mut().for_each(Attached::forget_leases);
    locked.write(&without)?;
    drop(locked);
    for attached in now.attachments() {
        for lease in attached.dhcp_leases() {
            let (container, address) = (&record.container, lease.address().addr());
            release(context, container, attached, &lease).unwrap_or_else(|error| {
                log::info!("container {container}: {error}: {address} stays leased until it is over");
            });
        }
    }
    Ok(without)
}

fn release(
    context: &mut Context<'_>,
    container: &ContainerId,
    attached: &Attached,
    lease: &Lease,
) -> Result<()> {
    if let Lease::V4(lease) = lease {
        let (address, segment) = (lease.address.addr(), attached.segment);
        let shared = SharedMac { container: container.clone(), segment };
        if attached.shares_mac() && !shared.taken(context, &[address])?.is_empty() {
            log::info!("container {container}: the server has given {address} to this host meanwhile");
            return Ok(());
        }
    }
    let ifname = IfName::temporary(std::process::id());
    let Some(mac) = attached.mac else { return Ok(()) };
    let plan = plan::link_like(attached, &ifname, mac);
    kernel::release_lease(&plan, lease, number()? as u32, &mut context.host_netlink)
}

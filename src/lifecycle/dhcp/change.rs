//! Another lease for a container that runs, or none: first in the ledger, then on its link. A change that was killed is finished
//! by the next agent, or undone with the container.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::dhcp::v4::lease::Lease;
use crate::error::Result;
use crate::kernel::{self, NetnsFile};
use crate::ledger::attached::Attached;
use crate::ledger::event::Event;
use crate::ledger::lease_link::lease_target;
use crate::ledger::record::{Holder, Record};
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::names;
use crate::lifecycle::report::report;
use crate::net::mac::MacAddr;
use crate::net::name::ContainerId;
use crate::netlink::Socket;

/// A link of a container that runs.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) container: &'a ContainerId,
    pub(super) holder: &'a Holder,
    pub(super) index: usize,
}

impl Place<'_> {
    /// Returns the record of the container as it is now, unless it has ended, or lost that link.
    pub(super) fn record(self, context: &Context<'_>) -> Result<Option<Record>> {
        let record = context
            .store
            .record(self.container)?
            .filter(|record| record.holder == *self.holder && !record.is_pending() && !record.has_ended());
        Ok(record.filter(|record| self.attached(record).is_some_and(|attached| attached.dhcp.is_some())))
    }

    pub(super) fn attached(self, record: &Record) -> Option<&Attached> {
        record.attachments().get(self.index)
    }
}

/// Leases `address` in the ledger for the container, which is about to get it. Returns the MAC address of the container that has
/// it, if another one has.
pub(super) fn claim(
    context: &Context<'_>,
    container: &ContainerId,
    segment: u32,
    address: Ipv4Addr,
) -> Result<Option<MacAddr>> {
    let key = IpAddr::V4(address).into();
    let locked = context.lock()?;
    if locked.lease(segment, key, &lease_target(container))? {
        return Ok(None);
    }
    let holder = context.store.leased_to(segment, key)?;
    if holder.as_ref() == Some(container) {
        return Ok(None);
    }
    let record = holder.map(|holder| context.store.record(&holder)).transpose()?.flatten();
    let has = |attached: &&Attached| attached.has(IpAddr::V4(address));
    let mac =
        record.and_then(|record| record.attachments().iter().find(has).and_then(|attached| attached.mac));
    // The host's own link, or a lease that nothing lists.
    Ok(Some(mac.unwrap_or(MacAddr([0; 6]))))
}

/// Gives the container `lease` in place of the one that it has; none takes the address away, and `why` says why. Returns false
/// if the container has ended.
pub(super) fn change(
    context: &mut Context<'_>,
    place: Place<'_>,
    lease: Option<&Lease>,
    why: &str,
) -> Result<bool> {
    let locked = context.lock()?;
    let Some(record) = place.record(context)? else { return Ok(false) };
    let mut changed = record.clone();
    let Some(attached) = changed.attachments_mut().get_mut(place.index) else { return Ok(false) };
    let before = attached.leased_address();
    attached.set_lease(lease.cloned());
    attached.note_trouble(why);
    let after = attached.leased_address();
    let left = before.filter(|before| Some(*before) != after);
    attached.former.extend(left);
    locked.write(&changed)?;
    drop(locked);
    let Some(attached) = place.attached(&changed) else { return Ok(false) };
    if !apply(&changed, place, before != after)? {
        return Ok(false);
    }
    names::refresh(context.store, &changed);
    if before != after {
        let known = affinity::load(context.store, changed.identity.as_ref(), &changed.container);
        affinity::save(context.store, &changed, &known);
        announce::announce(&changed, 0).map(drop).unwrap_or_else(|error| log::debug!("{error}"));
    }
    tell(context, &changed, attached, left, (before == after, why));
    if !attached.former.is_empty() {
        finish(context, &changed)?;
    }
    Ok(true)
}

/// Notes `why` the container has no lease, if it has none. Returns false if the container has ended.
pub(super) fn note_trouble(context: &Context<'_>, place: Place<'_>, why: impl ToString) -> Result<bool> {
    let locked = context.lock()?;
    let Some(record) = place.record(context)? else { return Ok(false) };
    let mut changed = record.clone();
    let Some(attached) = changed.attachments_mut().get_mut(place.index) else { return Ok(false) };
    attached.note_trouble(why);
    if changed != record {
        locked.write(&changed)?;
    }
    Ok(true)
}

/// Gives back the former addresses of `record`, which its links have no more.
fn finish(context: &Context<'_>, record: &Record) -> Result<()> {
    let locked = context.lock()?;
    if context.store.record(&record.container)?.as_ref() != Some(record) {
        return Ok(());
    }
    let mut finished = record.clone();
    finished.attachments_mut().iter_mut().for_each(|attached| attached.former.clear());
    locked.write(&finished)?;
    for attached in record.attachments() {
        attached.former.iter().for_each(|net| locked.give_back(attached.segment, net.addr().into()));
    }
    Ok(())
}

/// Makes the link of the container as `record` says: with the addresses if they are `other` ones, and with the lifetime of the
/// lease. Returns false if its namespace is gone.
pub(super) fn apply(record: &Record, place: Place<'_>, other: bool) -> Result<bool> {
    let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(false) };
    let Some((mark, attached)) = record.marked().nth(place.index) else { return Ok(false) };
    netns.inside(|| {
        let mut inside = Socket::open()?;
        let Some(link) = kernel::marked_link(attached.ifindex, &mark, &mut inside)? else { return Ok(false) };
        if other {
            kernel::readdress(link.ifindex, attached, since_boot(), &mut inside)?;
        }
        if let (Some(dhcp), Some(IpNet::V4(address))) = (&attached.dhcp, attached.leased_address()) {
            kernel::renew_address(link.ifindex, address, dhcp.valid_for(since_boot()), &mut inside)?;
        }
        Ok(true)
    })
}

fn tell(
    context: &Context<'_>,
    record: &Record,
    attached: &Attached,
    left: Option<IpNet>,
    (is_same, why): (bool, &str),
) {
    let (container, network) = (record.container.clone(), attached.network.clone());
    let lease = attached.dhcp.as_ref().and_then(|dhcp| dhcp.lease.as_ref());
    let event = match (lease, left) {
        (Some(_), Some(from)) => {
            Event::Moved { container, network, from: vec![from.addr()], to: attached.addresses.clone() }
        }
        (Some(lease), None) if is_same => {
            Event::Renewed { container, network, address: lease.address.into(), server: lease.server }
        }
        (Some(lease), None) => {
            Event::Leased { container, network, address: lease.address.into(), server: lease.server }
        }
        (None, Some(from)) => {
            Event::Lost { container, network, address: from.addr(), reason: why.to_owned() }
        }
        (None, None) => return,
    };
    report(context.store, &event);
}

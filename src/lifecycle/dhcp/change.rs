//! Another lease for a container that runs, or none: first in the ledger, then on its link. A change that was killed is finished
//! by the next agent, or undone with the container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::dhcp::lease::{Family, Lease};
use crate::error::Result;
use crate::kernel::{self, NetnsFile};
use crate::ledger::Locked;
use crate::ledger::attached::Attached;
use crate::ledger::event::Event;
use crate::ledger::holder::Holder;
use crate::ledger::lease_link::lease_target;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp::names;
use crate::lifecycle::readdress;
use crate::lifecycle::report::report;
use crate::net::mac::MacAddr;
use crate::net::name::ContainerId;
use crate::net::route::Route;
use crate::netlink::Socket;

/// A client of a container that runs.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) container: &'a ContainerId,
    pub(super) holder: &'a Holder,
    pub(super) index: usize,
    pub(super) family: Family,
}

impl Place<'_> {
    /// Returns the record of the container as it is now, unless it has ended, or lost that link.
    pub(super) fn record(self, context: &Context<'_>) -> Result<Option<Record>> {
        let record = context
            .store
            .record(self.container)?
            .filter(|record| record.holder == *self.holder && record.is_attached());
        let has_it = |attached: &Attached| attached.dhcp_families().any(|family| family == self.family);
        Ok(record.filter(|record| self.attached(record).is_some_and(has_it)))
    }

    pub(super) fn attached(self, record: &Record) -> Option<&Attached> {
        record.attachments().get(self.index)
    }
}

/// Leases `address` in the ledger for the attachment `index` of `record`, to which a server offers it, and writes it into the
/// record. If it is probed for, it is in quarantine no more: the probes tell whether another host has it still. Returns the MAC
/// address of the container that has it, if another one has.
pub(super) fn claim(
    locked: &Locked<'_>,
    record: &mut Record,
    index: usize,
    address: IpAddr,
) -> Result<Option<MacAddr>> {
    let (store, id, key) = (locked.store(), record.container.clone(), address.into());
    let Some(attached) = record.attachments_mut().get_mut(index) else { return Ok(None) };
    let segment = attached.segment;
    let holder = store.is_leased(segment, key).then(|| store.leased_to(segment, key)).transpose()?;
    if let Some(holder) = holder.filter(|holder| holder.as_ref() != Some(&id)) {
        let other = holder.map(|holder| store.record(&holder)).transpose()?.flatten();
        let has = |attached: &&Attached| attached.claims().any(|held| held == key);
        let other = other.and_then(|other| other.attachments().iter().find(has).and_then(|link| link.mac));
        // The host's own link, or a lease that nothing lists.
        return Ok(Some(other.unwrap_or(MacAddr([0; 6]))));
    }
    // Before it is leased, so that nothing takes it for one that nothing lists.
    attached.claimed.push(address);
    let is_probed = attached.detection.is_some();
    locked.write(record)?;
    if is_probed {
        locked.end_quarantine(segment, address)?;
    }
    locked.lease(segment, key, &lease_target(&id))?;
    Ok(None)
}

/// Gives back what agents that were killed have left leased, which their containers do not have.
pub(super) fn give_back_lost(context: &Context<'_>) -> Result<()> {
    let (store, locked) = (context.store, context.lock()?);
    let records = store.records()?.sound;
    let records = records.iter().filter(|record| record.has_dhcp() && record.is_attached());
    let records: BTreeMap<_, _> = records.map(|record| (&record.container, record)).collect();
    let links = records.values().flat_map(|record| record.attachments());
    for segment in links.map(|attached| attached.segment).collect::<BTreeSet<_>>() {
        for claim in store.held(segment)? {
            let holder = store.leased_to(segment, claim)?;
            let record = holder.as_ref().and_then(|holder| records.get(holder));
            if record.is_some_and(|record| !record.holds(segment, claim)) {
                locked.give_back(segment, claim);
            }
        }
    }
    Ok(())
}

/// Returns the MAC address of the host if it has `address` itself, which a server offers to the link `attached`: a macvlan link
/// does not reach the host, which could not answer. A container whose lease of `address` is over loses it, if no agent has seen
/// to that.
pub(super) fn make_way(
    context: &mut Context<'_>,
    attached: &Attached,
    address: IpAddr,
) -> Result<Option<MacAddr>> {
    if context.host_netlink.addresses()?.contains(&address) {
        let parent = context.host_netlink.link_by_index(attached.parent_index)?;
        return Ok(Some(parent.and_then(|parent| parent.mac).unwrap_or(MacAddr([0; 6]))));
    }
    let holder = context.store.leased_to(attached.segment, address.into())?;
    let Some(other) = holder.map(|holder| context.store.record(&holder)).transpose()?.flatten() else {
        return Ok(None);
    };
    let is_over = |lease: &Lease| lease.address().addr() == address && lease.times().is_over(since_boot());
    for (index, held) in other.attachments().iter().enumerate() {
        let Some(lease) = held.dhcp_leases().find(is_over) else { continue };
        let place =
            Place { container: &other.container, holder: &other.holder, index, family: lease.family() };
        change(context, place, None, "the DHCP lease has expired: no agent has renewed it")?;
    }
    Ok(None)
}

/// What the attachment `index` of `record` has claimed for its client of `family`.
pub(super) fn claimed(record: &Record, index: usize, family: Family) -> Vec<IpAddr> {
    let claimed = record.attachments().get(index).into_iter().flat_map(|attached| &attached.claimed);
    claimed.copied().filter(|address| address.is_ipv4() == (family == Family::V4)).collect()
}

/// Gives back what the attachment `index` of `record` has claimed and does not get: `address`.
pub(super) fn give_up(locked: &Locked<'_>, record: &mut Record, index: usize, address: IpAddr) -> Result<()> {
    let Some(attached) = record.attachments_mut().get_mut(index) else { return Ok(()) };
    attached.claimed.retain(|claimed| *claimed != address);
    let (segment, key) = (attached.segment, address.into());
    let is_held = attached.claims().any(|held| held == key);
    locked.write(record)?;
    if !is_held {
        locked.give_back(segment, key);
    }
    Ok(())
}

/// Tells that another host, with the MAC address `mac`, has `address`, which the attachment `index` of `record` was about to get.
pub(super) fn tell_conflict(
    context: &Context<'_>,
    record: &Record,
    index: usize,
    (address, mac): (IpAddr, MacAddr),
) {
    let Some(attached) = record.attachments().get(index) else { return };
    let (container, network) = (Some(record.container.clone()), attached.network.clone());
    report(context.store, &Event::Conflict { container, network, address, mac });
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
    if let Some(lease) = lease {
        changed.take_lease(place.index, lease.clone());
    }
    let (Some(had), Some(attached)) =
        (place.attached(&record), changed.attachments_mut().get_mut(place.index))
    else {
        return Ok(false);
    };
    let before = had.dhcp_lease(place.family).map(|lease| lease.address());
    let after = lease.map(Lease::address);
    if lease.is_none() {
        attached.lose_lease(place.family);
        attached.note_trouble(place.family, why);
    }
    let is_former = |route: &&Route| !attached.routes.contains(route);
    let former_routes: Vec<_> = had.routes.iter().filter(is_former).copied().collect();
    let has_other_routes = had.routes != attached.routes;
    let left = before.filter(|before| Some(*before) != after);
    attached.former.extend(left);
    locked.write(&changed)?;
    drop(locked);
    let Some(attached) = place.attached(&changed) else { return Ok(false) };
    let other = (before != after || has_other_routes).then_some(&former_routes[..]);
    if !apply(&changed, place, other, before.is_none() && place.family == Family::V4)? {
        return Ok(false);
    }
    names::refresh(context.store, &changed);
    if before != after {
        let known = affinity::load(context.store, changed.identity.as_ref(), &changed.container);
        affinity::save(context.store, &changed, &known);
        announce::announce(context.store, &changed, 0)
            .map(drop)
            .unwrap_or_else(|error| log::debug!("{error}"));
    }
    tell(context, &changed, (attached, lease), left, (before == after, why));
    if !attached.former.is_empty() {
        readdress::give_back_former(context, &changed)?;
    }
    Ok(true)
}

/// Notes `why` the container has no lease, if it has none. Returns false if the container has ended.
pub(super) fn note_trouble(context: &Context<'_>, place: Place<'_>, why: impl ToString) -> Result<bool> {
    let locked = context.lock()?;
    let Some(record) = place.record(context)? else { return Ok(false) };
    let mut changed = record.clone();
    let Some(attached) = changed.attachments_mut().get_mut(place.index) else { return Ok(false) };
    attached.note_trouble(place.family, why);
    if changed != record {
        locked.write(&changed)?;
    }
    Ok(true)
}

/// Makes the link of the container as `record` says: with the addresses and routes if they are `other` ones, in place of these
/// former routes, with the lifetime of the lease, and with its MTU if it `is_first`. Returns false if its namespace is gone.
pub(super) fn apply(
    record: &Record,
    place: Place<'_>,
    other: Option<&[Route]>,
    is_first: bool,
) -> Result<bool> {
    let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(false) };
    let Some((mark, attached)) = record.marked().nth(place.index) else { return Ok(false) };
    netns.inside(|| {
        let mut inside = Socket::open()?;
        let Some(link) = kernel::marked_link(attached.ifindex, &mark, &mut inside)? else { return Ok(false) };
        let lease = attached.dhcp_lease(place.family);
        let on_links = inside.addresses_by_link()?;
        // The kernel counts in seconds: it may have ended a lease that was renewed in time, and deleted the routes as well.
        let is_there = |lease: &Lease| on_links.contains(&(link.ifindex, lease.address()));
        if other.is_some() || !lease.as_ref().is_none_or(is_there) {
            let former = other.unwrap_or_default();
            // Its MTU stays as its first lease has set it.
            let most = if is_first { link.mtu } else { 0 };
            kernel::readdress((link.ifindex, most), attached, former, since_boot(), &mut inside)?;
        }
        if let Some(lease) = lease {
            let lifetime = lease.lifetime(since_boot());
            kernel::renew_address(link.ifindex, lease.address(), lifetime, &mut inside)?;
        }
        Ok(true)
    })
}

fn tell(
    context: &Context<'_>,
    record: &Record,
    (attached, lease): (&Attached, Option<&Lease>),
    left: Option<IpNet>,
    (is_same, why): (bool, &str),
) {
    let (container, network) = (record.container.clone(), attached.network.clone());
    let event = match (lease, left) {
        (Some(_), Some(from)) => {
            Event::Moved { container, network, from: vec![from.addr()], to: attached.addresses.clone() }
        }
        (Some(lease), None) if is_same => {
            Event::Renewed { container, network, address: lease.address(), server: lease.server() }
        }
        (Some(lease), None) => {
            Event::Leased { container, network, address: lease.address(), server: lease.server() }
        }
        (None, Some(from)) => {
            Event::Lost { container, network, address: from.addr(), reason: why.to_owned() }
        }
        (None, None) => return,
    };
    report(context.store, &event);
}

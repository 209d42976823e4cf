//! Addresses for endpoints to come.

use std::net::IpAddr;
use std::slice;

use ipnet::IpNet;

use super::wanted::{applicant, ensure_parent, holder, number, read_facts, wanted};
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::{Applicant, HostFacts};
use crate::kernel;
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::ledger::{Holding, Locked};
use crate::lifecycle::conflicts::Probing;
use crate::lifecycle::context::Context;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::reserve;
use crate::net::name::ContainerId;

/// Leases the next free address of the only subnet of `network`, for an endpoint to come.
///
/// # Errors
/// [`Kind::Exhausted`] if none is free.
pub(crate) fn pick(context: &mut Context<'_>, network: Network) -> Result<IpNet> {
    repair::recover(context)?;
    let id = id()?;
    let mut wanted = wanted(context, &id, network, &[], None)?;
    let facts = read_facts(context, &wanted)?;
    let holder = holder(true)?;
    let applicant = applicant(&id, None, None, &holder);
    let mut record = lease(context, applicant, &mut wanted, &facts)?;
    probe(context, &wanted, &facts, &mut record)?;
    let leased = record.attachments().iter().flat_map(|attached| &attached.addresses).next().copied();
    leased.ok_or_else(|| Error::bug("an endpoint has no address"))
}

/// Keeps `address` of `network` for an endpoint to come, if nothing has it: what names it may be an endpoint, or a network that is
/// to be created. Whether an endpoint can have it is decided when that is created.
///
/// # Errors
/// [`Kind::Taken`] if it was picked for another endpoint to come.
pub(crate) fn expect(context: &mut Context<'_>, network: Network, address: IpAddr) -> Result<()> {
    repair::recover(context)?;
    let id = id()?;
    let identity = network.reservations.holder(address.into()).cloned();
    let mut wanted = wanted(context, &id, network, &[address], None)?;
    let facts = read_facts(context, &wanted)?;
    let holder = holder(true)?;
    match lease(context, applicant(&id, identity.as_ref(), None, &holder), &mut wanted, &facts) {
        Ok(mut record) => {
            record.attachments_mut().iter_mut().for_each(|attached| attached.asked = Asked::No);
            context.lock()?.write(&record)
        }
        Err(error) => {
            let other = awaited(&context.lock()?, wanted.parent.segment(), address)?;
            let is_picked = |attached: &Attached| attached.picked.contains(&address);
            if other.is_some_and(|other| other.attachments().iter().any(is_picked)) {
                return Err(error);
            }
            log::debug!("{error}");
            Ok(())
        }
    }
}

/// Leases the address of `wanted`, and writes the record of an endpoint to come. What dead containers hold is reclaimed if it is in
/// the way, once.
fn lease(
    context: &mut Context<'_>,
    applicant: Applicant<'_>,
    wanted: &mut ResolvedAttachment,
    facts: &HostFacts,
) -> Result<Record> {
    let mut reclaimed = false;
    loop {
        let locked = context.lock()?;
        ensure_parent(&locked, context, wanted)?;
        match reserve::reserve_address(&locked, applicant, wanted, facts, kernel::is_alive) {
            Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !reclaimed => {
                drop(locked);
                reclaimed = true;
                log::debug!("{error}");
                release::reclaim_dead(context, slice::from_ref(wanted))?;
            }
            reserved => return reserved,
        }
    }
}

/// Asks the LAN for the addresses of `record`, if that is due, and replaces those that were picked and that another host has. The
/// link of the endpoint does not exist yet.
///
/// # Errors
/// [`Kind::Taken`] if another host has an address that was asked for. The record is released.
pub(super) fn probe(
    context: &mut Context<'_>,
    wanted: &ResolvedAttachment,
    facts: &HostFacts,
    record: &mut Record,
) -> Result<()> {
    if !record.is_probed() {
        return Ok(());
    }
    let mut probing = Probing { context, wanted: slice::from_ref(wanted), facts };
    let attached: Vec<_> = record.attachments().to_vec();
    let asked = probing.begin_apart(&attached).and_then(|mut probes| probing.settle(record, &mut probes));
    asked.inspect_err(|_| {
        let released = release::release(context, record);
        released.map(drop).unwrap_or_else(|other| log::warn!("{other}"));
    })
}

/// Gives back `address` of `network`, if it was asked for an endpoint that has not come. One that an endpoint has stays.
pub(crate) fn release(context: &mut Context<'_>, network: &Network, address: IpAddr) -> Result<()> {
    let Some(parent) = context.host_netlink.link(&network.parent)? else { return Ok(()) };
    let locked = context.lock()?;
    if let Some(record) = awaited(&locked, parent.segment(), address)? {
        locked.release(&record, false, false)?;
    }
    Ok(())
}

/// The record of `address` on `segment`, if that is leased for an endpoint to come.
pub(super) fn awaited(locked: &Locked<'_>, segment: u32, address: IpAddr) -> Result<Option<Record>> {
    let held = locked.store().holding(segment, address.into())?;
    let Holding::Container(record) = held else { return Ok(None) };
    let is_awaited = record.holder.endpoint().is_some_and(|endpoint| endpoint.awaited);
    Ok(is_awaited.then_some(*record))
}

/// A name for an endpoint to come, of which nothing is known.
fn id() -> Result<ContainerId> {
    format!("docker-{:016x}", number()?).parse()
}

//! Addresses for endpoints to come.

use std::net::IpAddr;
use std::slice;

use ipnet::IpNet;

use super::wanted::{applicant, ensure_parent, holder, number, read_facts, wanted};
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::kernel;
use crate::ledger::record::Record;
use crate::ledger::{Holding, Locked};
use crate::lifecycle::conflicts::Probing;
use crate::lifecycle::context::Context;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::reserve;
use crate::net::name::ContainerId;
use crate::net::subnet::Subnet;

/// Leases `address`, or the next one that is free, of the only subnet of `network`, for an endpoint to come. An address that an endpoint
/// has is granted as it is.
///
/// # Errors
/// [`Kind::Taken`] if something else has it, [`Kind::Exhausted`] if none is free.
pub(crate) fn request_address(
    context: &mut Context<'_>,
    network: Network,
    address: Option<IpAddr>,
) -> Result<IpNet> {
    repair::recover(context)?;
    let id: ContainerId = format!("docker-{:016x}", number()?).parse()?;
    // Whether the endpoint has that identity is checked when it is created.
    let identity = address.and_then(|address| network.reservations.holder(address.into()).cloned());
    let mut wanted = wanted(context, &id, network, address.as_slice(), None)?;
    let facts = read_facts(context, &wanted)?;
    let holder = holder(true)?;
    let applicant = applicant(&id, identity.as_ref(), None, &holder);
    let mut reclaimed = false;
    let mut record = loop {
        let locked = context.lock()?;
        ensure_parent(&locked, context, &mut wanted)?;
        if let Some(address) = address {
            if is_of_endpoint(&locked, &wanted, address)? {
                return granted(&wanted, address);
            }
        }
        match reserve::reserve_address(&locked, applicant, &wanted, &facts, kernel::is_alive) {
            Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !reclaimed => {
                drop(locked);
                reclaimed = true;
                log::debug!("{error}");
                release::reclaim_dead(context, slice::from_ref(&wanted))?;
            }
            reserved => break reserved?,
        }
    };
    if record.is_probed() {
        let mut probing = Probing { context, wanted: slice::from_ref(&wanted), facts: &facts };
        let attached: Vec<_> = record.attachments().iter().enumerate().collect();
        // The link of the endpoint does not exist yet.
        let settled = probing
            .begin_on_parents(&attached)
            .and_then(|mut probes| probing.settle(&mut record, &mut probes));
        if let Err(error) = settled {
            let released = release::release(context, &record);
            released.map(drop).unwrap_or_else(|other| log::warn!("{other}"));
            return Err(error);
        }
    }
    let leased = record.attachments().iter().flat_map(|attached| &attached.addresses).next().copied();
    leased.ok_or_else(|| Error::bug("an endpoint has no address"))
}

/// Gives back `address` of `network`, if it was asked for an endpoint that has not come. One that an endpoint has stays.
pub(crate) fn release_address(context: &mut Context<'_>, network: &Network, address: IpAddr) -> Result<()> {
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

/// Returns true if an endpoint has `address`, or one is to come that has asked for this very address.
fn is_of_endpoint(locked: &Locked<'_>, wanted: &ResolvedAttachment, address: IpAddr) -> Result<bool> {
    let held = locked.store().holding(wanted.parent.segment(), address.into())?;
    let Holding::Container(record) = held else { return Ok(false) };
    let is_picked = record.attachments().iter().any(|attached| attached.picked.contains(&address));
    Ok(match record.holder.endpoint() {
        Some(endpoint) => !endpoint.awaited || kernel::is_alive(&record.holder) && !is_picked,
        // One whose record was lost and rebuilt: its mark names no process.
        None => record.is_rebuilt() && record.made_for().pid == 0,
    })
}

fn granted(wanted: &ResolvedAttachment, address: IpAddr) -> Result<IpNet> {
    Subnet::host_in(&wanted.network.subnets, address)
}

//! Endpoints: each has its addresses, or gets one by DHCP, and a MAC address.

use std::net::IpAddr;
use std::slice;

use ipnet::IpNet;

use super::address::{awaited, probe};
use super::wanted::{applicant, ensure_parent, holder, read_facts, wanted};
use crate::config::dhcp::ClientIdSource;
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous;
use crate::ipam::reserve::HostFacts;
use crate::kernel;
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::docker::PREFIX;
use crate::ledger::record::Record;
use crate::lifecycle::affinity;
use crate::lifecycle::attach::attached_already;
use crate::lifecycle::conflicts::Probing;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp;
use crate::lifecycle::host_access;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::reserve;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, Identity, IfName};
use crate::netlink::Socket;
use crate::plan;

/// An endpoint that is to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewEndpoint {
    pub id: ContainerId,
    /// The identity under which it is known, if it has one.
    pub identity: Option<Identity>,
    /// Its addresses, for which the engine has asked before; none if a DHCP server gives one.
    pub addresses: Vec<IpAddr>,
    /// The MAC address that was asked for.
    pub mac: Option<MacAddr>,
}

/// Creates an endpoint in `network`: its addresses become its own, or it gets one by DHCP; and it gets a MAC address. Returns its record, also if that is done
/// already.
///
/// # Errors
/// [`Kind::Taken`] if an address is not free for it.
pub(crate) fn create(context: &mut Context<'_>, mut network: Network, new: &NewEndpoint) -> Result<Record> {
    repair::recover(context)?;
    let has = |is_v4| new.addresses.iter().any(|address| address.is_ipv4() == is_v4);
    network.subnets.retain(|subnet| has(subnet.net().addr().is_ipv4()));
    if let (None, Some(_), Some(dhcp)) = (&new.identity, new.mac, &mut network.file.dhcp) {
        // It has no other name that it has again.
        if dhcp.client_id == ClientIdSource::Identity {
            dhcp.client_id = ClientIdSource::Mac;
        }
    }
    let mut wanted = wanted(context, &new.id, network, &new.addresses, new.mac)?;
    wanted.request.check(&wanted.network)?;
    // In a network of underlay an identity has the MAC address that the hook would give it.
    if new.identity.is_none() || wanted.network.name.as_str().starts_with(PREFIX) {
        let key = context.store.machine_key(&wanted.parent);
        wanted.previous.mac = Some(MacAddr::derived(key, &seed(&wanted, new)));
    }
    if new.addresses.is_empty() && new.identity.is_some() {
        // The server is asked for it.
        let known = affinity::load(context.store, new.identity.as_ref(), &new.id);
        let known = previous::of(std::iter::once(&wanted.request), &known.previous);
        wanted.previous.addresses = known.into_iter().flat_map(|known| known.addresses).collect();
    }
    let facts = read_facts(context, &wanted)?;
    let holder = holder(false)?;
    // The engine tells no other name of the container.
    let host_name = new.identity.as_ref().and_then(|identity| identity.as_str().parse().ok());
    let applicant = applicant(&new.id, new.identity.as_ref(), host_name.as_ref(), &holder);
    let (mut reclaimed, mut repaired) = (false, false);
    let (mut record, is_due) = loop {
        let locked = context.lock()?;
        match context.store.record(&new.id) {
            Ok(None) => {}
            // A call that was killed may not have come to ask.
            Ok(Some(old)) if is_same(&old, &wanted, new) => {
                let is_pending = old.is_pending();
                break (old, is_pending);
            }
            Ok(Some(old)) => return Err(attached_already(&old)),
            Err(error) if error.kind() == Kind::Damaged && !repaired => {
                drop(locked);
                repaired = true;
                repair::repair(context, false)?.warn();
                continue;
            }
            Err(error) => return Err(error),
        }
        ensure_parent(&locked, context, &mut wanted)?;
        host_access::refuse_elsewhere(context.store, slice::from_ref(&wanted), &mut context.host_netlink)?;
        let mut asked = Vec::with_capacity(new.addresses.len());
        for &address in &new.addresses {
            let record = awaited(&locked, wanted.parent.segment(), address)?;
            if let Some(record) = &record {
                // With the lock nothing else gets it.
                locked.release(record, false, false)?;
            }
            let attached = record.as_ref().and_then(|record| record.attachments().first());
            asked.push(attached.map_or(Asked::No, |attached| attached.asked));
        }
        // Those that were picked were asked for at once.
        let was_asked = !asked.is_empty() && asked.iter().all(|asked| *asked != Asked::No);
        match reserve::reserve(&locked, applicant, slice::from_ref(&wanted), &facts, kernel::is_alive) {
            Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !reclaimed => {
                drop(locked);
                reclaimed = true;
                release::reclaim_dead(context, slice::from_ref(&wanted))?;
            }
            Err(error) => return Err(error),
            Ok(mut record) => {
                if was_asked {
                    let asked = asked.into_iter().find(|asked| !asked.is_yes()).unwrap_or_default();
                    record.attachments_mut().iter_mut().for_each(|attached| attached.asked = asked);
                    locked.write(&record)?;
                }
                break (record, !was_asked);
            }
        }
    };
    if is_due && !new.addresses.is_empty() {
        probe(context, &wanted, &facts, &mut record)?;
    }
    if record.is_pending() && record.attachments().iter().any(Attached::is_asking) {
        lease(context, &wanted, &facts, &mut record)?;
    }
    Ok(record)
}

/// Gets the leases of `record` from DHCP servers, by a link like the one that the endpoint is going to have.
///
/// # Errors
/// The record is released.
fn lease(
    context: &mut Context<'_>,
    wanted: &ResolvedAttachment,
    facts: &HostFacts,
    record: &mut Record,
) -> Result<()> {
    let mut reclaimed = false;
    loop {
        let Err(error) = acquire(context, wanted, facts, record) else { return Ok(()) };
        // A server may offer what a dead container has.
        if error.kind() == Kind::Taken && !reclaimed {
            reclaimed = true;
            if release::reclaim_dead(context, slice::from_ref(wanted))? {
                continue;
            }
        }
        let released = release::release(context, record);
        released.map(drop).unwrap_or_else(|other| log::warn!("{other}"));
        return Err(error);
    }
}

fn acquire(
    context: &mut Context<'_>,
    wanted: &ResolvedAttachment,
    facts: &HostFacts,
    record: &mut Record,
) -> Result<()> {
    // Before the thread is in another one.
    context.host_netns.get()?;
    context.host_netlink.connect()?;
    let Some(attached) = record.attachments_mut().first_mut() else { return Ok(()) };
    let mac =
        attached.mac.or(wanted.parent.mac).ok_or_else(|| Error::bug("an endpoint has no MAC address"))?;
    attached.mac = Some(mac);
    let plan = plan::link_like(attached, &IfName::temporary(std::process::id()), mac);
    let wanted = slice::from_ref(wanted);
    kernel::with_link_apart(&plan, &mut Socket::open()?, |link| {
        dhcp::acquire(&mut Probing { context, wanted, facts }, record, slice::from_ref(link))
    })
}

/// What the MAC address is derived from. The same identity, or else the same address, has the same one again, which neighbours may know
/// still; also in a network that was removed and created again, which has another id.
fn seed(wanted: &ResolvedAttachment, new: &NewEndpoint) -> String {
    match &new.identity {
        Some(identity) => format!("endpoint {} {identity}", wanted.parent.name),
        // The server gives it an address of which nothing is known here.
        None if new.addresses.is_empty() => format!("endpoint {} {}", wanted.parent.name, new.id),
        None => {
            let addresses = new.addresses.iter().map(|address| format!(" {address}"));
            format!("endpoint {}{}", wanted.parent.name, addresses.collect::<String>())
        }
    }
}

/// Returns true if `record` is that of the endpoint `new` in the network of `wanted`.
fn is_same(record: &Record, wanted: &ResolvedAttachment, new: &NewEndpoint) -> bool {
    let [attached] = record.attachments() else { return false };
    let is_leased = |net: &&IpNet| attached.dhcp_leases().any(|lease| lease.address() == **net);
    let addresses: Vec<_> =
        attached.addresses.iter().filter(|net| !is_leased(net)).map(IpNet::addr).collect();
    let has_mac = new.mac.is_none_or(|mac| attached.mac == Some(mac));
    record.holder.endpoint().is_some()
        && attached.network == wanted.network.name
        && addresses == new.addresses
        && has_mac
        && record.identity == new.identity
}

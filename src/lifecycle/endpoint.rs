//! Endpoints: an engine with a network of its own, Docker, asks for an address, then for an endpoint with it, then for a link, which it
//! moves into the container. At the end it moves the link back, and says that the endpoint is over.
//!
//! Between these calls the engine may be killed, and so may this process. So each call finds what it needs in the ledger, and may come
//! twice. An address without an endpoint is free again after a minute. Whether an endpoint can have an address is decided when it
//! is created: the engine asks for the addresses of all endpoints again when it starts, and does not say so.

use std::net::IpAddr;
use std::path::Path;
use std::slice;

use ipnet::IpNet;

use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::PreviousAddresses;
use crate::ipam::reserve::{Applicant, HostFacts};
use crate::kernel;
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::docker::PREFIX;
use crate::ledger::holder::{EndpointHolder, Engine, Holder};
use crate::ledger::record::{Record, State};
use crate::ledger::segment_hints::since_boot;
use crate::ledger::{Holding, Locked};
use crate::lifecycle::affinity;
use crate::lifecycle::attach::{attached_already, call_agent};
use crate::lifecycle::conflicts::Probing;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access;
use crate::lifecycle::host_facts;
use crate::lifecycle::host_links;
use crate::lifecycle::parents;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::reserve;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, Identity, IfName};
use crate::net::route::DefaultRoutes;
use crate::net::subnet::Subnet;
use crate::oci::annotations::Attachment;
use crate::oci::requested_address::RequestedAddress;
use crate::random::random;

/// An endpoint that is to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewEndpoint {
    pub id: ContainerId,
    /// The identity under which it is known, if it has one.
    pub identity: Option<Identity>,
    /// Its addresses, for which the engine has asked before.
    pub addresses: Vec<IpAddr>,
    /// The MAC address that was asked for.
    pub mac: Option<MacAddr>,
}

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
    let applicant = applicant(&id, identity.as_ref(), &holder);
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

/// Creates an endpoint in `network`: its addresses become its own, and it gets a MAC address. Returns its record, also if that is done
/// already.
///
/// # Errors
/// [`Kind::Taken`] if an address is not free for it.
pub(crate) fn create(context: &mut Context<'_>, mut network: Network, new: &NewEndpoint) -> Result<Record> {
    repair::recover(context)?;
    let has = |is_v4| new.addresses.iter().any(|address| address.is_ipv4() == is_v4);
    network.subnets.retain(|subnet| has(subnet.net().addr().is_ipv4()));
    let mut wanted = wanted(context, &new.id, network, &new.addresses, new.mac)?;
    wanted.request.check(&wanted.network)?;
    // In a network of underlay an identity has the MAC address that the hook would give it.
    if new.identity.is_none() || wanted.network.name.as_str().starts_with(PREFIX) {
        let key = context.store.machine_key(&wanted.parent);
        wanted.previous.mac = Some(MacAddr::derived(key, &seed(&wanted, new)));
    }
    let facts = read_facts(context, &wanted)?;
    let holder = holder(false)?;
    let applicant = applicant(&new.id, new.identity.as_ref(), &holder);
    let (mut reclaimed, mut repaired) = (false, false);
    loop {
        let locked = context.lock()?;
        match context.store.record(&new.id) {
            Ok(None) => {}
            Ok(Some(old)) if is_same(&old, &wanted, new) => return Ok(old),
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
        let mut asked = Vec::new();
        for &address in &new.addresses {
            let record = awaited(&locked, wanted.parent.segment(), address)?;
            if let Some(record) = &record {
                // With the lock nothing else gets it.
                locked.release(record, false, false)?;
            }
            let attached = record.as_ref().and_then(|record| record.attachments().first());
            // Otherwise the agent asks.
            asked.push(attached.map_or(Asked::No, |attached| attached.asked));
        }
        match reserve::reserve(&locked, applicant, slice::from_ref(&wanted), &facts, kernel::is_alive) {
            Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !reclaimed => {
                drop(locked);
                reclaimed = true;
                release::reclaim_dead(context, slice::from_ref(&wanted))?;
            }
            Err(error) => return Err(error),
            Ok(mut record) => {
                let asked = asked.into_iter().find(|asked| !asked.is_yes()).unwrap_or_default();
                let detected = |attached: &&mut Attached| attached.detection.is_some();
                record
                    .attachments_mut()
                    .iter_mut()
                    .filter(detected)
                    .for_each(|attached| attached.asked = asked);
                locked.write(&record)?;
                return Ok(record);
            }
        }
    }
}

/// Makes the link of the endpoint `id` on the host, for the engine to move it into the namespace that it mounts at `sandbox`. Returns
/// its record.
///
/// # Errors
/// [`Kind::NotFound`] if there is no such endpoint.
pub(crate) fn join(context: &mut Context<'_>, id: &ContainerId, sandbox: Option<&Path>) -> Result<Record> {
    let mut record = context.store.record(id)?.ok_or_else(|| unknown(id))?;
    let mut facts = HostFacts::default();
    if record.host_link_networks().next().is_some() {
        facts.on_host = context.host_netlink.addresses()?.into_iter().collect();
        facts.routing = context.host_netlink.host_routing()?;
    }
    let host_probes = host_links::begin(context, &record, &facts)?;
    let made =
        make(context, &record).and_then(|()| host_links::ensure(context, &record, &facts, host_probes));
    made.inspect_err(|_| unmake(context, &record))?;
    if let Holder::Endpoint(endpoint) = &mut record.holder {
        endpoint.since = since_boot().as_secs();
        endpoint.sandbox = sandbox.map(Path::to_owned);
    }
    let record = record.in_state(State::Attached);
    let locked = context.lock()?;
    if !file::exists(&context.store.record_path(id))? {
        unmake(context, &record);
        return Err(unknown(id));
    }
    locked.write(&record)?;
    drop(locked);
    call_agent(context.store, &record);
    if record.identity.is_some() {
        let known = affinity::load(context.store, record.identity.as_ref(), id);
        affinity::save(context.store, &record, &known);
    }
    Ok(record)
}

/// Deletes the endpoint `id` with its link, and gives back what it has. Returns `None` if there is no such endpoint.
///
/// # Errors
/// The record stays.
pub(crate) fn delete(context: &mut Context<'_>, id: &ContainerId) -> Result<Option<Record>> {
    let record = match context.store.record(id) {
        Err(error) if error.kind() == Kind::Damaged => {
            log::warn!("{error}");
            repair::repair(context, false)?.warn();
            context.store.record(id)?
        }
        record => record?,
    };
    let Some(record) = record else { return Ok(None) };
    // A record that was rebuilt has another holder.
    for attached in record.attachments() {
        kernel::delete_endpoint_link(id, attached, &mut context.host_netlink)?;
    }
    release::release(context, &record)
}

/// Makes the link of `record`, in place of one that a killed call has left.
fn make(context: &mut Context<'_>, record: &Record) -> Result<()> {
    let key = context.store.key(context.settings.lock_timeout());
    let key =
        key.inspect_err(|error| log::warn!("the mark of its link is not sealed: {}", error.in_full())).ok();
    for (mark, attached) in record.marked() {
        let host = &mut context.host_netlink;
        kernel::delete_endpoint_link(&record.container, attached, host)?;
        kernel::make_endpoint_link(mark, attached, key, context.host_netns.get()?, host)?;
    }
    Ok(())
}

/// Deletes what [`make`] has made. A failure is logged only: the engine deletes the endpoint then.
fn unmake(context: &mut Context<'_>, record: &Record) {
    for attached in record.attachments() {
        let deleted = kernel::delete_endpoint_link(&record.container, attached, &mut context.host_netlink);
        deleted.map(drop).unwrap_or_else(|error| log::warn!("{error}"));
    }
}

/// Returns the attachment of the endpoint `id` to `network`.
fn wanted(
    context: &mut Context<'_>,
    id: &ContainerId,
    network: Network,
    addresses: &[IpAddr],
    mac: Option<MacAddr>,
) -> Result<ResolvedAttachment> {
    let parent = parents::find(&network, &mut context.host_netlink)?.link;
    let ips = addresses.iter().map(|&address| RequestedAddress { address, prefix_len: None }).collect();
    let request = Attachment { ips, mac, ..Attachment::plain(network.name.clone()) };
    let (ifname, previous) = (IfName::of_endpoint(id), PreviousAddresses::default());
    Ok(ResolvedAttachment { request, network, parent, ifname, previous })
}

/// What the MAC address is derived from. The same identity, or else the same address, has the same one again, which neighbours may know
/// still; also in a network that was removed and created again, which has another id.
fn seed(wanted: &ResolvedAttachment, new: &NewEndpoint) -> String {
    match &new.identity {
        Some(identity) => format!("endpoint {} {identity}", wanted.parent.name),
        None => {
            let addresses = new.addresses.iter().map(|address| format!(" {address}"));
            format!("endpoint {}{}", wanted.parent.name, addresses.collect::<String>())
        }
    }
}

fn read_facts(context: &mut Context<'_>, wanted: &ResolvedAttachment) -> Result<HostFacts> {
    host_facts::read(slice::from_ref(wanted), DefaultRoutes::default(), &mut context.host_netlink)
}

/// Has the parent made, if it is one that underlay makes: it may be missing after a reboot.
fn ensure_parent(
    locked: &Locked<'_>,
    context: &mut Context<'_>,
    wanted: &mut ResolvedAttachment,
) -> Result<()> {
    if wanted.parent.is_made_parent() {
        wanted.parent = parents::ensure(locked, &wanted.network, &mut context.host_netlink)?;
    }
    Ok(())
}

fn number() -> Result<u64> {
    random().map(u64::from_ne_bytes)
}

fn holder(awaited: bool) -> Result<Holder> {
    let (engine, number, since) = (Engine::Docker, number()?, since_boot().as_secs());
    Ok(Holder::Endpoint(EndpointHolder { engine, number, since, awaited, sandbox: None }))
}

fn applicant<'a>(id: &'a ContainerId, identity: Option<&'a Identity>, holder: &'a Holder) -> Applicant<'a> {
    Applicant { container: id, identity, host_name: None, holder, nsid: None, avoid_previous: false }
}

/// The record of `address` on `segment`, if that is leased for an endpoint to come.
fn awaited(locked: &Locked<'_>, segment: u32, address: IpAddr) -> Result<Option<Record>> {
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

/// Returns true if `record` is that of the endpoint `new` in the network of `wanted`.
fn is_same(record: &Record, wanted: &ResolvedAttachment, new: &NewEndpoint) -> bool {
    let [attached] = record.attachments() else { return false };
    let addresses: Vec<_> = attached.addresses.iter().map(IpNet::addr).collect();
    let has_mac = new.mac.is_none_or(|mac| attached.mac == Some(mac));
    record.holder.endpoint().is_some()
        && attached.network == wanted.network.name
        && addresses == new.addresses
        && has_mac
        && record.identity == new.identity
}

fn unknown(id: &ContainerId) -> Error {
    Error::new(Kind::NotFound, format!("endpoint {id} is not known"))
        .hint("the ledger was removed since it was created: start the container again")
}

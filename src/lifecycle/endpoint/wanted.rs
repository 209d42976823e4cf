//! What endpoints ask of a network, and what they are in the ledger.

use std::net::IpAddr;
use std::slice;

use crate::config::network::Network;
use crate::dhcp::domain_name::DomainName;
use crate::error::Result;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::PreviousAddresses;
use crate::ipam::reserve::{Applicant, HostFacts};
use crate::ledger::Locked;
use crate::ledger::holder::{EndpointHolder, Engine, Holder};
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_facts;
use crate::lifecycle::parents;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, Identity, IfName};
use crate::net::route::DefaultRoutes;
use crate::oci::annotations::Attachment;
use crate::oci::requested_address::RequestedAddress;
use crate::random::random;

/// Returns the attachment of the endpoint `id` to `network`.
pub(super) fn wanted(
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

pub(super) fn read_facts(context: &mut Context<'_>, wanted: &ResolvedAttachment) -> Result<HostFacts> {
    host_facts::read(
        context.store,
        slice::from_ref(wanted),
        DefaultRoutes::default(),
        &mut context.host_netlink,
    )
}

/// Has the parent made, if it is one that underlay makes: it may be missing after a reboot.
pub(super) fn ensure_parent(
    locked: &Locked<'_>,
    context: &mut Context<'_>,
    wanted: &mut ResolvedAttachment,
) -> Result<()> {
    if wanted.parent.is_made_parent() {
        wanted.parent = parents::ensure(locked, &wanted.network, &mut context.host_netlink)?;
    }
    Ok(())
}

pub(super) fn number() -> Result<u64> {
    random().map(u64::from_ne_bytes)
}

pub(super) fn holder(awaited: bool) -> Result<Holder> {
    let (engine, number, since) = (Engine::Docker, number()?, since_boot().as_secs());
    Ok(Holder::Endpoint(EndpointHolder { engine, number, since, awaited, sandbox: None }))
}

/// The endpoint `id`, which tells DHCP servers the name `host_name`.
pub(super) fn applicant<'a>(
    id: &'a ContainerId,
    identity: Option<&'a Identity>,
    host_name: Option<&'a DomainName>,
    holder: &'a Holder,
) -> Applicant<'a> {
    Applicant { container: id, identity, host_name, holder, nsid: None, avoid_previous: false }
}

//! Sockets by which the LAN is asked for addresses that no link has yet.

use std::net::IpAddr;

use crate::error::Result;
use crate::ipam::assign::ResolvedAttachment;
use crate::kernel::{self, PacketSocket};
use crate::lifecycle::context::Context;
use crate::net::ipv6::Advertised;
use crate::net::mac::MacAddr;
use crate::plan::{CreateLink, LinkPlan};

/// Opens the sockets to ask by for `addresses`: on the parent where the answers to a container's probes are heard there, else
/// on a link like a container's, with the MAC address `mac`, which also hears containers of other programs on that parent.
pub(crate) fn open(
    context: &mut Context<'_>,
    wanted: &ResolvedAttachment,
    addresses: &[IpAddr],
    mac: MacAddr,
) -> Result<PacketSocket> {
    let ResolvedAttachment { network, parent, .. } = wanted;
    let link = network.driver.link_below(parent.ifindex, parent.segment());
    // A passthru link would be the only one.
    if let (true, Some(mac)) = (network.driver.is_alone() || network.driver.is_heard_on_parent(), parent.mac)
    {
        return context.host_netns.get()?.inside(|| PacketSocket::open(link, mac, addresses));
    }
    let plan = like_a_container(wanted, addresses, mac);
    kernel::open_apart(&plan, addresses, &mut context.host_netlink)
}

/// Returns the plan of a link on the parent of `wanted` that has no address.
fn like_a_container(
    ResolvedAttachment { network, parent, ifname, .. }: &ResolvedAttachment,
    addresses: &[IpAddr],
    mac: MacAddr,
) -> LinkPlan {
    let create = CreateLink {
        name: ifname.clone(),
        parent: network.parent.clone(),
        parent_index: parent.ifindex,
        driver: network.driver,
        mac: Some(mac),
        mtu: None,
        bclim: None,
        options: network.file.link_options(),
        group: 0,
    };
    let has_v6 = addresses.iter().any(IpAddr::is_ipv6);
    LinkPlan::nameless(create, has_v6.then_some(&Advertised::default()))
}

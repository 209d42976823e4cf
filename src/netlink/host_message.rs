//! rtnetlink messages of the host's own links: their addresses and the routes by them, as bytes. The functions name the
//! `ip` command that does the same.

use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Ifa, RtScope, RtTable, Rta, Rtm, Rtn, Rtprot};
use neli::rtnl::{IfaddrmsgBuilder, Rtattr, RtmsgBuilder};
use neli::types::Buffer;

use super::attr::{attribute, octets};
use super::message::{Message, family, unsound};
use crate::error::Result;
use crate::ledger::host_link::HostRoute;

/// `ip addr add ADDRESS dev LINK noprefixroute`, for IPv6 `nodad` too: an address alone, without a route to others
pub(crate) fn add_host_address(ifindex: u32, address: IpAddr) -> Result<Message> {
    // neli knows the flags of the first byte.
    let mut flags = nix::libc::IFA_F_NOPREFIXROUTE;
    if address.is_ipv6() {
        flags |= nix::libc::IFA_F_NODAD;
    }
    let (net, bytes) = (IpNet::from(address), octets(address));
    let attributes = [
        attribute(Ifa::Local, bytes.clone())?,
        attribute(Ifa::Address, bytes)?,
        attribute(Ifa::Flags, flags)?,
    ];
    let message = IfaddrmsgBuilder::default()
        .ifa_family(family(net))
        .ifa_prefixlen(net.prefix_len())
        .ifa_scope(RtScope::Universe)
        .ifa_index(ifindex)
        .rtattrs(attributes.into_iter().collect());
    let flags = NlmF::CREATE | NlmF::EXCL | NlmF::ACK;
    Message::new(Rtm::Newaddr, flags, message.build().map_err(unsound)?)
}

/// `ip route add TO dev LINK src SOURCE`
pub(crate) fn add_host_route(ifindex: u32, route: HostRoute) -> Result<Message> {
    let source = attribute(Rta::Prefsrc, octets(route.source))?;
    host_route(Rtm::Newroute, NlmF::CREATE | NlmF::EXCL, ifindex, route.to, Some(source))
}

/// `ip route del TO dev LINK`
pub(crate) fn delete_host_route(ifindex: u32, to: IpAddr) -> Result<Message> {
    host_route(Rtm::Delroute, NlmF::empty(), ifindex, to, None)
}

fn host_route(
    kind: Rtm,
    flags: NlmF,
    ifindex: u32,
    to: IpAddr,
    source: Option<Rtattr<Rta, Buffer>>,
) -> Result<Message> {
    let net = IpNet::from(to);
    let attributes = [attribute(Rta::Oif, ifindex)?, attribute(Rta::Dst, octets(to))?];
    let message = RtmsgBuilder::default()
        .rtm_family(family(net))
        .rtm_dst_len(net.prefix_len())
        .rtm_src_len(0)
        .rtm_tos(0)
        .rtm_table(RtTable::Main)
        .rtm_protocol(Rtprot::Boot)
        .rtm_scope(if to.is_ipv4() { RtScope::Link } else { RtScope::Universe })
        .rtm_type(Rtn::Unicast)
        .rtattrs(attributes.into_iter().chain(source).collect());
    Message::new(kind, flags | NlmF::ACK, message.build().map_err(unsound)?)
}

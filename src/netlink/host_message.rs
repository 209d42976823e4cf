//! rtnetlink requests of the host's own links: their addresses and the routes by them. The doc comment of each function is
//! the `ip` command that does the same.

use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Ifa, Rtm};
use nix::libc;

use super::attr::{attribute, octets};
use super::message::{self, Message, NEW};
use crate::error::Result;
use crate::ledger::host_link::HostRoute;
use crate::net::route::Route;

/// `ip addr add ADDRESS dev LINK noprefixroute`, for IPv6 `nodad` too: an address alone, without a route to others
pub(crate) fn add_host_address(ifindex: u32, address: IpAddr) -> Result<Message> {
    let nodad = if address.is_ipv6() { libc::IFA_F_NODAD } else { 0 };
    let (net, bytes) = (IpNet::from(address), octets(address));
    let attributes = [
        attribute(Ifa::Local, bytes.clone()),
        attribute(Ifa::Address, bytes),
        // The header has the lowest eight flags only.
        attribute(Ifa::Flags, libc::IFA_F_NOPREFIXROUTE | nodad),
    ];
    let request = message::ifaddrmsg(message::family(net), net.prefix_len())
        .ifa_index(ifindex)
        .rtattrs(attributes.into_iter().collect::<Result<_>>()?);
    Message::new(Rtm::Newaddr, NEW, request.build())
}

/// `ip route add TO dev LINK src SOURCE`
pub(crate) fn add_host_route(ifindex: u32, HostRoute { to, source }: HostRoute) -> Result<Message> {
    let route = Route::new(to.into(), None);
    message::route(Rtm::Newroute, NEW, Some(ifindex), route, None, Some(source))
}

/// `ip route del TO dev LINK`
pub(crate) fn delete_host_route(ifindex: u32, to: IpAddr) -> Result<Message> {
    message::route(Rtm::Delroute, NlmF::ACK, Some(ifindex), Route::new(to.into(), None), None, None)
}

//! The unicast routes of all tables: where the host sends packets.

use std::net::IpAddr;

use neli::consts::rtnl::Rta;
use nix::libc::{RTA_VIA, RTN_UNICAST};

use super::attr::{Attributes, ip};
use super::message::{self, RTMSG};
use super::routes::destination;
use super::socket::Socket;
use crate::error::Result;
use crate::ledger::host_link;
use crate::net::host_routing::{HostRouting, UnicastRoute};

/// The length of `struct rtnexthop`: length, flags, weight and link.
const RTNEXTHOP: usize = 8;

impl Socket {
    /// Returns the unicast routes of all tables, except those by the host's own links in networks.
    pub(crate) fn host_routing(&mut self) -> Result<HostRouting> {
        let is_ours = |alias: &str| host_link::network_of(alias).is_some();
        let links = self.links()?.into_iter().filter(|link| link.alias.as_deref().is_some_and(is_ours));
        let own: Vec<u32> = links.map(|link| link.ifindex).collect();
        let mut routes = self.dump_both(message::dump_routes, parse)?;
        routes.retain(|route| !route.links.iter().any(|link| own.contains(link)));
        Ok(HostRouting::new(routes))
    }
}

/// Parses the payload of `RTM_NEWROUTE` (`struct rtmsg`), if it is a unicast route.
pub(super) fn parse(payload: &[u8]) -> Option<UnicastRoute> {
    let (&[family, prefix_len, _, _, _, _, _, RTN_UNICAST, ..], attributes) =
        Attributes::after::<RTMSG>(payload)?
    else {
        return None;
    };
    let to = destination(family, prefix_len, attributes)?.trunc();
    let mut via: Vec<_> = next_hop(attributes).into_iter().collect();
    let mut links: Vec<_> = attributes.number(Rta::Oif).into_iter().collect();
    let mut hops = attributes.value(Rta::Multipath).unwrap_or_default();
    while let Some((&[low, high, _, _, a, b, c, d], _)) = hops.split_first_chunk::<RTNEXTHOP>() {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let Some(attributes) = hops.get(RTNEXTHOP..length) else { break };
        via.extend(next_hop(Attributes(attributes)));
        links.push(u32::from_ne_bytes([a, b, c, d]));
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(UnicastRoute { to, via, links })
}

/// The router that the attributes of a route name: `RTA_GATEWAY`, or `RTA_VIA` of another family (`struct rtvia`).
fn next_hop(attributes: Attributes<'_>) -> Option<IpAddr> {
    attributes.ip(Rta::Gateway).or_else(|| attributes.value(RTA_VIA)?.get(2..).and_then(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(parts: &[&[u8]]) -> Option<(String, Vec<String>, Vec<u32>)> {
        let route = parse(&parts.concat())?;
        Some((route.to.to_string(), route.via.iter().map(IpAddr::to_string).collect(), route.links))
    }

    fn route(to: &str, via: &[&str], links: &[u32]) -> Option<(String, Vec<String>, Vec<u32>)> {
        Some((to.to_owned(), via.iter().map(|&via| via.to_owned()).collect(), links.to_vec()))
    }

    #[test]
    fn routing() {
        // struct rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags; then RTA_DST
        // (1), RTA_OIF (4), RTA_GATEWAY (5), RTA_MULTIPATH (9), RTA_VIA (18).
        let head = |family: u8, length: u8, protocol: u8, kind: u8| {
            [family, length, 0, 0, 254, protocol, 0, kind, 0, 0, 0, 0]
        };
        let oif = |link: u8| [8, 0, 4, 0, link, 0, 0, 0];
        let to = [8, 0, 1, 0, 10, 2, 0, 0];
        let gateway = [8, 0, 5, 0, 10, 0, 0, 1];
        assert_eq!(parsed(&[&head(2, 0, 3, 1), &oif(7), &gateway]), route("0.0.0.0/0", &["10.0.0.1"], &[7]));
        // Routes that the kernel makes for an address, or that a router has advertised, count too.
        assert_eq!(parsed(&[&head(2, 16, 2, 1), &to, &oif(7)]), route("10.2.0.0/16", &[], &[7]));
        assert_eq!(parsed(&[&head(10, 0, 9, 1), &oif(7)]), route("::/0", &[], &[7]));
        let v6: Vec<u8> = [&[22, 0, 18, 0, 10, 0, 0xfe, 0x80][..], &[0; 13], &[1, 0, 0]].concat();
        assert_eq!(
            parsed(&[&head(2, 16, 3, 1), &to, &v6, &oif(7)]),
            route("10.2.0.0/16", &["fe80::1"], &[7])
        );
        let hop = |link: u8, last: u8| [[16, 0, 0, 0, link, 0, 0, 0], [8, 0, 5, 0, 10, 0, 0, last]].concat();
        let multipath = [vec![36, 0, 9, 0], hop(7, 1), hop(8, 2)].concat();
        let both = route("10.2.0.0/16", &["10.0.0.1", "10.0.0.2"], &[7, 8]);
        assert_eq!(parsed(&[&head(2, 16, 3, 1), &to, &multipath]), both);
        // A next hop with a wrong length ends the list.
        for length in [0, 4, 17] {
            let mut broken = multipath.clone();
            broken[20] = length;
            let first = route("10.2.0.0/16", &["10.0.0.1"], &[7]);
            assert_eq!(parsed(&[&head(2, 16, 3, 1), &to, &broken]), first, "{length}");
        }
        for other in [head(2, 0, 3, 2), head(2, 0, 3, 6), head(7, 0, 3, 1), head(2, 33, 3, 1)] {
            assert_eq!(parsed(&[&other, &oif(7)]), None, "{other:?}");
        }
        assert_eq!(parse(&[2; 11]), None);
    }
}

//! Routes and rules as the kernel lists them.

use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::rtnl::{Frattr, Rta};
use nix::libc::{self, RT_TABLE_MAIN, RTN_LOCAL, RTN_UNICAST};

use super::attr::{Attributes, ip};
use super::message::{FR_ACT_TO_TBL, RTMSG, RTNH_F_ONLINK};
use crate::net::route::{Route, RouteType, TableId};
use crate::plan::persistent::PROTOCOL;

/// Of linux/rtnetlink.h, which libc lacks: a router has advertised the route.
const RTPROT_RA: u8 = 9;

/// A route of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundRoute {
    pub(super) table: u32,
    /// The number of the link that packets leave by; `None` for a blackhole route.
    pub(super) ifindex: Option<u32>,
    pub(super) route: Route,
}

impl FoundRoute {
    /// Returns true if the route is one of `table`, or of the main one.
    pub(super) fn is_in(&self, table: Option<TableId>) -> bool {
        self.table == table.map_or(RT_TABLE_MAIN.into(), u32::from)
    }
}

/// Parses the payload of `RTM_NEWROUTE` (`struct rtmsg`): a unicast route that neither the kernel has made for an address nor
/// a router has advertised, or a blackhole route of ours. Routes with several next hops are left out.
pub(super) fn parse_route(payload: &[u8]) -> Option<FoundRoute> {
    let (&[family, prefix_len, _, _, table, protocol, _, kind, flags @ ..], attributes) =
        Attributes::after::<RTMSG>(payload)?;
    let kind = RouteType::of_number(kind.into())?;
    let is_unicast = kind == RouteType::Unicast;
    let is_automatic = [libc::RTPROT_KERNEL, libc::RTPROT_REDIRECT, RTPROT_RA].contains(&protocol);
    if is_automatic || !is_unicast && protocol != PROTOCOL {
        return None;
    }
    let to = destination(family, prefix_len, attributes)?;
    let default_metric = if to.addr().is_ipv4() { 0 } else { 1024 };
    let route = Route {
        to,
        via: attributes.ip(Rta::Gateway),
        metric: attributes.number(Rta::Priority).filter(|&metric| metric != default_metric),
        kind,
        onlink: u32::from_ne_bytes(flags) & RTNH_F_ONLINK != 0,
    };
    // IPv6 has blackhole routes leave by lo.
    let ifindex = attributes.number(Rta::Oif).filter(|_| is_unicast);
    let table = attributes.number(Rta::Table).unwrap_or(table.into());
    (ifindex.is_some() || !is_unicast).then_some(FoundRoute { table, ifindex, route })
}

/// The destination of a route: `RTA_DST`, without which it is a default route.
pub(super) fn destination(family: u8, prefix_len: u8, attributes: Attributes<'_>) -> Option<IpNet> {
    let any = match i32::from(family) {
        libc::AF_INET => IpAddr::from([0; 4]),
        libc::AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    IpNet::new(attributes.value(Rta::Dst).map_or(Some(any), ip)?, prefix_len).ok()
}

/// Parses the payload of `RTM_NEWRULE` (`struct fib_rule_hdr`): a rule of ours from an address to a table.
pub(super) fn parse_rule(payload: &[u8]) -> Option<(IpAddr, TableId)> {
    let (&[_, 0, length, _, _, _, _, FR_ACT_TO_TBL, ..], attributes) = Attributes::after::<12>(payload)?
    else {
        return None;
    };
    let from = attributes.ip(Frattr::Src).filter(|&from| IpNet::from(from).prefix_len() == length)?;
    let table = TableId::try_from(attributes.number(Frattr::Table)?).ok()?;
    (attributes.value(Frattr::Protocol) == Some(&[PROTOCOL])).then_some((from, table))
}

/// Parses the payload of `RTM_NEWROUTE` (`struct rtmsg`), if it is a default route of the main table, into the number of its
/// link, if it has one next hop.
pub(crate) fn parse_default_route(payload: &[u8]) -> Option<Option<u32>> {
    let (&[_family, 0, _, _, RT_TABLE_MAIN, _, _, RTN_UNICAST, ..], attributes) =
        Attributes::after::<RTMSG>(payload)?
    else {
        return None;
    };
    Some(attributes.number(Rta::Oif))
}

/// Returns true if the payload of `RTM_NEWROUTE` (`struct rtmsg`) is a route to an address of this namespace.
pub(super) fn is_local_route(payload: &[u8]) -> bool {
    payload.get(7) == Some(&RTN_LOCAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn routes() {
        // struct rtmsg: family, lengths of destination and source, TOS, table, protocol (boot is 3), scope, type,
        // flags; then RTA_DST (1), RTA_OIF (4), RTA_GATEWAY (5), RTA_PRIORITY (6).
        let head = |family: u8, length: u8, table: u8, protocol: u8, kind: u8| {
            [family, length, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]
        };
        let boot = |family, length| head(family, length, 254, 3, 1);
        let number = |kind: u8, number: u32| [&[8, 0, kind, 0][..], &number.to_ne_bytes()].concat();
        let oif = number(4, 7);
        let to = [8, 0, 1, 0, 10, 2, 0, 0];
        let via = [8, 0, 5, 0, 10, 0, 0, 1];
        let parsed = |bytes: &[&[u8]]| parse_route(&bytes.concat());
        let route = |to, via: Option<&str>, metric| {
            let route = Route { metric, ..Route::new(net(to), via.map(|via| via.parse().unwrap())) };
            Some(FoundRoute { table: 254, ifindex: Some(7), route })
        };
        let nowhere = FoundRoute {
            table: 300,
            ifindex: None,
            route: Route { kind: RouteType::Blackhole, ..Route::new(net("10.2.0.0/16"), None) },
        };
        let lo = number(4, 1);
        assert_eq!(parsed(&[&head(2, 16, 252, 117, 6), &to, &lo, &number(15, 300)]), Some(nowhere));
        let mut onlink = boot(2, 0);
        onlink[8] = 4;
        let found = parsed(&[&onlink, &oif, &via]).unwrap();
        assert!(found.route.onlink && found.route.via.is_some());
        assert_eq!(parsed(&[&boot(2, 0), &oif, &via]), route("0.0.0.0/0", Some("10.0.0.1"), None));
        assert_eq!(parsed(&[&boot(2, 16), &to, &oif, &number(6, 9)]), route("10.2.0.0/16", None, Some(9)));
        assert_eq!(parsed(&[&boot(10, 0), &oif, &number(6, 1024)]), route("::/0", None, None));
        assert_eq!(parsed(&[&boot(10, 0), &oif, &number(6, 7)]), route("::/0", None, Some(7)));
        for other in [
            [&head(2, 0, 254, 2, 1)[..], &oif].concat(),
            [&head(10, 0, 254, 9, 1)[..], &oif].concat(),
            [&head(2, 0, 254, 3, 2)[..], &oif].concat(),
            [&head(2, 0, 254, 3, 6)[..], &oif].concat(),
            [&head(7, 0, 254, 3, 1)[..], &oif].concat(),
            [&boot(2, 0)[..], &via].concat(),
            [&boot(2, 33)[..], &to, &oif].concat(),
            boot(2, 0)[..11].to_vec(),
            vec![],
        ] {
            assert_eq!(parse_route(&other), None, "{other:?}");
        }
    }

    #[test]
    fn rules() {
        // struct fib_rule_hdr; then FRA_SRC (2), FRA_TABLE (15), FRA_PROTOCOL (21).
        let head = |length: u8, action: u8| [2, 0, length, 0, 252, 0, 0, action, 0, 0, 0, 0];
        let from = [8, 0, 2, 0, 10, 0, 0, 9];
        let table = |id: u32| [&[8, 0, 15, 0][..], &id.to_ne_bytes()].concat();
        let ours = [5, 0, 21, 0, PROTOCOL, 0, 0, 0];
        let parsed = |bytes: &[&[u8]]| parse_rule(&bytes.concat());
        let rule = ("10.0.0.9".parse().unwrap(), TableId::try_from(300).unwrap());
        assert_eq!(parsed(&[&head(32, 1), &from, &table(300), &ours]), Some(rule));
        for other in [
            [&head(24, 1)[..], &from, &table(300), &ours].concat(),
            [&head(32, 6)[..], &from, &table(300), &ours].concat(),
            [&head(32, 1)[..], &from, &table(254), &ours].concat(),
            [&head(32, 1)[..], &from, &table(300)].concat(),
            [&head(0, 1)[..], &table(300), &ours].concat(),
            vec![2; 11],
        ] {
            assert_eq!(parse_rule(&other), None, "{other:?}");
        }
    }
}

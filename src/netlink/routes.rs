//! What the kernel tells of routes and rules.

use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::rtnl::{Frattr, Rta};
use nix::libc;

use super::attr::{ip, number, value};
use super::message::RTNH_F_ONLINK;
use crate::error::Result;
use crate::net::route::{Route, RouteType, TableId};
use crate::plan::persistent::PROTOCOL;

/// `RT_TABLE_MAIN`
pub(crate) const MAIN: u8 = 254;
/// `RTN_UNICAST`
pub(crate) const UNICAST: u8 = 1;
/// `RTPROT_RA`: a router has sent it.
const RTPROT_RA: u8 = 9;

/// A route of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundRoute {
    /// The number of its table.
    pub(crate) table: u32,
    /// The number of the link it leaves by; none if it leads nowhere.
    pub(crate) ifindex: Option<u32>,
    /// The route.
    pub(crate) route: Route,
}

impl FoundRoute {
    /// Whether it is one of `table`, or of the main one.
    pub(crate) fn is_in(&self, table: Option<TableId>) -> bool {
        self.table == table.map_or(MAIN.into(), u32::from)
    }
}

/// A route out of the payload of `RTM_NEWROUTE` (`struct rtmsg`), if it is a unicast route that neither the kernel has
/// made for an address nor a router has sent, or one of ours that leads nowhere. Routes over several next hops are left
/// out.
pub(crate) fn parse_route(payload: &[u8]) -> Result<Option<FoundRoute>> {
    let Some((&[family, prefix_len, _, _, table, protocol, _, kind, flags @ ..], attributes)) =
        payload.split_first_chunk::<12>()
    else {
        return Ok(None);
    };
    let kind = match kind {
        UNICAST => RouteType::Unicast,
        6 => RouteType::Blackhole,
        7 => RouteType::Unreachable,
        8 => RouteType::Prohibit,
        _ => return Ok(None),
    };
    if kind != RouteType::Unicast && protocol != PROTOCOL {
        return Ok(None);
    }
    if [libc::RTPROT_KERNEL, libc::RTPROT_REDIRECT, RTPROT_RA].contains(&protocol) {
        return Ok(None);
    }
    let number = |kind| value(attributes, kind).and_then(number);
    let (any, default_metric) = match i32::from(family) {
        libc::AF_INET => (IpAddr::from([0; 4]), 0),
        libc::AF_INET6 => (IpAddr::from([0; 16]), 1024),
        _ => return Ok(None),
    };
    let to = value(attributes, Rta::Dst).map_or(Some(any), ip).and_then(|ip| IpNet::new(ip, prefix_len).ok());
    let via = value(attributes, Rta::Gateway).and_then(ip);
    let metric = number(Rta::Priority).filter(|&metric| metric != default_metric);
    let onlink = u32::from_ne_bytes(flags) & RTNH_F_ONLINK != 0;
    // IPv6 lets routes that lead nowhere leave by lo.
    let ifindex = number(Rta::Oif).filter(|_| kind == RouteType::Unicast);
    if ifindex.is_none() && kind == RouteType::Unicast {
        return Ok(None);
    }
    let table = number(Rta::Table).unwrap_or(table.into());
    Ok(to.map(|to| FoundRoute { table, ifindex, route: Route { to, via, metric, kind, onlink } }))
}

/// A rule of ours out of the payload of `RTM_NEWRULE` (`struct fib_rule_hdr`): from an address to a table.
pub(crate) fn parse_rule(payload: &[u8]) -> Result<Option<(IpAddr, TableId)>> {
    const TO_TABLE: u8 = 1;
    let Some((&[_, 0, length, _, _, _, _, TO_TABLE, ..], attributes)) = payload.split_first_chunk::<12>()
    else {
        return Ok(None);
    };
    let from = value(attributes, Frattr::Src).and_then(ip);
    let from = from.filter(|&from| IpNet::from(from).prefix_len() == length);
    let table = value(attributes, Frattr::Table).and_then(number);
    let table = table.and_then(|table| TableId::try_from(table).ok());
    let ours = value(attributes, Frattr::Protocol) == Some(&[PROTOCOL]);
    Ok(from.zip(table).filter(|_| ours))
}

/// Whether the payload of an `RTM_NEWROUTE` (`struct rtmsg`) is a default route of the main table.
pub(crate) fn parse_default_route(payload: &[u8]) -> Result<Option<()>> {
    let is = matches!(payload, [_family, 0, _, _, MAIN, _, _, UNICAST, ..]);
    Ok(is.then_some(()))
}

/// Whether the payload of an `RTM_NEWROUTE` (`struct rtmsg`) is a route to an address of this very namespace.
pub(crate) fn parse_local_route(payload: &[u8]) -> Result<Option<bool>> {
    const LOCAL: u8 = 2;
    Ok(Some(payload.get(7) == Some(&LOCAL)))
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
        let parsed = |bytes: &[&[u8]]| parse_route(&bytes.concat()).unwrap();
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
            assert_eq!(parse_route(&other).unwrap(), None, "{other:?}");
        }
    }

    #[test]
    fn rules() {
        // struct fib_rule_hdr; then FRA_SRC (2), FRA_TABLE (15), FRA_PROTOCOL (21).
        let head = |length: u8, action: u8| [2, 0, length, 0, 252, 0, 0, action, 0, 0, 0, 0];
        let from = [8, 0, 2, 0, 10, 0, 0, 9];
        let table = |id: u32| [&[8, 0, 15, 0][..], &id.to_ne_bytes()].concat();
        let ours = [5, 0, 21, 0, PROTOCOL, 0, 0, 0];
        let parsed = |bytes: &[&[u8]]| parse_rule(&bytes.concat()).unwrap();
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
            assert_eq!(parse_rule(&other).unwrap(), None, "{other:?}");
        }
    }
}

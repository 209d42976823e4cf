//! The steps that configure a link which was made, in the order of a plan.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::dhcp::times::Lifetime;
use crate::escape::shell::Line;
use crate::net::link::set_mtu;
use crate::net::name::IfName;
use crate::net::route::{Route, TableId};
use crate::plan::persistent::PROTOCOL;
use crate::plan::{ip, set_up};

/// A step that configures a link. Links are named, so that a plan can be shown before they exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Configure {
    /// Writes sysctls before the link is set up.
    SetSysctls {
        /// Paths below /proc/sys, and values.
        settings: Vec<(String, String)>,
        /// The hint of the error if one cannot be written; `None` if the kernel may lack it, or /proc/sys may be
        /// read-only.
        needed: Option<&'static str>,
    },
    /// Adds an address; IPv6 without duplicate address detection, so that it can be used at once.
    AddAddress {
        link: IfName,
        /// The address with its prefix length.
        address: IpNet,
        /// For how long the link has it; `None` for ever.
        lifetime: Option<Lifetime>,
    },
    /// Sets the MTU of a link that exists.
    SetMtu { link: IfName, mtu: u32 },
    /// Marks the link as ours and sets it up.
    SetUp {
        link: IfName,
        /// The mark without a seal.
        alias: String,
    },
    /// Adds a route.
    AddRoute {
        /// The link it leaves by.
        link: IfName,
        route: Route,
        /// Its table, if not the main one.
        table: Option<TableId>,
    },
    /// Adds a rule: packets from an address use the routes of a table.
    AddRule { from: IpAddr, table: TableId },
}

impl Configure {
    /// Returns the equivalent command of iproute2 or sysctl in the container.
    pub(crate) fn line(&self) -> Line {
        match self {
            Self::SetSysctls { settings, .. } => {
                Line::of("sysctl -w").words(settings.iter().map(|(path, value)| format!("{path}={value}")))
            }
            Self::AddAddress { link, address, lifetime } => {
                let broadcast = match address {
                    IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
                    _ => None,
                };
                let line = Line::of("ip addr add").word(address).option("brd", broadcast);
                let line = line.text("dev").word(link);
                let line = if address.addr().is_ipv6() { line.text("nodad") } else { line };
                let is_alone = address.prefix_len() == address.max_prefix_len();
                let line = if is_alone { line.text("noprefixroute") } else { line };
                let line = line.option("valid_lft", lifetime.map(|lifetime| lifetime.valid));
                line.option("preferred_lft", lifetime.map(|lifetime| lifetime.preferred))
            }
            Self::SetMtu { link, mtu } => set_mtu(link.as_str(), *mtu),
            Self::SetUp { link, alias } => set_up(link, alias),
            Self::AddRoute { link, route, table } => {
                let line = ip(route.to.addr()).text("route add").split(route);
                let line = match route.is_unicast() {
                    true => line.text("dev").word(link),
                    false => line.text("protocol").word(PROTOCOL),
                };
                line.option("table", *table)
            }
            Self::AddRule { from, table } => {
                let line = ip(*from).text("rule add from").word(from).text("lookup").word(table);
                line.text("protocol").word(PROTOCOL)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dhcp_gives() {
        let link: IfName = "eth0".parse().unwrap();
        let address = |net: &str, preferred, valid| Configure::AddAddress {
            link: link.clone(),
            address: net.parse().unwrap(),
            lifetime: Some(Lifetime { preferred, valid }),
        };
        let mtu = Configure::SetMtu { link: link.clone(), mtu: 1400 };
        assert_eq!(
            [
                address("10.0.0.9/24", 3600, 3600),
                address("10.0.0.9/32", 60, 60),
                address("2001:db8::9/128", 30, 60),
                mtu
            ]
            .map(|step| step.line().to_string()),
            [
                "ip addr add 10.0.0.9/24 brd 10.0.0.255 dev eth0 valid_lft 3600 preferred_lft 3600",
                "ip addr add 10.0.0.9/32 dev eth0 noprefixroute valid_lft 60 preferred_lft 60",
                "ip addr add 2001:db8::9/128 dev eth0 nodad noprefixroute valid_lft 60 preferred_lft 30",
                "ip link set eth0 mtu 1400",
            ]
        );
    }
}

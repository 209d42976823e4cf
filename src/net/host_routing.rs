//! The host's routes without those of its own links in networks: `host_access` redirects none of their packets.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A unicast route of the host, in whatever table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnicastRoute {
    /// The destination.
    pub to: IpNet,
    /// The next hops; none if the destination is on the link.
    pub via: Vec<IpAddr>,
    /// The numbers of the links.
    pub links: Vec<u32>,
}

/// The routes of the host, except those by its own links in networks, which lead to containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostRouting(Vec<UnicastRoute>);

/// The reason why no container can have an address to which the host would get a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It is the next hop of the host's route to this destination.
    NextHop(IpNet),
    /// The host reaches it through this router.
    Behind(IpAddr),
    /// The host reaches it by the link of this number, which is not the parent.
    ByLink(u32),
}

impl HostRouting {
    pub(crate) fn new(routes: Vec<UnicastRoute>) -> Self {
        Self(routes)
    }

    /// Only the routes that matter to addresses of `subnets`: a host may have a million.
    #[must_use]
    pub(crate) fn about(mut self, subnets: &[IpNet]) -> Self {
        let matters = |route: &UnicastRoute, subnet: &IpNet| {
            let overlaps = route.to.contains(subnet) || subnet.contains(&route.to);
            overlaps || route.via.iter().any(|via| subnet.contains(via))
        };
        self.0.retain(|route| subnets.iter().any(|subnet| matters(route, subnet)));
        self
    }

    /// The reason why the host cannot get a route to `address`, which is in `subnet` on the links `on`: the numbers of the
    /// parent and of the link below it.
    ///
    /// The definition of a network says that its subnet is on the parent. A more specific route of the host contradicts
    /// that for a part of the subnet. So does a router of the host, if only a part of the subnet is on the parent. A default
    /// route alone says nothing about a subnet that the host is not in.
    pub(crate) fn obstacle(&self, address: IpAddr, subnet: IpNet, on: [u32; 2]) -> Option<Obstacle> {
        if let Some(route) = self.0.iter().find(|route| route.via.contains(&address)) {
            return Some(Obstacle::NextHop(route.to));
        }
        let to = self.0.iter().filter(|route| route.to.contains(&address));
        let best = to.max_by_key(|route| (route.to.prefix_len(), route.via.is_empty()))?;
        let is_on =
            |route: &UnicastRoute| route.via.is_empty() && route.links.iter().any(|link| on.contains(link));
        let is_part = |route: &UnicastRoute| route.to != subnet && subnet.contains(&route.to);
        let is_single = |route: &UnicastRoute| route.to.prefix_len() == route.to.max_prefix_len();
        let is_wider = || self.0.iter().any(|route| is_on(route) && is_part(route) && !is_single(route));
        if is_on(best) || !is_part(best) && (best.via.is_empty() || !is_wider()) {
            return None;
        }
        let by_link = || best.links.first().copied().map(Obstacle::ByLink);
        best.via.first().copied().map(Obstacle::Behind).or_else(by_link)
    }
}

impl fmt::Display for Obstacle {
    /// What the address is, behind "is".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NextHop(to) if to.prefix_len() == 0 => {
                write!(f, "the next hop of the host's default route")
            }
            Self::NextHop(to) => write!(f, "the next hop of the host's route to {to}"),
            Self::Behind(via) => write!(f, "reached by the host through {via}, and not on the parent"),
            Self::ByLink(link) => {
                write!(f, "reached by the host by link number {link}, and not on the parent")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(to: &str, via: &[&str], link: u32) -> UnicastRoute {
        let via = via.iter().map(|via| via.parse().unwrap()).collect();
        UnicastRoute { to: to.parse().unwrap(), via, links: vec![link] }
    }

    /// eth0 is 2, wg0 is 5; a parent of the network is 2.
    fn routing() -> HostRouting {
        HostRouting::new(vec![
            route("0.0.0.0/0", &["172.16.86.254"], 2),
            route("0.0.0.0/0", &["172.16.86.253"], 2),
            route("172.16.86.0/24", &[], 2),
            route("172.16.86.192/28", &["172.16.86.3", "172.16.86.4"], 2),
            route("172.16.86.77/32", &[], 5),
            route("172.16.86.9/32", &[], 2),
            route("10.88.0.0/16", &[], 5),
            route("2001:db8::/64", &[], 2),
            route("::/0", &["fe80::1"], 2),
        ])
    }

    #[track_caller]
    fn check(subnet: &str, cases: &[(&str, Option<&str>)]) {
        for (address, expected) in cases {
            let found = routing().obstacle(address.parse().unwrap(), subnet.parse().unwrap(), [2, 1]);
            assert_eq!(found.map(|found| found.to_string()).as_deref(), *expected, "{address} in {subnet}");
        }
    }

    #[test]
    fn in_the_hosts_own_subnet() {
        check(
            "172.16.86.0/24",
            &[
                ("172.16.86.20", None),
                ("172.16.86.9", None),
                ("172.16.86.254", Some("the next hop of the host's default route")),
                ("172.16.86.253", Some("the next hop of the host's default route")),
                ("172.16.86.4", Some("the next hop of the host's route to 172.16.86.192/28")),
                ("172.16.86.200", Some("reached by the host through 172.16.86.3, and not on the parent")),
                ("172.16.86.77", Some("reached by the host by link number 5, and not on the parent")),
            ],
        );
        check("2001:db8::/64", &[("2001:db8::9", None)]);
    }

    #[test]
    fn in_a_subnet_that_is_wider_than_the_hosts() {
        let behind = Some("reached by the host through 172.16.86.253, and not on the parent");
        check("172.16.0.0/16", &[("172.16.86.20", None), ("172.16.99.53", behind)]);
        let behind = Some("reached by the host through fe80::1, and not on the parent");
        check("2001:db8::/32", &[("2001:db8::9", None), ("2001:db8:1::9", behind)]);
    }

    /// It is on the parent because its network says so, except what the host has elsewhere.
    #[test]
    fn in_a_subnet_that_the_host_is_not_in() {
        check("10.50.0.0/24", &[("10.50.0.9", None)]);
        let by_link = Some("reached by the host by link number 5, and not on the parent");
        check("10.0.0.0/8", &[("10.50.0.9", None), ("10.88.0.9", by_link)]);
        let about = routing().about(&["172.16.86.0/25".parse().unwrap(), "10.50.0.0/24".parse().unwrap()]);
        let left: Vec<_> = about.0.iter().map(|route| route.to.to_string()).collect();
        let expected = [
            "0.0.0.0/0",
            "0.0.0.0/0",
            "172.16.86.0/24",
            "172.16.86.192/28",
            "172.16.86.77/32",
            "172.16.86.9/32",
        ];
        assert_eq!(left, expected);
        assert_eq!(
            HostRouting::default().obstacle([10, 0, 0, 9].into(), "10.0.0.0/8".parse().unwrap(), [2, 2]),
            None
        );
    }
}

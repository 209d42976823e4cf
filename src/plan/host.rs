//! Plans for the host's network namespace: parents, the host's own links, and routes to containers.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::escape::shell::Line;
use crate::ledger::host_link::{HostLink, HostRoute};
use crate::net::link::Link;
use crate::net::mark;
use crate::net::name::IfName;
use crate::net::parent::ParentSpec;
use crate::net::route::Route;
use crate::plan::{Configure, LinkPlan, ip, set_up};

/// One operation in the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostOp {
    /// Makes a parent, marks it as ours and sets it up.
    MakeParent { name: IfName, recipe: ParentSpec },
    /// Deletes a parent that underlay has made.
    DeleteParent(IfName),
    /// Makes the host's link anew, with its addresses, marked and up. Deletes an older one first.
    MakeLink(Box<LinkPlan>),
    /// Deletes the host's link, and its routes with it.
    DeleteLink(IfName),
    /// Adds a route to a container.
    AddRoute(IfName, HostRoute),
    /// Deletes a route to a container.
    DeleteRoute(IfName, IpAddr),
}

/// The host's link as it is in the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    pub link: Link,
    pub addresses: Vec<IpNet>,
    /// The addresses of containers that it has routes to.
    pub routes: BTreeSet<IpAddr>,
}

impl Present {
    /// Returns true if this is the link that was made, complete except for routes.
    pub(crate) fn is_whole(&self, link: &HostLink) -> bool {
        let all = |addresses: &[IpNet]| addresses.iter().copied().collect::<BTreeSet<_>>();
        link.is_whole(&self.link) && all(&self.addresses) == all(&link.attached().addresses)
    }
}

/// Returns the addresses of containers that `routes`, by the host's link alone, lead to.
pub(crate) fn to_containers(routes: &[Route]) -> BTreeSet<IpAddr> {
    let is_to_one =
        |route: &&Route| route.via.is_none() && route.to.prefix_len() == route.to.max_prefix_len();
    routes.iter().filter(is_to_one).map(|route| route.to.addr()).collect()
}

/// The changes that give the host's link exactly the wanted routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// True if the link is made anew, without routes.
    pub make: bool,
    /// The routes to delete.
    pub delete: Vec<IpAddr>,
    /// The routes to add.
    pub add: Vec<HostRoute>,
}

impl Changes {
    /// Returns the changes that give `link` the routes `wanted`; `present` is its state.
    pub(crate) fn of(link: &HostLink, wanted: &[HostRoute], present: Option<&Present>) -> Self {
        let Some(present) = present.filter(|present| present.is_whole(link)) else {
            return Self { make: true, delete: Vec::new(), add: wanted.to_vec() };
        };
        let is_wanted = |to: &IpAddr| wanted.iter().any(|route| route.to == *to);
        let delete = present.routes.iter().filter(|to| !is_wanted(to)).copied().collect();
        let add = wanted.iter().filter(|route| !present.routes.contains(&route.to)).copied().collect();
        Self { make: false, delete, add }
    }

    /// Returns the operations on `link`, in order.
    pub(crate) fn ops(&self, link: &HostLink) -> Vec<HostOp> {
        let make = self.make.then(|| HostOp::MakeLink(Box::new(LinkPlan::of_host(link))));
        let delete = self.delete.iter().map(|&to| HostOp::DeleteRoute(link.name.clone(), to));
        let add = self.add.iter().map(|&route| HostOp::AddRoute(link.name.clone(), route));
        make.into_iter().chain(delete).chain(add).collect()
    }
}

impl LinkPlan {
    /// Returns the plan that makes the host's own link `link`.
    ///
    /// By default the kernel answers ARP requests for any of the host's addresses on any link, so the LAN would see each of
    /// them with two MAC addresses. With `arp_filter` this link answers only hosts that the kernel has routes to by it, and
    /// with `arp_announce` it sends the address that they know.
    pub(crate) fn of_host(link: &HostLink) -> Self {
        let mut plan = Self::of(&link.attached(), &link.mark());
        let settings = [("arp_filter", "1"), ("arp_announce", "2")];
        let settings =
            settings.map(|(key, value)| (format!("net/ipv4/conf/{}/{key}", link.name), value.into()));
        plan.configure.insert(0, Configure::SetSysctls { settings: settings.into(), needed: None });
        plan
    }
}

impl HostOp {
    /// Returns the equivalent commands of iproute2 and sysctl on the host.
    pub(crate) fn line(&self) -> Line {
        match self {
            Self::MakeParent { name, recipe } => {
                let make = match recipe {
                    ParentSpec::Vlan { base, id, protocol } => Line::of("ip link add link")
                        .word(base)
                        .text("name")
                        .word(name)
                        .text("type vlan protocol")
                        .word(protocol)
                        .text("id")
                        .word(id),
                    ParentSpec::Dummy => Line::of("ip link add").named("name", name).text("type dummy"),
                };
                make.and(&set_up(name, &mark::PARENT))
            }
            Self::MakeLink(plan) => {
                plan.configure.iter().fold(plan.create.line(), |line, step| line.and(&step.line()))
            }
            Self::DeleteLink(name) | Self::DeleteParent(name) => Line::of("ip link del").named("dev", name),
            Self::AddRoute(link, HostRoute { to, source }) => {
                let line = ip(*to).text("route add").word(to).text("dev").word(link);
                line.text("src").word(source)
            }
            Self::DeleteRoute(link, to) => ip(*to).text("route del").word(to).text("dev").word(link),
        }
    }
}

impl fmt::Display for HostOp {
    /// The command of [`HostOp::line`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::Record;
    use crate::net::host_routing::HostRouting;
    use crate::net::link::eth0;

    const LINK: &str = r#"{"version": 1, "network": "lan", "name": "ulh-lan",
        "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "eth0", "parent_index": 2, "segment": 2,
        "mac": "02:00:00:00:00:05", "addresses": ["10.0.0.5", "2001:db8::5"], "born_as": "ul~1", "ifindex": 7}"#;
    const RECORD: &str = r#"{
        "version": 1, "container": "web", "state": "attached",
        "holder": {"pid": 7, "start_time": 8, "netns": {"device": 4, "inode": 5}},
        "attachments": [
            {"network": "lan", "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "eth0", "parent_index": 2,
             "segment": 2, "ifname": "eth0", "host_link": "ulh-lan", "addresses": ["10.0.0.9/24", "2001:db8::9/64"],
             "routes": []},
            {"network": "san", "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "eth0", "parent_index": 2,
             "segment": 2, "ifname": "eth1", "addresses": ["10.1.0.9/24"], "routes": []}
        ]}"#;

    fn present(link: &HostLink) -> Present {
        let found = Link {
            ifindex: 7,
            name: "ulh-lan".to_owned(),
            kind: Some("macvlan".to_owned()),
            driver: Some(link.driver),
            lower: Some(2),
            mac: link.mac,
            alias: Some("underlay:host:lan".to_owned()),
            ..eth0()
        };
        let route = |to: &str| Route::new(to.parse().unwrap(), None);
        let routes = ["10.0.0.9/32", "10.0.0.77/32", "10.9.0.0/16"].map(route);
        Present { link: found, addresses: link.attached().addresses, routes: to_containers(&routes) }
    }

    #[test]
    fn what_is_done() {
        let link: HostLink = serde_json::from_str(LINK).unwrap();
        let record: Record = serde_json::from_str(RECORD).unwrap();
        let wanted = link.open_routes([&record], &HostRouting::default());
        let lines = |present: Option<&Present>| {
            let ops = Changes::of(&link, &wanted, present).ops(&link);
            ops.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let make = "ip link add link eth0 name ulh-lan address 02:00:00:00:00:05 type macvlan mode bridge && \
                    sysctl -w net/ipv4/conf/ulh-lan/arp_filter=1 net/ipv4/conf/ulh-lan/arp_announce=2 && \
                    sysctl -w net/ipv6/conf/ulh-lan/disable_ipv6=0 net/ipv6/conf/ulh-lan/accept_ra=0 && \
                    sysctl -w net/ipv4/conf/ulh-lan/arp_notify=1 && \
                    sysctl -w net/ipv6/conf/ulh-lan/ndisc_notify=1 && \
                    ip addr add 10.0.0.5/32 dev ulh-lan noprefixroute && \
                    ip addr add 2001:db8::5/128 dev ulh-lan nodad noprefixroute && \
                    ip link set ulh-lan alias underlay:host:lan up";
        let routes = [
            "ip route add 10.0.0.9 dev ulh-lan src 10.0.0.5",
            "ip -6 route add 2001:db8::9 dev ulh-lan src 2001:db8::5",
        ];
        assert_eq!(lines(None), [make, routes[0], routes[1]], "the other network is none of its business");
        let whole = present(&link);
        assert_eq!(lines(Some(&whole)), ["ip route del 10.0.0.77 dev ulh-lan", routes[1]]);
        let down = Present { link: Link { up: false, ..whole.link.clone() }, ..whole.clone() };
        let moved = Present { link: Link { lower: Some(3), ..whole.link.clone() }, ..whole.clone() };
        let one = Present { addresses: vec!["10.0.0.5/32".parse().unwrap()], ..whole.clone() };
        for broken in [down, moved, one] {
            assert_eq!(lines(Some(&broken)), [make, routes[0], routes[1]]);
        }
    }

    #[test]
    fn it_round_trips() {
        let link: HostLink = serde_json::from_str(LINK).unwrap();
        let text = serde_json::to_string(&link).unwrap();
        assert_eq!(serde_json::from_str::<HostLink>(&text).unwrap(), link);
    }
}

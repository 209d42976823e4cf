//! Plans for the container's network namespace: the steps of an attach and of a detach, in order.

use std::time::Duration;

use ipnet::IpNet;

use crate::escape::shell::Line;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::net::driver::Kind;
use crate::net::ipv6::{self, Advertised, IPV6_MTU};
use crate::net::mac::MacAddr;
use crate::net::mark::{self, Mark};
use crate::net::name::IfName;
use crate::net::route::{Route, Table};
use crate::plan::configure::Configure;
use crate::plan::create_link::CreateLink;
use crate::plan::ip;
use crate::plan::persistent::{PROTOCOL, Persistent};

/// The alias of links of the agent's own.
const ALIAS: &str = "underlay:agent";

/// One link of a container, or the host's own: it is made, and then configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkPlan {
    pub create: CreateLink,
    pub configure: Vec<Configure>,
    /// The mark of a container, which is sealed when the link exists.
    pub mark: Option<Mark>,
}

/// One step of a detach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Deletes a rule or route that outlives its link, if its protocol is ours.
    Persistent(Persistent),
    /// Deletes a link, if kind and mark are ours.
    Link(OurLink),
}

/// A link that was made for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OurLink {
    /// Its name in the record.
    pub name: IfName,
    /// Its ifindex; unknown if the attach was killed.
    pub ifindex: Option<u32>,
    pub kind: Kind,
    /// Its mark; a link that is not marked yet has the device group of the mark.
    pub mark: Mark,
}

/// Returns the plan that makes the links of `record`: each is made, gets its addresses, is set up, and gets
/// its routes. With conflict detection, links are set up without addresses, and [`finish`] adds these, as it does what a DHCP
/// server gives.
pub(crate) fn attach(record: &Record) -> Vec<LinkPlan> {
    let link = |(mark, attached): (Mark, &Attached)| {
        let mut plan = LinkPlan { mark: Some(mark.clone()), ..LinkPlan::of(attached, &mark.to_string()) };
        if !record.is_probed() && !record.has_dhcp() {
            plan.configure.extend(routes(attached));
        }
        plan
    };
    record.marked().map(link).collect()
}

/// Returns the rest of the plan for `attached`, after conflict detection and DHCP, at `now` since the boot; its parent has the
/// MTU `most`. Routes depend on all addresses, so they come last.
pub(crate) fn finish(attached: &Attached, most: u32, now: Duration) -> Vec<Configure> {
    let fixed = addresses(attached).filter(|_| attached.is_probed());
    fixed.chain(leased(attached, most, now)).chain(routes(attached)).collect()
}

/// The addresses that DHCP servers have given, for as long as the leases have left, and the MTU.
fn leased(attached: &Attached, most: u32, now: Duration) -> impl Iterator<Item = Configure> {
    let link = &attached.ifname;
    let leases = attached.dhcp_leases().filter(move |lease| !lease.times().is_over(now));
    let addresses = leases.map(move |lease| Configure::AddAddress {
        link: link.clone(),
        address: lease.address(),
        lifetime: lease.lifetime(now),
    });
    // The kernel takes IPv6 from a link with a smaller one, with all addresses.
    let least = if attached.has_ipv6() { IPV6_MTU } else { 0 };
    let mtu = attached.dhcp.as_ref().and_then(|dhcp| dhcp.mtu(most)).filter(|&mtu| mtu >= least);
    mtu.map(|mtu| Configure::SetMtu { link: link.clone(), mtu }).into_iter().chain(addresses)
}

/// Returns the steps that give the link of `attached`, which is set up, its addresses and routes in place of the former ones. It gets
/// the MTU of its lease if that is below `most`.
pub(crate) fn readdress(attached: &Attached, most: u32, now: Duration) -> Vec<Configure> {
    addresses(attached).chain(leased(attached, most, now)).chain(routes(attached)).collect()
}

/// The addresses of `attached` that the ledger has given.
fn addresses(attached: &Attached) -> impl Iterator<Item = Configure> {
    let is_leased = |net: &IpNet| attached.dhcp_leases().any(|lease| lease.address() == *net);
    let fixed = attached.addresses.iter().filter(move |net| !is_leased(net));
    fixed.map(|&address| Configure::AddAddress { link: attached.ifname.clone(), address, lifetime: None })
}

/// The routes of `attached`, and then its rules, which depend on them.
fn routes(attached: &Attached) -> impl Iterator<Item = Configure> {
    let add = |&route: &Route, table| Configure::AddRoute { link: attached.ifname.clone(), route, table };
    let main = attached.routes.iter().map(move |route| add(route, None));
    let apart = attached.table.iter().flat_map(move |Table { id, routes }| {
        let rule = |address: &IpNet| Configure::AddRule { from: address.addr(), table: *id };
        let rules = attached.addresses.iter().map(rule);
        routes.iter().map(move |route| add(route, Some(*id))).chain(rules)
    });
    main.chain(apart)
}

/// Makes `link` take what is `advertised` from routers, or have no IPv6.
pub(crate) fn set_ipv6(link: &IfName, advertised: Option<&Advertised>) -> Configure {
    // Addresses of SLAAC would be missing without notice. A static address that needs IPv6 is refused later.
    let has_slaac = advertised.is_some_and(|advertised| advertised.slaac.is_some());
    sysctls(link, ipv6::sysctls(advertised, false), has_slaac)
}

/// As [`set_ipv6`], for a link with a DHCPv6 client: it can use its link-local address at once, while the kernel still asks
/// whether another host has it (RFC 4429).
pub(crate) fn set_dhcp6(link: &IfName, advertised: &Advertised) -> [Configure; 2] {
    let at_once = vec![("optimistic_dad", "1".to_owned())];
    [sysctls(link, ipv6::sysctls(Some(advertised), true), true), sysctls(link, at_once, false)]
}

fn sysctls(link: &IfName, settings: Vec<(&str, String)>, is_needed: bool) -> Configure {
    let path = |key: &str| format!("net/ipv6/conf/{link}/{key}");
    Configure::SetSysctls {
        settings: settings.into_iter().map(|(key, value)| (path(key), value)).collect(),
        needed: is_needed.then_some("the network's ipv6 needs a kernel that has it"),
    }
}

/// Makes the kernel announce the addresses of each family once, when the link is set up.
fn notify(attached: &Attached) -> impl Iterator<Item = Configure> {
    let families = [(true, "ipv4", "arp_notify"), (false, "ipv6", "ndisc_notify")].into_iter();
    let any = |is_v4| attached.addresses.iter().any(|net| net.addr().is_ipv4() == is_v4);
    families.filter(move |(is_v4, ..)| attached.announcements > 0 && any(*is_v4)).map(|(_, family, key)| {
        let path = format!("net/{family}/conf/{}/{key}", attached.ifname);
        Configure::SetSysctls { settings: vec![(path, "1".to_owned())], needed: None }
    })
}

/// Returns the plan of a link `name` as that of `attached` was, with the MAC address `mac` and without addresses.
pub(crate) fn link_like(attached: &Attached, name: &IfName, mac: MacAddr) -> LinkPlan {
    let mac = Some(mac).filter(|_| attached.driver.has_own_mac());
    let create = CreateLink { name: name.clone(), mac, ..CreateLink::of(attached, 0) };
    LinkPlan::nameless(create, None)
}

/// Returns the plan that deletes the links of `record`, last link first. What outlives a link is deleted
/// before it, because the link shows that the container was there.
pub(crate) fn detach(record: &Record) -> Vec<Removal> {
    let mut plan = Vec::new();
    for (mark, attached) in record.marked().rev() {
        plan.extend(attached.lasting().map(Removal::Persistent));
        let (name, ifindex, kind) = (attached.ifname.clone(), attached.ifindex, attached.driver.kind());
        plan.push(Removal::Link(OurLink { name, ifindex, kind, mark }));
    }
    plan
}

impl Attached {
    /// Returns its persistent rules and routes, in the order in which they are made.
    pub(crate) fn lasting(&self) -> impl Iterator<Item = Persistent> {
        let of_former = |table: &Table| {
            let table = table.id;
            self.former.iter().map(move |net| Persistent::Rule { from: net.addr(), table })
        };
        let former = self.table.iter().flat_map(of_former);
        former.chain(routes(self).filter_map(|step| match step {
            Configure::AddRule { from, table } => Some(Persistent::Rule { from, table }),
            Configure::AddRoute { route, table, .. } if !route.is_unicast() => {
                Some(Persistent::Route { route, table })
            }
            _ => None,
        }))
    }
}

impl LinkPlan {
    /// Returns the plan that makes the link of `attached`, marks it with `alias` and sets it up, without routes.
    pub(super) fn of(attached: &Attached, alias: &str) -> Self {
        let link = &attached.ifname;
        let at_once = !attached.is_probed();
        // Without a leased IPv6 address, IPv6 is on only if the network wants an address from a router or a server.
        let mut configure = match attached.dhcp6 {
            Some(_) => set_dhcp6(link, &attached.advertised).into(),
            None => vec![set_ipv6(link, attached.has_ipv6().then_some(&attached.advertised))],
        };
        configure.extend(notify(attached).filter(|_| at_once));
        configure.extend(attached.tuning.sysctls.iter().map(|(sysctl, value)| Configure::SetSysctls {
            settings: vec![(sysctl.path(link.as_str()), value.to_string())],
            needed: Some("not every kernel has every sysctl, nor takes every value"),
        }));
        configure.extend(addresses(attached).filter(|_| at_once));
        configure.push(Configure::SetUp { link: link.clone(), alias: alias.to_owned() });
        Self { create: CreateLink::of(attached, mark::group(alias)), configure, mark: None }
    }

    /// Returns the plan of a link of the agent's own, which no container gets; `advertised` is what it takes of IPv6, if it has it.
    pub(crate) fn nameless(create: CreateLink, advertised: Option<&Advertised>) -> Self {
        let ipv6 = set_ipv6(&create.name, advertised);
        let set_up = Configure::SetUp { link: create.name.clone(), alias: ALIAS.to_owned() };
        Self { create, configure: vec![ipv6, set_up], mark: None }
    }

    /// Returns the equivalent commands in the namespace of the link.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line> {
        std::iter::once(self.create.line()).chain(self.configure.iter().map(Configure::line))
    }
}

impl Removal {
    /// Returns the equivalent command of iproute2 in the container.
    pub(crate) fn line(&self) -> Line {
        match self {
            Self::Persistent(persistent) => {
                let line = match persistent {
                    Persistent::Rule { from, .. } => ip(*from).text("rule del"),
                    Persistent::Route { route, .. } => ip(route.to.addr()).text("route del"),
                };
                line.split(persistent).text("protocol").word(PROTOCOL)
            }
            Self::Link(link) => Line::of("ip link del").named("dev", &link.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{
        "version": 1, "container": "web", "state": "pending",
        "holder": {"pid": 7, "start_time": 8, "netns": {"device": 4, "inode": 5}},
        "attachments": [
            {"network": "lan", "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "eth0", "parent_index": 2,
             "segment": 2, "ifname": "eth0", "mac": "02:00:00:00:00:09", "mtu": 1400, "bclim": -1,
             "addresses": ["10.0.0.9/24", "2001:db8::9/64"],
             "routes": [{"to": "0.0.0.0/0", "via": "10.0.0.1"}, {"to": "::/0", "via": "2001:db8::1"}]},
            {"network": "san", "driver": {"kind": "ipvlan", "mode": "l3", "flag": "private"}, "parent": "eth1",
             "parent_index": 3, "segment": 3, "ifname": "eth1", "ifindex": 12, "txqueuelen": 500,
             "sysctls": {"ipv4.rp_filter": "2"},
             "addresses": ["10.1.0.0/31"],
             "routes": [{"to": "10.2.0.0/16", "metric": 7}, {"to": "10.9.0.0/16", "type": "blackhole"}],
             "table": {"id": 101, "routes": [{"to": "0.0.0.0/0", "via": "198.51.100.1", "onlink": true}]}}
        ]}"#;

    fn lines(plan: &[LinkPlan]) -> Vec<String> {
        plan.iter().flat_map(LinkPlan::lines).map(|line| line.to_string()).collect()
    }

    fn each<T>(steps: &[T], line: fn(&T) -> Line) -> Vec<String> {
        steps.iter().map(|step| line(step).to_string()).collect()
    }

    #[test]
    fn the_plan_of_a_record() {
        let record: Record = serde_json::from_str(RECORD).unwrap();
        assert_eq!(
            lines(&attach(&record)),
            [
                "ip link add link eth0 name eth0 address 02:00:00:00:00:09 mtu 1400 type macvlan mode bridge bclim -1",
                "sysctl -w net/ipv6/conf/eth0/disable_ipv6=0 net/ipv6/conf/eth0/accept_ra=0",
                "ip addr add 10.0.0.9/24 brd 10.0.0.255 dev eth0",
                "ip addr add 2001:db8::9/64 dev eth0 nodad",
                "ip link set eth0 alias underlay:web:0:7:8:lan up",
                "ip route add default via 10.0.0.1 dev eth0",
                "ip -6 route add default via 2001:db8::1 dev eth0",
                "ip link add link eth1 name eth1 txqueuelen 500 type ipvlan mode l3 private",
                "sysctl -w net/ipv6/conf/eth1/disable_ipv6=1",
                "sysctl -w net/ipv4/conf/eth1/rp_filter=2",
                "ip addr add 10.1.0.0/31 dev eth1",
                "ip link set eth1 alias underlay:web:1:7:8:san up",
                "ip route add 10.2.0.0/16 metric 7 dev eth1",
                "ip route add blackhole 10.9.0.0/16 protocol 117",
                "ip route add default via 198.51.100.1 onlink dev eth1 table 101",
                "ip rule add from 10.1.0.0 lookup 101 protocol 117",
            ]
        );
        let back = detach(&record);
        assert_eq!(
            each(&back, Removal::line),
            [
                "ip route del blackhole 10.9.0.0/16 protocol 117",
                "ip rule del from 10.1.0.0 lookup 101 protocol 117",
                "ip link del eth1",
                "ip link del eth0"
            ]
        );
        assert!(
            matches!(&back[2], Removal::Link(OurLink { ifindex: Some(12), kind: Kind::Ipvlan, mark, .. })
            if mark.to_string() == "underlay:web:1:7:8:san")
        );
    }

    #[test]
    fn what_dhcp_servers_give_comes_last() {
        let mut record: Record = serde_json::from_str(RECORD).unwrap();
        let [attached, _] = record.attachments_mut() else { panic!() };
        attached.addresses.clear();
        attached.routes.clear();
        attached.advertised = Advertised::default();
        let client = r#"{"duid": "000401", "iaid": 7, "lease": {"server": "000402", "client": "000401", "iaid": 7,
            "address": "2001:db8::5", "preferred": 30,
            "times": {"obtained": 0, "limits": {"t1": 10000, "t2": 20000, "expiry": 60000}}}}"#;
        attached.dhcp6 = Some(serde_json::from_str(client).unwrap());
        attached.addresses.push("2001:db8::5/128".parse().unwrap());
        let plan = attach(&record);
        assert_eq!(
            lines(&plan[..1])[1..],
            [
                "sysctl -w net/ipv6/conf/eth0/disable_ipv6=0 net/ipv6/conf/eth0/accept_ra=2 net/ipv6/conf/eth0/autoconf=0 \
                 net/ipv6/conf/eth0/accept_ra_defrtr=0",
                "sysctl -w net/ipv6/conf/eth0/optimistic_dad=1",
                "ip link set eth0 alias underlay:web:0:7:8:lan up",
            ]
        );
        let at = |seconds| {
            each(&finish(&record.attachments()[0], 1500, Duration::from_secs(seconds)), Configure::line)
        };
        let address =
            "ip addr add 2001:db8::5/128 dev eth0 nodad noprefixroute valid_lft 50 preferred_lft 20";
        assert_eq!((at(10), at(60)), (vec![address.to_owned()], vec![]));
    }

    #[test]
    fn the_plan_of_a_record_that_is_probed() {
        let mut record: Record = serde_json::from_str(RECORD).unwrap();
        record.attachments_mut()[0].announcements = 3;
        let notify =
            ["sysctl -w net/ipv4/conf/eth0/arp_notify=1", "sysctl -w net/ipv6/conf/eth0/ndisc_notify=1"];
        assert_eq!(lines(&attach(&record))[2..4], notify);
        record.attachments_mut()[0].detection = Some(crate::config::conflict_detection::Detection::For(5));
        let plan = lines(&attach(&record));
        assert_eq!(plan.len(), 8);
        assert_eq!(
            plan[1..3],
            [
                "sysctl -w net/ipv6/conf/eth0/disable_ipv6=0 net/ipv6/conf/eth0/accept_ra=0",
                "ip link set eth0 alias underlay:web:0:7:8:lan up",
            ]
        );
        assert_eq!(
            plan[6..],
            ["ip addr add 10.1.0.0/31 dev eth1", "ip link set eth1 alias underlay:web:1:7:8:san up",]
        );
        let finished: Vec<_> = record
            .attachments()
            .iter()
            .map(|attached| each(&finish(attached, 1500, Duration::ZERO), Configure::line))
            .collect();
        assert_eq!(
            finished[0],
            [
                "ip addr add 10.0.0.9/24 brd 10.0.0.255 dev eth0",
                "ip addr add 2001:db8::9/64 dev eth0 nodad",
                "ip route add default via 10.0.0.1 dev eth0",
                "ip -6 route add default via 2001:db8::1 dev eth0",
            ]
        );
        assert_eq!(
            finished[1],
            [
                "ip route add 10.2.0.0/16 metric 7 dev eth1",
                "ip route add blackhole 10.9.0.0/16 protocol 117",
                "ip route add default via 198.51.100.1 onlink dev eth1 table 101",
                "ip rule add from 10.1.0.0 lookup 101 protocol 117",
            ]
        );
    }

    #[test]
    fn records_round_trip() {
        let record: Record = serde_json::from_str(RECORD).unwrap();
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}

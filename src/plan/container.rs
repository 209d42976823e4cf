//! A plan: the kernel operations of an attach or detach, in order, as plain values.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::escape::shell::Line;
use crate::ledger::record::{Attached, Record};
use crate::net::driver::{Driver, Kind};
use crate::net::ipv6::{self, Advertised};
use crate::net::link_options::{LinkOptions, Sysctl, SysctlValue};
use crate::net::mac::MacAddr;
use crate::net::mark::{self, Mark};
use crate::net::name::IfName;
use crate::net::parent::ParentSpec;
use crate::net::route::{Route, Table, TableId};
use crate::net::seal::Alias;
use crate::plan::persistent::{PROTOCOL, Persistent};

/// One kernel operation. Links are named by their name in the container, so a plan can be made, compared and
/// shown before anything exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Makes a link in the container's namespace, down, with its final name.
    CreateLink {
        /// Its name.
        name: IfName,
        /// The parent's name, for people.
        parent: IfName,
        /// The parent's ifindex on the host.
        parent_index: u32,
        /// Its type and mode; the mode is always sent.
        driver: Driver,
        /// Its MAC address, if asked for.
        mac: Option<MacAddr>,
        /// Its MTU, if not the parent's.
        mtu: Option<u32>,
        /// Its limit for unqueued broadcasts, if not the kernel's.
        bclim: Option<i32>,
        /// What it is given besides; sysctls come later.
        tuning: LinkOptions,
        /// The device group by which it is known until it is marked.
        group: u32,
    },
    /// Makes a parent on the host, marks it as ours and sets it up.
    MakeParent {
        /// Its name.
        name: IfName,
        /// What it is.
        recipe: ParentSpec,
    },
    /// Deletes a parent that we have made.
    DeleteParent {
        /// Its name.
        name: IfName,
    },
    /// Switches IPv6 on or off for a link (`net.ipv6.conf.LINK.disable_ipv6`), before it is set up.
    SetIpv6 {
        /// The link.
        link: IfName,
        /// What it takes from routers; `None` switches it off.
        advertised: Option<Advertised>,
    },
    /// Sets a sysctl of a link.
    SetSysctl {
        /// The link.
        link: IfName,
        /// The sysctl.
        sysctl: Sysctl,
        /// Its value.
        value: SysctlValue,
    },
    /// Has the kernel announce the addresses of one family that a link has when it is set up, once
    /// (`net.ipv4.conf.LINK.arp_notify`, `net.ipv6.conf.LINK.ndisc_notify`).
    SetNotify {
        /// The link.
        link: IfName,
        /// Whether it is for IPv4.
        is_v4: bool,
    },
    /// Gives a link an address; IPv6 without duplicate address detection, so that it can be used at once.
    AddAddress {
        /// The link.
        link: IfName,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Marks a link as ours and sets it up.
    SetUp {
        /// The link.
        link: IfName,
        /// The mark; its seal comes when the link is there.
        alias: Alias,
    },
    /// Adds a route.
    AddRoute {
        /// The link it leaves by.
        link: IfName,
        /// The route.
        route: Route,
        /// Its table, if not the main one.
        table: Option<TableId>,
    },
    /// Adds a rule: what leaves from an address takes the routes of a table.
    AddRule {
        /// The address.
        from: IpAddr,
        /// The table.
        table: TableId,
    },
    /// Deletes a rule or route that does not go with a link, if its protocol is ours.
    DeleteLasting(Persistent),
    /// Deletes a link, if kind and mark are ours.
    DeleteLink {
        /// Its name when it was made, or to be made.
        name: IfName,
        /// Its number; unknown if the attach was cut short.
        ifindex: Option<u32>,
        /// Its type.
        kind: Kind,
        /// The mark it must carry, or the group of that mark.
        mark: Mark,
    },
}

/// The operations that make what `record` says: each link is made, addressed, set up, routed. Where addresses are
/// probed for, links that shall get them are made and set up without, and [`settle`] does the rest.
pub(crate) fn attach(record: &Record) -> Vec<Op> {
    let mut plan = Vec::new();
    for (mark, attached) in record.marked() {
        let link = &attached.ifname;
        plan.push(Op::CreateLink {
            name: link.clone(),
            parent: attached.parent.clone(),
            parent_index: attached.parent_index,
            driver: attached.driver,
            mac: attached.mac,
            mtu: attached.mtu,
            bclim: attached.bclim,
            tuning: attached.tuning.clone(),
            group: mark.group(),
        });
        // Without an IPv6 address of ours the container gets one from a router only if it is to.
        let advertised = attached.has_ipv6().then_some(attached.advertised);
        plan.push(Op::SetIpv6 { link: link.clone(), advertised });
        if attached.detection.is_none() {
            plan.extend(notify(attached));
        }
        let sysctl = |(sysctl, value): (&Sysctl, &SysctlValue)| {
            let (sysctl, value) = (sysctl.clone(), value.clone());
            Op::SetSysctl { link: link.clone(), sysctl, value }
        };
        plan.extend(attached.tuning.sysctls.iter().map(sysctl));
        if attached.detection.is_none() {
            plan.extend(addresses(attached));
        }
        plan.push(Op::SetUp { link: link.clone(), alias: Alias { mark, seal: None } });
        if !record.is_probed() {
            plan.extend(routes(attached));
        }
    }
    plan
}

/// What is left to do for `attached`, one of a record whose addresses have been probed for: routes depend on them all.
pub(crate) fn settle(attached: &Attached) -> Vec<Op> {
    let addresses = addresses(attached).filter(|_| attached.detection.is_some());
    addresses.chain(routes(attached)).collect()
}

fn addresses(attached: &Attached) -> impl Iterator<Item = Op> {
    let address = |&address: &IpNet| Op::AddAddress { link: attached.ifname.clone(), address };
    attached.addresses.iter().map(address)
}

/// The routes of `attached`, and its rules: those depend on routes.
fn routes(attached: &Attached) -> impl Iterator<Item = Op> {
    let add = |&route: &Route, table| Op::AddRoute { link: attached.ifname.clone(), route, table };
    let main = attached.routes.iter().map(move |route| add(route, None));
    let apart = attached.table.iter().flat_map(move |Table { id, routes }| {
        let rule = |address: &IpNet| Op::AddRule { from: address.addr(), table: *id };
        let rules = attached.addresses.iter().map(rule);
        routes.iter().map(move |route| add(route, Some(*id))).chain(rules)
    });
    main.chain(apart)
}

fn notify(attached: &Attached) -> impl Iterator<Item = Op> {
    let any = |is_v4| attached.addresses.iter().any(|net| net.addr().is_ipv4() == is_v4);
    let families = [true, false].into_iter().filter(move |&is_v4| attached.announcements > 0 && any(is_v4));
    families.map(|is_v4| Op::SetNotify { link: attached.ifname.clone(), is_v4 })
}

/// The operations that take away what `record` says: its links, the last one first, each after what would outlive it,
/// for by its link a container is known to have been there.
pub(crate) fn detach(record: &Record) -> Vec<Op> {
    let mut plan = Vec::new();
    let delete = |(mark, attached): (Mark, &Attached)| Op::DeleteLink {
        name: attached.ifname.clone(),
        ifindex: attached.ifindex,
        kind: attached.driver.kind(),
        mark,
    };
    for (mark, attached) in record.marked().rev() {
        plan.extend(attached.lasting().map(Op::DeleteLasting));
        plan.push(delete((mark, attached)));
    }
    plan
}

impl Op {
    /// The command of iproute2 (or sysctl) that does the same: inside the container, and for parents on the host.
    pub(crate) fn line(&self) -> Line {
        let up = |line: Line, link: &IfName, mark: &dyn fmt::Display| {
            line.named("dev", link).text("alias").word(mark).text("up")
        };
        match self {
            Self::CreateLink { name, parent, driver, mac, mtu, bclim, tuning, .. } => {
                let line = Line::of("ip link add link").word(parent).text("name").word(name);
                let line = line.option("address", *mac).option("mtu", *mtu);
                let line = line.option("txqueuelen", tuning.txqueuelen).text("type").split(driver);
                let line = line.option("bclim", *bclim).option("bcqueuelen", tuning.bcqueuelen);
                let line = if tuning.source_macs.is_empty() { line } else { line.text("macaddr set") };
                line.words(&tuning.source_macs)
            }
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
                make.and(&up(Line::of("ip link set"), name, &mark::PARENT))
            }
            Self::SetIpv6 { link, advertised } => {
                let all = ipv6::sysctls(advertised.as_ref()).into_iter();
                let settings = all.map(|(key, value)| format!("net/ipv6/conf/{link}/{key}={value}"));
                Line::of("sysctl -w").words(settings)
            }
            Self::SetSysctl { link, sysctl, value } => {
                Line::of("sysctl -w").word(format!("{}={value}", sysctl.path(link.as_str())))
            }
            Self::SetNotify { link, is_v4 } => {
                let (family, sysctl) = if *is_v4 { ("ipv4", "arp_notify") } else { ("ipv6", "ndisc_notify") };
                Line::of("sysctl -w").word(format!("net/{family}/conf/{link}/{sysctl}=1"))
            }
            Self::AddAddress { link, address } => {
                let broadcast = match address {
                    IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
                    _ => None,
                };
                let line = Line::of("ip addr add").word(address).option("brd", broadcast);
                let line = line.text("dev").word(link);
                if address.addr().is_ipv6() { line.text("nodad") } else { line }
            }
            Self::SetUp { link, alias } => up(Line::of("ip link set"), link, alias),
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
            Self::DeleteLasting(lasting) => {
                let line = match lasting {
                    Persistent::Rule { from, .. } => ip(*from).text("rule del"),
                    Persistent::Route { route, .. } => ip(route.to.addr()).text("route del"),
                };
                line.split(lasting).text("protocol").word(PROTOCOL)
            }
            Self::DeleteLink { name, .. } | Self::DeleteParent { name } => {
                Line::of("ip link del").named("dev", name)
            }
        }
    }
}

impl fmt::Display for Op {
    /// The command of [`Op::line`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line().fmt(f)
    }
}

/// `ip`, for the family of `address`; IPv4 needs no option.
fn ip(address: IpAddr) -> Line {
    if address.is_ipv4() { Line::of("ip") } else { Line::of("ip -6") }
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

    fn lines(plan: &[Op]) -> Vec<String> {
        plan.iter().map(Op::to_string).collect()
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
            lines(&back),
            [
                "ip route del blackhole 10.9.0.0/16 protocol 117",
                "ip rule del from 10.1.0.0 lookup 101 protocol 117",
                "ip link del eth1",
                "ip link del eth0"
            ]
        );
        assert!(matches!(&back[2], Op::DeleteLink { ifindex: Some(12), kind: Kind::Ipvlan, mark, .. }
            if mark.to_string() == "underlay:web:1:7:8:san"));
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
        let settled: Vec<_> = record.attachments().iter().map(|attached| lines(&settle(attached))).collect();
        assert_eq!(
            settled[0],
            [
                "ip addr add 10.0.0.9/24 brd 10.0.0.255 dev eth0",
                "ip addr add 2001:db8::9/64 dev eth0 nodad",
                "ip route add default via 10.0.0.1 dev eth0",
                "ip -6 route add default via 2001:db8::1 dev eth0",
            ]
        );
        assert_eq!(
            settled[1],
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

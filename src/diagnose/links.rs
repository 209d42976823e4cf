//! The links that networks hang on.

use super::edit_driver;
use crate::config::network::Network;
use crate::diagnose::finding::{Finding, Severity, Subject};
use crate::error::Error;
use crate::escape::shell::{self, Line};
use crate::ledger::host_link;
use crate::net::driver::{Driver, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::net::link::{HostLinkInfo, set_mtu};
use crate::net::name::ChosenName;

/// A network with the file that defines it, and why its parent is no parent, if it is none.
#[derive(Clone, Debug)]
pub(crate) struct Defined {
    /// The network.
    pub network: Network,
    /// The path of its file.
    pub file: String,
    /// What the hook would say.
    pub problem: Option<Error>,
}

const ERROR: (Subject, Severity) = (Subject::Parents, Severity::Error);

/// What is wrong with the parent of `defined`, among `links`; `uplink` has the host's default route.
pub(crate) fn parent(defined: &Defined, links: &[HostLinkInfo], uplink: Option<u32>) -> Vec<Finding> {
    let Defined { network, file, problem } = defined;
    let (name, parent) = (&network.name, &network.parent);
    let finding = |id, what, why: &str| Finding::new((ERROR.0, ERROR.1, id), what, why);
    let found = links.iter().find(|link| link.link.name == parent.as_str());
    let Some(found) = found else {
        // A VLAN or dummy is made when it is needed.
        let Some(problem) = problem else { return Vec::new() };
        let missing = finding("parent-missing", problem.to_string(), "no container of the network starts");
        return vec![mended_by_other_parent(missing, defined, links, uplink)];
    };
    let mtu = network.file.mtu.filter(|&mtu| mtu > found.link.mtu);
    let master = found.master.and_then(|master| links.iter().find(|link| link.link.ifindex == master));
    let mut findings = Vec::new();
    if let (Some(master), Some(kind @ ("bridge" | "bond" | "team" | "openvswitch"))) =
        (master, found.link.slave_kind.as_deref())
    {
        let master = &master.link.name;
        let what = format!("parent {parent} of network {name} is a port of the {kind} {master}");
        let why = format!("the kernel makes no links on a port: use the {kind} itself");
        findings.push(finding("parent-is-port", what, &why).mended_by(edit_parent(defined, master)));
    } else if let Some(mtu) = mtu {
        let what = format!("mtu {mtu} of network {name} is above the {} of parent {parent}", found.link.mtu);
        let raise = set_mtu(parent.as_str(), mtu).to_string();
        let why = "no container of the network starts, and those that run have the parent's smaller MTU";
        findings.push(finding("parent-mtu", what, why).mended_by(raise));
    } else if found.wireless && network.driver.kind() == Kind::Macvlan {
        let what = format!("parent {parent} of network {name} is a wireless link");
        let why = "a wireless network takes frames of one MAC address only, and containers of macvlan networks have others";
        findings.push(finding("parent-wireless", what, why).mended_by(edit_driver(file, IPVLAN)));
    } else if let Some(problem) = problem {
        let why = problem.hint_text().unwrap_or("no container of the network starts").to_owned();
        let unfit = finding("parent-unfit", problem.to_string(), &why);
        findings.push(mended_by_other_parent(unfit, defined, links, uplink));
    }
    findings.extend(way_out(found, links));
    findings
}

const IPVLAN: Driver = Driver::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge };
const MACVLAN: Driver = Driver::Macvlan { mode: MacvlanMode::Bridge };

/// Whether nothing gets out by `link`: it is down, or one below it, or the lowest has no carrier.
fn way_out(link: &HostLinkInfo, links: &[HostLinkInfo]) -> Option<Finding> {
    let mut link = link;
    // The kernel stacks no more than eight links (MAX_NEST_DEV).
    for _ in 0..8 {
        let name = &link.link.name;
        if !link.link.up {
            let why = "nothing gets in or out by a link that is down, nor by what is made on it";
            let down =
                Finding::new((ERROR.0, ERROR.1, "parent-down"), format!("parent link {name} is down"), why);
            return Some(down.mended_by(Line::of("ip link set").named("dev", name).text("up").to_string()));
        }
        let Some(below) = link.link.lower.filter(|&lower| lower != link.link.ifindex) else { break };
        let Some(below) = links.iter().find(|link| link.link.ifindex == below) else { break };
        link = below;
    }
    (!link.carrier).then(|| {
        Finding::new(
            (Subject::Parents, Severity::Warning, "parent-no-carrier"),
            format!("parent link {} is up and has no carrier", link.link.name),
            "nothing is plugged in, or the other end is down: see to the cable and the switch port, or to the other end of \
             a virtual link",
        )
    })
}

/// Pairs of networks, and links of others, that cannot be on one parent together.
pub(crate) fn together(all: &[Defined], links: &[HostLinkInfo]) -> Vec<Finding> {
    let segment = |network: &Network| {
        let found = links.iter().find(|link| link.link.name == network.parent.as_str())?;
        Some(found.link.segment())
    };
    let mut findings = Vec::new();
    for (at, Defined { network, file, .. }) in all.iter().enumerate() {
        let Some(here) = segment(network).filter(|_| !network.is_of_many_vlans()) else { continue };
        let (name, driver, parent) = (&network.name, network.driver, &network.parent);
        let others = all.get(..at).unwrap_or_default();
        let on_same = |other: &&Defined| segment(&other.network) == Some(here);
        let differs = others.iter().filter(on_same).find(|other| {
            let both_ipvlan = [driver.kind(), other.network.driver.kind()] == [Kind::Ipvlan; 2];
            driver.kind() != other.network.driver.kind() || (both_ipvlan && driver != other.network.driver)
        });
        if let Some(other) = differs {
            let (other, its) = (&other.network.name, other.network.driver);
            let what = format!("network {name} on parent {parent} is {driver}, and {other} is {its}");
            let why = "a parent has either macvlan or ipvlan links, and ipvlan links of one mode and flag: containers of the \
                       two networks cannot run at the same time";
            let pair = Finding::new((Subject::Parents, Severity::Warning, "mixed-drivers"), what, why);
            findings.push(pair.mended_by(edit_driver(file, its)));
        }
        let is_foreign = |link: &&HostLinkInfo| {
            let kind = link.link.kind.as_deref().map(|kind| kind.replace("vtap", "vlan"));
            let other = matches!(kind.as_deref(), Some("macvlan" | "ipvlan"))
                && kind != Some(driver.kind().to_string());
            other
                && link.link.lower == Some(here)
                && link.link.alias.as_deref().and_then(host_link::network_of).is_none()
        };
        if let Some(foreign) = links.iter().find(is_foreign) {
            let what = format!(
                "network {name} on parent {parent} is {driver}, and the host's link {} there is {}",
                foreign.link.name,
                foreign.link.describe()
            );
            let why = "a parent has either macvlan or ipvlan links: no container of the network starts while that link is \
                       there";
            let other = if driver.kind() == Kind::Macvlan { IPVLAN } else { MACVLAN };
            findings.push(
                Finding::new((ERROR.0, ERROR.1, "foreign-link"), what, why)
                    .mended_by(edit_driver(file, other)),
            );
        }
    }
    findings
}

/// `finding` with the command that puts the network on a link of the host that would do, if there is one: the host's way
/// out before others.
fn mended_by_other_parent(
    finding: Finding,
    defined: &Defined,
    links: &[HostLinkInfo],
    uplink: Option<u32>,
) -> Finding {
    let network = &defined.network;
    let would_do = |found: &&HostLinkInfo| {
        let of_ours = matches!(found.link.kind.as_deref(), Some("dummy" | "macvlan" | "ipvlan" | "tun"));
        let wireless = found.wireless && network.driver.kind() == Kind::Macvlan;
        // What stands in a command of sed(1), and in JSON, as it is.
        let plain = found.link.name.parse::<ChosenName>().is_ok();
        plain
            && found.link.up
            && found.carrier
            && !of_ours
            && !wireless
            && network.check_parent(&found.link).is_ok()
    };
    let is_uplink = |found: &&HostLinkInfo| Some(found.link.ifindex) == uplink && would_do(found);
    match links.iter().find(is_uplink).or_else(|| links.iter().find(would_do)) {
        Some(found) => finding.mended_by(edit_parent(defined, &found.link.name)),
        None => finding,
    }
}

/// The command that gives a network the parent `name`.
fn edit_parent(defined: &Defined, name: &str) -> String {
    let script = format!(r#"s/"parent"\s*:\s*"[^"]*"/"parent": "{name}"/"#);
    format!("sed -Ei {} {}", shell::word(&script), shell::word(&defined.file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link::{Link, eth0};

    fn host_link(link: Link) -> HostLinkInfo {
        HostLinkInfo { link, carrier: true, master: None, wireless: false }
    }

    fn defined(name: &str, more: &str) -> Defined {
        let text = format!(r#"{{"version": 1, "parent": "eth0", {more}}}"#);
        let network = Network::from_json(&name.parse().unwrap(), text.as_bytes()).unwrap();
        Defined { network, file: format!("/etc/{name}.json"), problem: None }
    }

    fn ids(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn of_one_network() {
        let macvlan = defined("lan", r#""driver": "macvlan", "mtu": 1500"#);
        let ids = |links: &[HostLinkInfo]| ids(&parent(&macvlan, links, None)).join(" ");
        let br0 = host_link(Link { ifindex: 3, name: "br0".to_owned(), ..eth0() });
        let port = Link { slave_kind: Some("bridge".to_owned()), ..eth0() };
        assert_eq!(ids(&[host_link(eth0())]), "");
        assert_eq!(ids(&[HostLinkInfo { master: Some(3), ..host_link(port) }, br0]), "parent-is-port");
        assert_eq!(ids(&[host_link(Link { up: false, ..eth0() })]), "parent-down");
        assert_eq!(ids(&[HostLinkInfo { carrier: false, ..host_link(eth0()) }]), "parent-no-carrier");
        assert_eq!(ids(&[HostLinkInfo { wireless: true, ..host_link(eth0()) }]), "parent-wireless");
        assert_eq!(ids(&[host_link(Link { mtu: 1400, up: false, ..eth0() })]), "parent-mtu parent-down");
        // Without a problem it is one that is made.
        assert_eq!(ids(&[]), "");
    }

    #[test]
    fn another_parent() {
        let lost = Defined {
            problem: Some(Error::input("parent eth0 does not exist on this host")),
            ..defined("lan", r#""driver": "macvlan""#)
        };
        let named = |ifindex, name: &str| host_link(Link { ifindex, name: name.to_owned(), ..eth0() });
        let command = |links: &[HostLinkInfo]| parent(&lost, links, Some(7)).pop().unwrap().command;
        assert_eq!(command(&[]), None);
        assert_eq!(command(&[HostLinkInfo { carrier: false, ..named(3, "lan9") }]), None);
        let edit = |name| format!(r#"sed -Ei 's/"parent"\s*:\s*"[^"]*"/"parent": "{name}"/' /etc/lan.json"#);
        assert_eq!(command(&[named(3, "lan9")]), Some(edit("lan9")));
        assert_eq!(command(&[named(3, "lan9"), named(7, "wan")]), Some(edit("wan")));
    }

    #[test]
    fn below_a_vlan() {
        let vlan = Link { ifindex: 9, name: "eth0.5".to_owned(), lower: Some(2), ..eth0() };
        let out = |vlan: &Link, base| {
            let links = [host_link(vlan.clone()), base];
            way_out(&links[0], &links).map(|finding| finding.what)
        };
        assert_eq!(out(&vlan, host_link(eth0())), None);
        let down = host_link(Link { up: false, ..eth0() });
        assert_eq!(out(&vlan, down.clone()).unwrap(), "parent link eth0 is down");
        assert_eq!(out(&Link { up: false, ..vlan.clone() }, down).unwrap(), "parent link eth0.5 is down");
        let unplugged = HostLinkInfo { carrier: false, ..host_link(eth0()) };
        assert_eq!(out(&vlan, unplugged).unwrap(), "parent link eth0 is up and has no carrier");
    }

    #[test]
    fn of_networks_together() {
        let macvlan = defined("a", r#""driver": "macvlan""#);
        let ipvlan = defined("b", r#""driver": "ipvlan""#);
        let l3 = defined("c", r#""driver": "ipvlan", "ipvlan_mode": "l3""#);
        let hosts = [host_link(eth0())];
        let all = |all: &[&Defined], links: &[HostLinkInfo]| {
            let all: Vec<_> = all.iter().map(|&one| one.clone()).collect();
            ids(&together(&all, links)).join(" ")
        };
        assert_eq!(all(&[&macvlan, &macvlan], &hosts), "");
        assert_eq!(all(&[&macvlan, &ipvlan], &hosts), "mixed-drivers");
        assert_eq!(all(&[&ipvlan, &l3], &hosts), "mixed-drivers");
        assert_eq!(all(&[&macvlan, &ipvlan], &[]), "");
        let mv0 = Link { kind: Some("macvlan".to_owned()), lower: Some(2), ifindex: 5, ..eth0() };
        let mv0 = host_link(Link { name: "mv0".to_owned(), ..mv0 });
        assert_eq!(all(&[&macvlan], &[host_link(eth0()), mv0.clone()]), "");
        assert_eq!(all(&[&ipvlan], &[host_link(eth0()), mv0]), "foreign-link");
    }
}

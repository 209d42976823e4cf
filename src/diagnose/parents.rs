//! The links that are parents of networks.

use crate::config::network::Network;
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::networks::Defined;
use crate::error::Error;
use crate::escape::shell::Line;
use crate::ledger::host_link;
use crate::net::driver::{Driver, Kind};
use crate::net::link::HostLinkInfo;

/// What is wrong with the parents of `networks`, among the `links` of the host.
pub(crate) fn parents(networks: &[Defined], links: &[HostLinkInfo]) -> Vec<Finding> {
    let parents = networks.iter().flat_map(|one| parent(one, links));
    parents.chain(together(networks, links)).collect()
}

/// What is wrong with the parent of `defined`, among `links`.
fn parent(defined: &Defined, links: &[HostLinkInfo]) -> Vec<Finding> {
    let found = links.iter().find(|link| link.link.name == defined.network.parent.as_str());
    let unfit = |problem: &Error| {
        let id = if found.is_some() { "parent-unfit" } else { "parent-missing" };
        let hint = problem.hint_text().unwrap_or("set another parent");
        let fix = format!("in {}: {hint}", defined.file);
        let why = "no container of the network starts";
        Finding::new((Area::Parents, Severity::Error, id), problem.to_string(), why, fix)
    };
    let unfit = defined.problem.as_ref().map(unfit);
    unfit.into_iter().chain(found.and_then(|link| way_out(link, links))).collect()
}

/// Returns what keeps frames from leaving by `link`: it is down, or a link below it is, or the lowest has no carrier.
fn way_out(link: &HostLinkInfo, links: &[HostLinkInfo]) -> Option<Finding> {
    let mut link = link;
    // The kernel stacks no more than eight links (MAX_NEST_DEV).
    for _ in 0..8 {
        let name = &link.link.name;
        if !link.link.up {
            return Some(Finding::new(
                (Area::Parents, Severity::Error, "parent-down"),
                format!("parent link {name} is down"),
                "no frame goes in or out by a link that is down, nor by what is made on it",
                Line::of("ip link set").named("dev", name).text("up"),
            ));
        }
        let Some(below) = link.link.lower.filter(|&lower| lower != link.link.ifindex) else { break };
        let Some(below) = links.iter().find(|link| link.link.ifindex == below) else { break };
        link = below;
    }
    let unplugged = || {
        Finding::new(
            (Area::Parents, Severity::Warning, "parent-no-carrier"),
            format!("parent link {} is up and has no carrier", link.link.name),
            "nothing is plugged in, or the other end is down",
            "check the cable and the switch port, or the other end of a virtual link",
        )
    };
    (!link.carrier).then(unplugged)
}

/// Pairs of networks, and networks and links of other programs, that cannot use one parent together.
fn together(all: &[Defined], links: &[HostLinkInfo]) -> Vec<Finding> {
    let segment = |network: &Network| {
        let found = links.iter().find(|link| link.link.name == network.parent.as_str())?;
        Some(found.link.segment())
    };
    let mut findings = Vec::new();
    for (at, Defined { network, file, .. }) in all.iter().enumerate() {
        let Some(here) = segment(network).filter(|_| !network.is_of_many_vlans()) else { continue };
        let (name, driver, parent) = (&network.name, network.driver, &network.parent);
        let this = format!("network {name} on parent {parent} is {driver}");
        let clashes = |other: Driver| {
            driver.kind() != other.kind() || (driver.kind() == Kind::Ipvlan && driver != other)
        };
        let on_same =
            |other: &&Defined| segment(&other.network) == Some(here) && clashes(other.network.driver);
        if let Some(other) = all.get(..at).unwrap_or_default().iter().find(on_same) {
            findings.push(Finding::new(
                (Area::Parents, Severity::Warning, "mixed-drivers"),
                format!("{this}, and {} is {}", other.network.name, other.network.driver),
                "a parent has either macvlan or ipvlan links, and ipvlan links of one mode and flag: containers of the \
                 two networks cannot run at the same time",
                format!("set the same driver, mode and flag in {file} and {}, or another parent", other.file),
            ));
        }
        let is_foreign = |link: &&HostLinkInfo| {
            let link = &link.link;
            let kind = link.kind.as_deref().map(|kind| kind.replace("vtap", "vlan"));
            let is_other = kind.is_some_and(|kind| {
                matches!(&*kind, "macvlan" | "ipvlan") && kind != driver.kind().to_string()
            });
            let is_ours = link.alias.as_deref().and_then(host_link::network_of).is_some();
            is_other && link.lower == Some(here) && !is_ours
        };
        if let Some(HostLinkInfo { link: foreign, .. }) = links.iter().find(is_foreign) {
            findings.push(Finding::new(
                (Area::Parents, Severity::Error, "foreign-link"),
                format!("{this}, and the host's link {} there is {}", foreign.name, foreign.describe()),
                "a parent has either macvlan or ipvlan links: no container of the network starts while that link is \
                 there",
                format!("delete that link, or set another driver or parent in {file}"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::link::{Link, eth0};

    fn host_link(link: Link) -> HostLinkInfo {
        HostLinkInfo { link, carrier: true }
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
        let lan = defined("lan", r#""driver": "macvlan""#);
        let found = |links: &[HostLinkInfo]| ids(&parent(&lan, links)).join(" ");
        assert_eq!(found(&[host_link(eth0())]), "");
        assert_eq!(found(&[host_link(Link { up: false, ..eth0() })]), "parent-down");
        assert_eq!(found(&[HostLinkInfo { carrier: false, ..host_link(eth0()) }]), "parent-no-carrier");
        // Without a problem it is one that is made.
        assert_eq!(found(&[]), "");
        let problem = Some(Error::input("parent eth0 is a loopback link").hint("use a link to a LAN"));
        let unfit = Defined { problem, ..lan };
        assert_eq!(ids(&parent(&unfit, &[])), ["parent-missing"]);
        let found = parent(&unfit, &[host_link(Link { up: false, ..eth0() })]);
        assert_eq!(ids(&found), ["parent-unfit", "parent-down"]);
        assert_eq!(found[0].fix, "in /etc/lan.json: use a link to a LAN".into());
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

//! The links that are parents of networks.

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::networks::Defined;
use crate::error::Error;
use crate::escape::shell::Line;
use crate::ledger::Store;
use crate::ledger::quarantine::{Quarantined, by_host, in_words};
use crate::net::link::Link;

/// What is wrong with the parents of `networks`, among the `links` of the host.
pub(crate) fn parents(store: &Store, networks: &[Defined], links: &[Link]) -> Vec<Finding> {
    networks.iter().flat_map(|one| parent(one, links)).chain(quarantine(store, links)).collect()
}

/// What is wrong with the parent of `defined`, among `links`.
fn parent(defined: &Defined, links: &[Link]) -> Vec<Finding> {
    let found = links.iter().find(|link| link.name == defined.network.parent.as_str());
    let unfit = |problem: &Error| {
        let id = if found.is_some() { "parent-unfit" } else { "parent-missing" };
        let hint = problem.hint_text().unwrap_or("set another parent");
        let fix = format!("change {}: {hint}", defined.file);
        let why = "no container of the network starts";
        Finding::new((Area::Parents, Severity::Error, id), problem.to_string(), why, fix)
    };
    let unfit = defined.problem.as_ref().map(unfit);
    unfit.into_iter().chain(found.and_then(|link| way_out(link, links))).collect()
}

/// Returns what keeps frames from leaving by `link`: it is down, or a link below it is, or the lowest has no carrier.
fn way_out(link: &Link, links: &[Link]) -> Option<Finding> {
    let mut link = link;
    // The kernel stacks no more than eight links (MAX_NEST_DEV).
    for _ in 0..8 {
        let name = &link.name;
        if !link.up {
            return Some(Finding::new(
                (Area::Parents, Severity::Error, "parent-down"),
                format!("parent link {name} is down"),
                "no frame goes in or out by a link that is down, nor by what is made on it",
                Line::of("ip link set").named("dev", name).text("up"),
            ));
        }
        let Some(below) = link.lower.filter(|&lower| lower != link.ifindex) else { break };
        let Some(below) = links.iter().find(|link| link.ifindex == below) else { break };
        link = below;
    }
    if link.carrier {
        return None;
    }
    Some(Finding::new(
        (Area::Parents, Severity::Warning, "parent-no-carrier"),
        format!("parent link {} is up and has no carrier", link.name),
        "nothing is plugged in, or the other end is down",
        "check the cable and the switch port, or the other end of a virtual link",
    ))
}

/// So many addresses of one host are no accident.
const MANY: usize = 8;

/// Addresses that containers do not get because other hosts answered for them. A ledger that cannot be read is a finding of
/// its own.
fn quarantine(store: &Store, links: &[Link]) -> Vec<Finding> {
    let of_segment = |segment| {
        let parent = links.iter().find(|link| link.ifindex == segment)?;
        let entries: Vec<_> = store.quarantined(segment).into_iter().map(|(_, entry)| entry).collect();
        in_quarantine(&parent.name, &entries)
    };
    store.segments().unwrap_or_default().into_iter().filter_map(of_segment).collect()
}

fn in_quarantine(parent: &str, all: &[Quarantined]) -> Option<Finding> {
    let hosts = by_host(all);
    let (severity, why) = match *hosts.values().max()? {
        ..MANY => (
            Severity::Note,
            "containers get other addresses, and these again when no host answers for them any more",
        ),
        MANY.. => (
            Severity::Warning,
            "a host that answers for addresses it does not have, as a router with proxy ARP does, keeps containers from \
             them: find it by its MAC address, then set them free",
        ),
    };
    Some(Finding::new(
        (Area::Parents, severity, "quarantine"),
        format!("addresses in quarantine on {parent}, because other hosts answered: {}", in_words(&hosts)),
        why,
        Line::of("underlay gc --quarantine"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::network::Network;
    use crate::net::link::eth0;
    use crate::net::mac::MacAddr;

    fn host_link(link: Link) -> Link {
        Link { carrier: true, ..link }
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
        let found = |links: &[Link]| ids(&parent(&lan, links)).join(" ");
        assert_eq!(found(&[host_link(eth0())]), "");
        assert_eq!(found(&[host_link(Link { up: false, ..eth0() })]), "parent-down");
        assert_eq!(found(&[Link { carrier: false, ..host_link(eth0()) }]), "parent-no-carrier");
        // Without a problem it is one that is made.
        assert_eq!(found(&[]), "");
        let problem = Some(Error::input("parent eth0 is a loopback link").hint("use a link to a LAN"));
        let unfit = Defined { problem, ..lan };
        assert_eq!(ids(&parent(&unfit, &[])), ["parent-missing"]);
        let found = parent(&unfit, &[host_link(Link { up: false, ..eth0() })]);
        assert_eq!(ids(&found), ["parent-unfit", "parent-down"]);
        assert_eq!(found[0].fix, "change /etc/lan.json: use a link to a LAN".into());
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
        let unplugged = Link { carrier: false, ..host_link(eth0()) };
        assert_eq!(out(&vlan, unplugged).unwrap(), "parent link eth0 is up and has no carrier");
    }

    #[test]
    fn some_and_many() {
        let entry = Quarantined { mac: MacAddr([2, 0, 0, 0, 0, 1]), until: 1 };
        assert_eq!(in_quarantine("eth0", &[]), None);
        let one = in_quarantine("eth0", &[entry]).unwrap();
        assert_eq!(
            one.what,
            "addresses in quarantine on eth0, because other hosts answered: 1 by 02:00:00:00:00:01"
        );
        assert_eq!(one.severity, Severity::Note);
        assert_eq!(in_quarantine("eth0", &[entry; MANY]).unwrap().severity, Severity::Warning);
    }
}

//! What runs: addresses that somebody else has too, and sysctls that drop packets.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::diagnose::difference::{Difference, What};
use crate::diagnose::finding::{Area, Finding, Severity};
use crate::escape::shell::Line;
use crate::ledger::host_link;
use crate::ledger::record::{Attached, Record};
use crate::net::link::HostLinkInfo;
use crate::net::mac::MacAddr;

/// What of a container is the host's as well; `addresses` are the host's, by the number of their link.
pub(crate) fn duplicates(
    record: &Record,
    links: &[HostLinkInfo],
    addresses: &[(u32, IpNet)],
) -> Vec<Finding> {
    let error = |id, what, why: &str, fix: Line| {
        Finding::new((Area::Containers, Severity::Error, id), what, why, fix)
    };
    let of_network =
        |link: &HostLinkInfo| link.link.alias.as_deref().and_then(host_link::network_of).is_some();
    let mut findings = Vec::new();
    for attached in &record.attachments {
        let mine = |ip: IpAddr| attached.addresses.iter().any(|net| net.addr() == ip);
        for (ifindex, net) in addresses.iter().filter(|(_, net)| mine(net.addr())) {
            let Some(link) = links.iter().find(|link| link.link.ifindex == *ifindex) else { continue };
            let (ip, name) = (net.addr(), &link.link.name);
            let what = format!("address {ip} of container {} is the host's too, on {name}", record.container);
            let why = "neighbours send to the one or the other, now and then";
            let fix = Line::of("ip addr del").word(net).text("dev").word(name);
            findings.push(error("duplicate-address", what, why, fix));
        }
        let same = |link: &&HostLinkInfo| {
            attached.own_mac().is_some_and(|mac| link.link.mac == Some(mac)) && !of_network(link)
        };
        if let Some((link, mac)) = links.iter().find(same).zip(attached.own_mac()) {
            let name = &link.link.name;
            let what = format!(
                "MAC address {mac} of container {} is that of the host's {name}, too",
                record.container
            );
            let why = "on one LAN, switches send its frames to the one or the other";
            let fix = Line::of("ip link set").named("dev", name).text("address").word(another(mac));
            findings.push(error("duplicate-mac", what, why, fix));
        }
    }
    findings
}

/// A locally administered MAC address (IEEE 802, 8.4) beside `mac`.
fn another(mac: MacAddr) -> MacAddr {
    let [first, b, c, d, e, last] = mac.bytes();
    MacAddr::from_bytes([(first | 2) & 0xfe, b, c, d, e, last ^ 0x80])
}

/// What the kernel does with packets of a link: the greater of what `all` and the link say (ip-sysctl).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// `arp_ignore`
    pub arp_ignore: u8,
    /// `rp_filter`
    pub rp_filter: u8,
}

/// What drops packets inside the container of `record`, whose attachments have `filters`, in the same order.
pub(crate) fn filters(record: &Record, filters: &[Filters]) -> Vec<Finding> {
    let has_v4 =
        |(attached, _): &(&Attached, &Filters)| attached.addresses.iter().any(|net| net.addr().is_ipv4());
    let links: Vec<_> = record.attachments.iter().zip(filters).filter(has_v4).collect();
    let warning =
        |id, what, why, fix: Line| Finding::new((Area::Containers, Severity::Warning, id), what, why, fix);
    let netns = format!("--net=/proc/{}/ns/net", record.holder.pid);
    let inside = Line::of("nsenter").word(netns).text("sysctl -w");
    let is_way_out = |attached: &Attached| {
        attached.routes.iter().any(|route| route.is_default() && route.to.addr().is_ipv4())
    };
    let mut findings = Vec::new();
    for (attached, filters) in &links {
        let elsewhere = links.iter().any(|(other, _)| other.ifname != attached.ifname && is_way_out(other));
        if filters.rp_filter == 1 && elsewhere && !is_way_out(attached) && attached.table.is_none() {
            let what = format!(
                "link {} of container {} drops what comes from beyond its subnet (rp_filter 1)",
                attached.ifname, record.container
            );
            let why = format!(
                "answers would leave by another link, which strict filtering (RFC 3704) takes for forgery; for good, \
                 network {} wants a table, or sysctl ipv4.rp_filter=2",
                attached.network
            );
            let link = attached.ifname.as_str().replace('.', "/");
            let setting = format!("net.ipv4.conf.{link}.rp_filter=2");
            findings.push(warning("rp-filter", what, why, inside.clone().word(setting)));
        }
    }
    for (at, (attached, _)) in links.iter().enumerate() {
        let on_same = |(other, filters): &&(&Attached, &Filters)| {
            other.segment == attached.segment && filters.arp_ignore == 0
        };
        if let Some((other, _)) = links.get(..at).unwrap_or_default().iter().find(on_same) {
            let what = format!(
                "links {} and {} of container {} are on one LAN, and each answers ARP for the other (arp_ignore 0)",
                other.ifname, attached.ifname, record.container
            );
            let why = "neighbours learn the one MAC address or the other for either address, and modes and filters of \
                       the links do not hold"
                .to_owned();
            let settings = "net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2";
            findings.push(warning("arp-flux", what, why, inside.clone().text(settings)));
        }
    }
    findings
}

/// What hides the host's other addresses from containers that reach it by its own link `name`.
pub(crate) fn host_filters(name: &str, filters: Filters) -> Option<Finding> {
    let finding = || {
        let what = format!(
            "the host's link {name} answers ARP for its own addresses alone (arp_ignore {})",
            filters.arp_ignore
        );
        let why = "containers reach the host at the address of that link, and at none of its others";
        let setting = format!("net.ipv4.conf.{}.arp_ignore=0", name.replace('.', "/"));
        let fix = Line::of("sysctl -w net.ipv4.conf.all.arp_ignore=0").word(setting);
        Finding::new((Area::Containers, Severity::Note, "host-arp-ignore"), what, why, fix)
    };
    (filters.arp_ignore > 0).then(finding)
}

/// What `check` has found and `gc` does not mend: of a container, a parent, or a file of the ledger that cannot be read.
pub(crate) fn difference(difference: &Difference) -> Option<Finding> {
    let hint = difference.hint.as_deref().unwrap_or_default();
    // What a network lacks on its parent is the parent's finding.
    let of_network = difference.container.is_none() && difference.network.is_some();
    if of_network || hint.contains("`underlay gc`") {
        return None;
    }
    if let (What::File, Some(error)) = (difference.what, &difference.found) {
        return Some(unread(error, difference.hint.as_deref()));
    }
    let what = [
        difference.container.as_ref().map(|id| format!("container {id}")),
        difference.network.as_ref().map(|network| format!("network {network}")),
        difference.interface.as_ref().map(|interface| format!("link {interface}")),
    ];
    let what: Vec<_> = what.into_iter().flatten().collect();
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
    let (expected, found) = (or_none(&difference.expected), or_none(&difference.found));
    let what = format!("{}: {} is {found}, and should be {expected}", what.join(", "), difference.what);
    let why = "somebody has changed it since underlay made it";
    Some(Finding::new((Area::Containers, Severity::Warning, "differs"), what, why, hint))
}

/// A part of the ledger cannot be read, for `error`.
pub(crate) fn unread(error: &str, hint: Option<&str>) -> Finding {
    let why = "what containers hold is not known";
    let fix = hint.unwrap_or("see `journalctl --dmesg` for errors of the disk");
    Finding::new((Area::State, Severity::Error, "ledger"), error, why, fix)
}

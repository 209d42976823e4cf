//! The containers that run: addresses that the host has too, and sysctls that drop packets.

use std::path::Path;

use ipnet::IpNet;

use crate::diagnose::finding::{Area, Finding, Severity};
use crate::diagnose::networks::Defined;
use crate::error::Result;
use crate::escape::shell::Line;
use crate::kernel::{self, NetnsFile};
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::holder::Holder;
use crate::ledger::host_link;
use crate::ledger::record::Record;
use crate::net::link::Link;
use crate::net::mac::MacAddr;
use crate::netlink::Socket;

/// What keeps packets from containers that run, or from the host's own links of `networks`. `links` are the host's.
///
/// # Errors
/// When the kernel does not tell the host's addresses.
pub(crate) fn containers(
    store: &Store,
    networks: &[Defined],
    links: &[Link],
    host: &mut Socket,
) -> Result<Vec<Finding>> {
    let addresses = host.addresses_by_link()?;
    let mut findings = Vec::new();
    // A ledger that cannot be read is a finding of its own.
    let records = store.records().map(|records| records.sound).unwrap_or_default();
    for record in records.iter().filter(|record| kernel::is_alive(&record.holder)) {
        findings.extend(duplicates(record, links, &addresses));
        findings.extend(left_behind(record));
        if record.attachments().len() > 1 {
            match filtered_inside(record) {
                Ok(filtered) => findings.extend(filtered),
                Err(error) => log::warn!("container {}: {error}: it is not examined", record.container),
            }
        }
    }
    for network in
        networks.iter().map(|one| &one.network).filter(|network| network.file.host_access.is_some())
    {
        let name = host_link::name(&network.name);
        if links.iter().any(|link| link.name == name.as_str()) {
            findings.extend(filtered_host(name.as_str()));
        }
    }
    Ok(findings)
}

/// What of a container the host has too; `addresses` are the host's, by the number of their link.
fn duplicates(record: &Record, links: &[Link], addresses: &[(u32, IpNet)]) -> Vec<Finding> {
    let error =
        |id, what, why, fix: Line| Finding::new((Area::Containers, Severity::Error, id), what, why, fix);
    let id = &record.container;
    let mut findings = Vec::new();
    for attached in record.attachments() {
        let is_its = |net: &IpNet| attached.addresses.iter().any(|its| its.addr() == net.addr());
        for (ifindex, net) in addresses.iter().filter(|(_, net)| is_its(net)) {
            let Some(link) = links.iter().find(|link| link.ifindex == *ifindex) else { continue };
            let (ip, name) = (net.addr(), &link.name);
            let what = format!("address {ip} of container {id} is the host's too, on {name}");
            let why = "some neighbours reach the container by it, and some the host";
            let fix = Line::of("ip addr del").word(net).text("dev").word(name);
            findings.push(error("duplicate-address", what, why, fix));
        }
        let Some(mac) = attached.own_mac() else { continue };
        let is_same = |link: &&Link| {
            let is_ours = link.alias.as_deref().and_then(host_link::network_of).is_some();
            link.mac == Some(mac) && !is_ours
        };
        if let Some(found) = links.iter().find(is_same) {
            let name = &found.name;
            let what = format!("MAC address {mac} of container {id} is that of the host's {name}, too");
            let why = "on one LAN, switches send frames for it to one of the two";
            let fix = Line::of("ip link set").named("dev", name).text("address").word(another(mac));
            findings.push(error("duplicate-mac", what, why, fix));
        }
    }
    findings
}

/// What is said of a container without a process whose namespace a path keeps.
fn left_behind(record: &Record) -> Option<Finding> {
    let Holder::Netns(kept) = &record.holder else { return None };
    let path = kept.netns.path.as_deref()?;
    // Where that cannot be told, nothing is said.
    if kernel::has_process(&kept.netns).unwrap_or(true) {
        return None;
    }
    let id = &record.container;
    let what = format!(
        "container {id} has no process, and its network namespace is still mounted at {}",
        path.display()
    );
    let why = "its engine was killed, or just starts or stops it; until the namespace has gone, its addresses are taken";
    let fix = Line::of("umount --lazy").path(path).text("&& underlay gc");
    Some(Finding::new((Area::Containers, Severity::Note, "namespace-left"), what, why, fix))
}

/// A locally administered MAC address (IEEE 802, 8.4) beside `mac`.
fn another(mac: MacAddr) -> MacAddr {
    let [first, b, c, d, e, last] = mac.0;
    MacAddr([(first | 2) & 0xfe, b, c, d, e, last ^ 0x80])
}

/// The number that `key` is for `link` in the namespace of this thread: the greater of what `all` and the link say (ip-sysctl).
fn sysctl(link: &str, key: &str) -> u8 {
    let number = |name: &str| kernel::read_ipv4_sysctl(name, key).unwrap_or_default();
    number("all").max(number(link))
}

fn filtered_inside(record: &Record) -> Result<Vec<Finding>> {
    let netns = NetnsFile::of(&record.holder)?;
    netns.map_or_else(|| Ok(Vec::new()), |(path, netns)| netns.inside(|| Ok(filtered(record, &path))))
}

/// What drops packets in the container of `record`, which has several links; called in its namespace, to which `path` leads.
fn filtered(record: &Record, path: &Path) -> Vec<Finding> {
    let warning =
        |id, what, why, fix: Line| Finding::new((Area::Containers, Severity::Warning, id), what, why, fix);
    let set = Line::of("nsenter --net=").value(path).text("sysctl -w");
    let id = &record.container;
    let has_v4 = |attached: &&Attached| attached.addresses.iter().any(|net| net.addr().is_ipv4());
    let is_way_out = |attached: &Attached| {
        attached.routes.iter().any(|route| route.is_default() && route.to.addr().is_ipv4())
    };
    let links: Vec<_> = record.attachments().iter().filter(has_v4).collect();
    let mut findings = Vec::new();
    for (at, attached) in links.iter().enumerate() {
        let name = attached.ifname.as_str();
        let leaves_elsewhere = !is_way_out(attached) && links.iter().any(|other| is_way_out(other));
        if leaves_elsewhere && attached.table.is_none() && sysctl(name, "rp_filter") == 1 {
            let network = &attached.network;
            let what = format!(
                "link {name} of container {id} drops what comes from beyond its subnet (rp_filter 1)"
            );
            let why = format!(
                "answers would leave by another link, which strict filtering (RFC 3704) takes for forgery; for good, give \
                 network {network} a table, or sysctl ipv4.rp_filter=2"
            );
            let setting = format!("net.ipv4.conf.{}.rp_filter=2", name.replace('.', "/"));
            findings.push(warning("rp-filter", what, why, set.clone().word(setting)));
        }
        let answers = |other: &&&Attached| {
            other.segment == attached.segment && sysctl(other.ifname.as_str(), "arp_ignore") == 0
        };
        if let Some(other) = links.get(..at).unwrap_or_default().iter().find(answers) {
            let what = format!(
                "links {} and {name} of container {id} are on one LAN, and each answers ARP for the other (arp_ignore 0)",
                other.ifname
            );
            let why = "neighbours learn the MAC address of either link for either address, which defeats modes and \
                       filters of the links";
            let settings = "net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2";
            findings.push(warning("arp-flux", what, why.to_owned(), set.clone().text(settings)));
        }
    }
    findings
}

/// What hides the host's other addresses from containers that reach it by its own link `name`.
fn filtered_host(name: &str) -> Option<Finding> {
    let arp_ignore = Some(sysctl(name, "arp_ignore")).filter(|&arp_ignore| arp_ignore > 0)?;
    let setting = format!("net.ipv4.conf.{}.arp_ignore=0", name.replace('.', "/"));
    Some(Finding::new(
        (Area::Containers, Severity::Note, "host-arp-ignore"),
        format!("the host's link {name} answers ARP for its own addresses alone (arp_ignore {arp_ignore})"),
        "containers reach the host at the address of that link, and at none of its others",
        Line::of("sysctl -w net.ipv4.conf.all.arp_ignore=0").word(setting),
    ))
}

//! Dry run of an attach: makes the same decisions, changes nothing, writes nothing.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use crate::config::conflict_detection::Detection;
use crate::dhcp::client_id::Iaid;
use crate::dhcp::lease::Family;
use crate::error::Result;
use crate::ipam::reserve::Applicant;
use crate::kernel::{self, NetnsFile};
use crate::ledger::attached::Attached;
use crate::ledger::dhcp_link::Dhcp6Link;
use crate::ledger::holder::Holder;
use crate::ledger::record::Record;
use crate::lifecycle::affinity;
use crate::lifecycle::attach;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access;
use crate::lifecycle::host_facts;
use crate::lifecycle::host_links;
use crate::lifecycle::reserve;
use crate::lifecycle::target::Admitted;
use crate::net::name::ContainerId;
use crate::net::netns::Netns;
use crate::net::route::DefaultRoutes;
use crate::netlink::Socket;
use crate::plan::host::HostOp;
use crate::plan::{self, LinkPlan};

/// Returns what an attach of `container` would do, as commands, or the error of the hook. `path` leads to its
/// namespace, if that exists before the container. The process is 0, and so is a namespace that does not
/// exist yet.
pub(crate) fn preview(
    context: &mut Context<'_>,
    container: &ContainerId,
    path: Option<&Path>,
    admitted: &Admitted,
) -> Result<Vec<String>> {
    let store = context.store;
    let Admitted { identity, requests } = admitted;
    if let Some(record) = store.record(container)?.filter(|record| kernel::is_alive(&record.holder)) {
        return Err(attach::attached_already(&record));
    }
    let host = &mut context.host_netlink;
    let parents = host_facts::parents(requests, host)?;
    let mut steps = Vec::new();
    for step in parents.iter().flat_map(|parent| &parent.steps) {
        // Two parents may stand on the same link.
        if !steps.contains(step) {
            steps.push(step.clone());
        }
    }
    let (netns, names, default_routes) = namespace(path)?;
    let affinity = affinity::load(store, identity.as_ref(), container);
    let wanted = host_facts::resolve(requests, parents, &names, &affinity)?;
    host_access::refuse_elsewhere(store, &wanted, host)?;
    let facts = host_facts::read(store, &wanted, default_routes, host)?;
    let holder = Holder::none_yet(netns);
    let identity = identity.as_ref();
    let applicant = Applicant {
        container,
        identity,
        host_name: None,
        holder: &holder,
        nsid: None,
        avoid_previous: false,
    };
    let (record, host_links) = reserve::preview(store, applicant, &wanted, &facts, kernel::is_alive)?;

    let mut lines: Vec<_> = record.attachments().iter().map(summary).collect();
    section(&mut lines, "on the host", &steps);
    section(&mut lines, "in the container's network namespace", &in_container(&record));
    let mut on_host = Vec::new();
    for link in &host_links {
        for op in host_links::changes_for(link, &record, &facts.routing, host)?.ops(link) {
            match op {
                HostOp::MakeLink(plan) => on_host.extend(plan.lines().map(|line| line.to_string())),
                op => on_host.push(op.to_string()),
            }
        }
    }
    section(&mut lines, "on the host", &on_host);
    Ok(lines)
}

/// Returns the namespace at `path`, the names of its links, and its default routes. A new one has `lo` alone.
fn namespace(path: Option<&Path>) -> Result<(Netns, BTreeSet<String>, DefaultRoutes)> {
    match path.map(NetnsFile::at).transpose()?.flatten() {
        Some(netns) => netns.inside(|| {
            let mut socket = Socket::open()?;
            let names = socket.links()?.into_iter().map(|link| link.name).collect();
            Ok((netns.describe(path), names, socket.default_routes()?))
        }),
        None => {
            let netns = Netns { device: 0, inode: 0, path: path.map(Path::to_owned) };
            Ok((netns, BTreeSet::from(["lo".to_owned()]), DefaultRoutes::default()))
        }
    }
}

fn summary(attached: &Attached) -> String {
    let subject = format!("# {} in network {}, on {}:", attached.ifname, attached.network, attached.parent);
    let addresses = attached.addresses.iter().map(ToString::to_string);
    let addresses = addresses.chain(attached.dhcp_families().map(|family| by(family).to_owned()));
    let mac = attached.own_mac().map(|mac| mac.to_string());
    [subject].into_iter().chain(addresses).chain(mac).collect::<Vec<_>>().join(" ")
}

fn in_container(record: &Record) -> Vec<String> {
    let mut lines: Vec<_> =
        plan::attach(record).iter().flat_map(LinkPlan::lines).map(|line| line.to_string()).collect();
    if record.is_probed() || record.has_dhcp() {
        lines.extend(record.attachments().iter().filter_map(probe_line));
        lines.extend(record.attachments().iter().filter_map(dhcp_line));
        lines.extend(record.attachments().iter().filter_map(dhcp6_line));
        let rest = record.attachments().iter().flat_map(|attached| plan::finish(attached, 0, Duration::ZERO));
        lines.extend(rest.map(|op| op.line().to_string()));
    }
    lines.extend(record.attachments().iter().filter_map(announcement_line));
    lines
}

/// A comment on what a DHCP server gives `attached`.
fn dhcp_line(attached: &Attached) -> Option<String> {
    let dhcp = attached.dhcp.as_ref()?;
    let what = match (dhcp.default_route, dhcp.routes) {
        (true, _) => "an IPv4 address, routes and a default route",
        (false, true) => "an IPv4 address and routes",
        (false, false) => "an IPv4 address",
    };
    Some(format!("# {} gets {what} from a DHCP server, as client {}", attached.ifname, dhcp.client_id))
}

/// A comment on what a DHCPv6 server gives `attached`.
fn dhcp6_line(attached: &Attached) -> Option<String> {
    let Dhcp6Link { duid, iaid: Iaid(iaid), .. } = attached.dhcp6.as_ref()?;
    let ifname = &attached.ifname;
    Some(format!("# {ifname} gets an IPv6 address from a DHCPv6 server, as client {duid}, link {iaid:08x}"))
}

fn by(family: Family) -> &'static str {
    match family {
        Family::V4 => "by DHCP",
        Family::V6 => "by DHCPv6",
    }
}

/// A comment on the conflict detection of `attached`.
fn probe_line(attached: &Attached) -> Option<String> {
    if attached.addresses.is_empty() {
        return None;
    }
    let addresses: Vec<_> = attached.addresses.iter().map(|net| net.addr().to_string()).collect();
    let time = match attached.detection? {
        Detection::Off => return None,
        Detection::For(ms) => format!("within {ms} ms"),
        Detection::Rfc => "in the times of RFC 5227".to_owned(),
    };
    Some(format!("# if another host answers for {} {time}, another address is taken", addresses.join(" or ")))
}

/// A comment on the announcements of `attached` that follow the first.
fn announcement_line(attached: &Attached) -> Option<String> {
    let times = attached.announcements;
    (times > 1).then(|| format!("# {} is announced {times} times, the first time here", attached.ifname))
}

fn section(lines: &mut Vec<String>, title: &str, steps: &[impl Display]) {
    if !steps.is_empty() {
        lines.push(format!("# {title}"));
        lines.extend(steps.iter().map(ToString::to_string));
    }
}

//! The story of a preview: what the hook would do for a container now, with nothing done and nothing written.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;

use crate::config::conflict_detection::Detection;
use crate::error::Result;
use crate::ipam::assign::{self, DefaultRoutes, Wanted};
use crate::ipam::previous;
use crate::ipam::reserve::{Present, Subject};
use crate::kernel::{self, NetnsFile};
use crate::ledger::Store;
use crate::ledger::record::{Attached, Holder, Record};
use crate::lifecycle::affinity;
use crate::lifecycle::host_access;
use crate::lifecycle::parents;
use crate::lifecycle::policy;
use crate::net::name::ContainerId;
use crate::net::netns::Netns;
use crate::netlink::Socket;
use crate::oci::Bundle;
use crate::plan;

/// What the hook would do for `container`, which is what `bundle` says, in the words of a shell. Its process, and its
/// namespace if that is not there yet, stand as 0.
///
/// # Errors
/// Those that the hook would end with.
pub(crate) fn preview(store: &Store, container: &ContainerId, bundle: &Bundle) -> Result<Vec<String>> {
    let Some(asked) = bundle.asked() else {
        return Ok(vec!["# it asks for no network: the hook does nothing".to_owned()]);
    };
    let settings = store.settings()?;
    let (request, networks) = policy::permitted(store, &settings, asked)?;
    if let Some(record) = store.record(container)?.filter(|record| kernel::lives(&record.holder)) {
        return Err(policy::attached_already(&record));
    }
    let mut host = Socket::open()?;
    let found = policy::parents(&networks, &mut host)?;
    let mut steps = Vec::new();
    let mut links = Vec::new();
    for network in &networks {
        let (link, made) = match found.get(&network.parent) {
            Some(link) => (link.clone(), Vec::new()),
            None => parents::foresee(network, &mut host)?,
        };
        links.push(link);
        steps.extend(made.into_iter().filter(|op| !steps.contains(op)).collect::<Vec<_>>());
    }
    let (netns, names, default_routes) = inside(bundle.netns.as_deref())?;
    let names = assign::names(&request.attachments, &names)?;
    let memory = affinity::recall(store, request.identity.as_ref(), container);
    let hints = previous::of(&request.attachments, &memory.hints);
    let wanted: Vec<_> = networks
        .iter()
        .zip(&request.attachments)
        .zip(links.into_iter().zip(names))
        .zip(hints)
        .map(|(((network, request), (parent, ifname)), hint)| {
            let (request, network) = (request.clone(), network.clone());
            Wanted { request, network, parent, ifname, hint }
        })
        .collect();
    host_access::refuse_elsewhere(store, &wanted, &mut host)?;
    let present = Present {
        on_host: policy::on_host(&networks, &mut host)?,
        ways: policy::ways(&networks, &mut host)?,
        neighbours: policy::neighbours(&networks, &found, &mut host)?,
        default_routes,
    };
    let holder = Holder { pid: 0, start_time: 0, pid_namespace: kernel::pid_namespace(), netns };
    let identity = request.identity.as_ref();
    let subject = Subject { container, identity, holder: &holder, afresh: false };
    let (record, host_links) = store.preview(subject, &wanted, &present, kernel::lives)?;

    let mut lines: Vec<_> = record.attachments.iter().map(summary).collect();
    part(&mut lines, "on the host", &steps);
    part(&mut lines, "in the container's network namespace", &in_container(&record));
    let mut on_host = Vec::new();
    for link in &host_links {
        on_host.extend(host_access::foresee(link, &record, &present.ways, &mut host)?);
    }
    part(&mut lines, "on the host", &on_host);
    Ok(lines)
}

/// The namespace at `path`, the names of its links, and whether it has default routes; a new one has none.
fn inside(path: Option<&Path>) -> Result<(Netns, BTreeSet<String>, DefaultRoutes)> {
    match path.map(NetnsFile::at).transpose()?.flatten() {
        Some(netns) => netns.inside(|| {
            let mut inside = Socket::open()?;
            let names = inside.links()?.into_iter().map(|link| link.name).collect();
            Ok((netns.describe(path), names, inside.default_routes()?))
        }),
        None => {
            let netns = Netns { device: 0, inode: 0, path: path.map(Path::to_owned) };
            Ok((netns, BTreeSet::from(["lo".to_owned()]), DefaultRoutes::default()))
        }
    }
}

fn summary(attached: &Attached) -> String {
    let mut text = format!("# {} in network {}, on {}:", attached.ifname, attached.network, attached.parent);
    let addresses = attached.addresses.iter().map(ToString::to_string);
    for claim in addresses.chain(attached.own_mac().map(|mac| mac.to_string())) {
        text += " ";
        text += &claim;
    }
    text
}

fn in_container(record: &Record) -> Vec<String> {
    let mut lines: Vec<_> = plan::attach(record).iter().map(ToString::to_string).collect();
    if record.is_probed() {
        lines.extend(record.attachments.iter().filter_map(question));
        lines.extend(record.attachments.iter().flat_map(plan::settle).map(|op| op.to_string()));
    }
    lines.extend(record.attachments.iter().filter_map(repeated));
    lines
}

/// What the LAN is asked.
fn question(attached: &Attached) -> Option<String> {
    let addresses: Vec<_> = attached.addresses.iter().map(|net| net.addr().to_string()).collect();
    let time = match attached.detection? {
        Detection::Off => return None,
        Detection::For(ms) => format!("within {ms} ms"),
        Detection::Rfc => "in the times of RFC 5227".to_owned(),
    };
    Some(format!("# if somebody answers for {} {time}, another address is taken", addresses.join(" or ")))
}

/// What is said again by a process of its own, once the container is attached.
fn repeated(attached: &Attached) -> Option<String> {
    let times = attached.announcements;
    (times > 1).then(|| format!("# {} is announced {times} times, the first of them by now", attached.ifname))
}

fn part(lines: &mut Vec<String>, title: &str, steps: &[impl Display]) {
    if !steps.is_empty() {
        lines.push(format!("# {title}"));
        lines.extend(steps.iter().map(ToString::to_string));
    }
}

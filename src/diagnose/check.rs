//! `underlay check`: ledger and kernel are compared. Nothing is changed.

use std::collections::BTreeSet;

use crate::diagnose::check_host::{self, HostRoutes};
use crate::diagnose::compare::{self, Actual};
use crate::diagnose::difference::{Difference, What};
use crate::error::{Error, Result};
use crate::kernel::{self, NetnsFile, Survey, SurveyedLink};
use crate::ledger::record::{Holder, MadeFor, Record};
use crate::ledger::{Holding, Locked, Store};
use crate::lifecycle::reseal;
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::net::seal::Key;
use crate::netlink::Socket;

/// What in the ledger is not as the kernel tells: of all containers, of the parents that underlay has made, and of
/// what is nobody's.
///
/// # Errors
/// When the ledger cannot be read, or the kernel does not tell.
pub(crate) fn all(store: &Store) -> Result<Vec<Difference>> {
    let mut host = Host::open()?;
    let settings = store.settings()?;
    // Before the lock: who attaches meanwhile has a record first.
    let mut survey = kernel::survey(&host.netns)?;
    // What a container says of itself is nothing to act on.
    let key = store.known_key().inspect_err(|error| log::warn!("marks prove nothing: {}", error.in_full()));
    let key = key.ok().flatten();
    survey.seen.retain(|seen| seen.is_proven(key));
    // Who attaches or detaches a container holds the lock while leases and parents are without a record.
    let locked = store.lock(settings.lock_timeout())?;
    let records = store.records()?.sound;
    let mut besides = parents(&locked, &mut host)?;
    let links = host.socket.links()?;
    besides.extend(check_host::links(&locked, &links, &mut host.socket)?);
    besides.extend(unrecorded(store, &survey, &records));
    besides.extend(of_nobody(&locked)?);
    drop(locked);
    let mut differences = Vec::new();
    let by_host = HostRoutes::read(store, &mut host.socket)?;
    for record in &records {
        let found = of_container(store, record, &by_host, &mut host);
        // What one container has made of its namespace is no reason to say nothing of the others.
        differences.extend(found.unwrap_or_else(|error| {
            log::warn!("{error}: it is left alone");
            Vec::new()
        }));
    }
    differences.extend(besides);
    Ok(differences)
}

/// What of the container of `record` is not as the ledger says.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn container(store: &Store, record: &Record) -> Result<Vec<Difference>> {
    let mut host = Host::open()?;
    let by_host = HostRoutes::read(store, &mut host.socket)?;
    of_container(store, record, &by_host, &mut host)
}

/// The host, by its network namespace and a socket in it.
struct Host {
    netns: NetnsFile,
    socket: Socket,
}

impl Host {
    fn open() -> Result<Self> {
        Ok(Self { netns: NetnsFile::own()?, socket: Socket::open()? })
    }
}

fn of_container(
    store: &Store,
    record: &Record,
    by_host: &HostRoutes,
    host: &mut Host,
) -> Result<Vec<Difference>> {
    let id = &record.container;
    let of =
        |what, expected: String, found: Option<String>| Difference::new(what, Some(expected), found).of(id);
    if !kernel::lives(&record.holder) {
        return Ok(vec![of(What::Process, record.holder.pid.to_string(), None)]);
    }
    let within = |error: Error| error.within(format!("container {id}"));
    let mut differences = match (record.is_pending(), NetnsFile::of(&record.holder).map_err(within)?) {
        (true, _) => vec![of(What::Attach, "attached".to_owned(), Some("pending".to_owned()))],
        (false, Some((_, netns))) => {
            links(record, &netns, store.known_key().ok().flatten(), host).map_err(within)?
        }
        (false, None) => {
            vec![of(What::Netns, format!("net:[{}]", record.holder.netns.inode), None)]
        }
    };
    differences.extend(leases(store, record)?);
    differences.extend(by_host.missing(record));
    // One that was stopped meanwhile is no more what was read of it.
    if !differences.is_empty() && store.record(id)?.as_ref() != Some(record) {
        differences.clear();
    }
    Ok(differences)
}

/// Compares the links of a container, from inside its namespace.
fn links(record: &Record, netns: &NetnsFile, key: Option<&Key>, host: &mut Host) -> Result<Vec<Difference>> {
    let parents = record.attachments().iter().map(|attached| {
        let by_number = host.socket.link_by_index(attached.parent_index)?;
        by_number.map_or_else(|| host.socket.link(&attached.parent), |link| Ok(Some(link)))
    });
    let parents: Vec<Option<Link>> = parents.collect::<Result<_>>()?;
    netns.inside(|| {
        let mut inside = Socket::open()?;
        let links = inside.links()?;
        let host_nsid = inside.nsid(&host.netns)?;
        let found: Vec<_> =
            record.marked().map(|(mark, attached)| compare::find(attached, &mark, &links).cloned()).collect();
        let contents = inside.contents(&found.iter().flatten().map(|link| link.ifindex).collect())?;
        let mut differences = Vec::new();
        for (((mark, attached), link), parent) in record.marked().zip(found).zip(parents) {
            // What is not the link that was sealed is told of by what differs.
            let as_made = link.as_ref().filter(|link| reseal::is_as_made(attached, link)).zip(key);
            let sealed = as_made.map(|(link, key)| key.seal(mark.clone(), link, &netns.describe(None)));
            let mut actual = Actual { sealed, host_nsid, parent, ..Actual::default() };
            if let Some(link) = link {
                actual.addresses = contents.addresses_of(link.ifindex).to_vec();
                actual.routes = contents.routes_of(link.ifindex, None).collect();
                let asked = attached.tuning.sysctls.keys();
                let told = asked.filter_map(|key| Some((key.clone(), kernel::sysctl(&link.name, key)?)));
                actual.sysctls = told.collect();
                if let Some(table) = &attached.table {
                    actual.table_routes = contents.routes_of(link.ifindex, Some(table.id)).collect();
                    actual.rules = contents.rules().to_vec();
                }
                actual.link = Some(link);
            }
            differences.extend(compare::attachment(&mark, attached, &actual));
        }
        Ok(differences)
    })
}

/// The addresses and MAC addresses of `record` that are not leased to its container.
fn leases(store: &Store, record: &Record) -> Result<Vec<Difference>> {
    let mut differences = Vec::new();
    for attached in record.attachments() {
        for claim in attached.claims() {
            let found = match store.holding(attached.segment, claim)? {
                Holding::Container(holder) if holder.container == record.container => continue,
                Holding::Container(holder) => Some(format!("{claim} of container {}", holder.container)),
                Holding::Unknown(id) => Some(format!("{claim} of container {id}")),
                Holding::Host(network) => Some(format!("{claim} of the host in network {network}")),
                Holding::Nobody => None,
            };
            let lease = Difference::new(What::Lease, Some(claim.to_string()), found);
            differences.push(lease.of(&record.container).at(attached));
        }
    }
    Ok(differences)
}

/// The parents that underlay has made: what of them differs, which nobody needs, and which are not written down.
fn parents(locked: &Locked<'_>, host: &mut Host) -> Result<Vec<Difference>> {
    let store = locked.store();
    let links = host.socket.links()?;
    let link = |name: &IfName| links.iter().find(|link| link.name == name.as_str());
    let written = store.made_parents()?;
    let mut differences = Vec::new();
    for name in &written {
        // A damaged file is told of with the others.
        let Ok(Some(parent)) = store.made_parent(name) else { continue };
        if let Some(left) = links.iter().find(|link| parent.has_left(link)) {
            let left = Difference::new(What::Parent, None, Some(left.describe())).at_parent(&parent.born_as);
            differences.push(left.hint("`underlay gc` deletes what is left half made"));
        }
        if store.needs_parent(name, |record| kernel::lives(&record.holder))? {
            let base = parent.recipe.base().and_then(link);
            differences.extend(compare::made_parent(&parent, link(name), base));
        } else {
            let unneeded =
                Difference::new(What::Parent, None, Some(parent.recipe.to_string())).at_parent(name);
            differences.push(unneeded.hint("`underlay gc` deletes parents that nobody needs"));
        }
    }
    // What cannot be read is told of elsewhere.
    let networks = store.network_names()?.into_iter().filter_map(|name| store.network(&name).ok());
    differences.extend(networks.filter_map(|network| compare::network(&network, link(&network.parent)?)));
    for link in links.iter().filter(|link| link.is_made_parent()) {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        if !written.contains(&name) {
            let unknown = Difference::new(What::Parent, None, Some(link.describe())).at_parent(&name);
            differences.push(unknown.hint("`underlay gc` writes parents down that bear the mark"));
        }
    }
    Ok(differences)
}

/// Links that bear the mark of a container whose record is lost.
fn unrecorded(store: &Store, survey: &Survey, records: &[Record]) -> Vec<Difference> {
    let known: BTreeSet<_> = records.iter().map(Record::made_for).collect();
    let mut differences = Vec::new();
    for SurveyedLink { alias, netns, link, .. } in &survey.seen {
        let mark = &alias.mark;
        let (pid, start_time) = (mark.pid, mark.start_time);
        let holder = Holder { pid, start_time, pid_namespace: None, netns: netns.clone() };
        // One that was stopped meanwhile takes its links with it.
        let is_held =
            netns.path.is_some() || kernel::lives(&holder) || survey.first_process_in(netns.inode).is_some();
        // A damaged record is told of with the other files.
        let is_lost =
            !known.contains(&MadeFor::of(mark)) && matches!(store.record(&mark.container), Ok(None));
        if is_lost && is_held {
            let found = format!("{} in net:[{}]", link.name, netns.inode);
            let lost = Difference::new(What::Link, None, Some(found)).of(&mark.container);
            let lost = lost.hint("`underlay gc` writes lost records anew");
            differences.push(Difference { network: Some(mark.network.clone()), ..lost });
        }
    }
    differences
}

/// Leases that are nobody's, and files that are half written or cannot be read.
fn of_nobody(locked: &Locked<'_>) -> Result<Vec<Difference>> {
    let store = locked.store();
    let mut differences = Vec::new();
    for segment in store.segments()? {
        for orphan in store.leases(segment)?.orphans {
            let path = store.lease_path(segment, orphan);
            let lease = Difference::new(What::Lease, None, Some(path.display().to_string()));
            differences.push(lease);
        }
    }
    for path in locked.left_over()? {
        let file = Difference::new(What::File, None, Some(path.display().to_string()));
        differences.push(file.hint("`underlay gc` removes what is left half written"));
    }
    differences.extend(store.damaged()?.iter().map(damaged));
    Ok(differences)
}

fn damaged(error: &Error) -> Difference {
    let difference = Difference::new(What::File, None, Some(error.to_string()));
    match error.hint_text() {
        Some(hint) => difference.hint(hint),
        None => difference,
    }
}

//! `underlay check`: reads ledger and kernel, and lists what differs. Nothing is changed.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::diagnose::check_dhcp;
use crate::diagnose::check_host::{self, HostRoutes};
use crate::diagnose::compare::{self, Actual};
use crate::diagnose::difference::{Difference, RECLAIMED, What};
use crate::error::{Error, Result};
use crate::kernel::{self, NetnsFile, Survey, SurveyedLink};
use crate::ledger::holder::Holder;
use crate::ledger::record::{MadeFor, Record};
use crate::ledger::{Holding, Locked, Store};
use crate::lifecycle::moved;
use crate::lifecycle::reseal;
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::net::seal::Key;
use crate::netlink::Socket;

/// How long the agent may take to release what ended containers have left.
const LEFT: Duration = Duration::from_secs(2);

/// Waits for the agent, as long as it has to release what ended containers have left: that is no difference.
fn wait_for_agent(store: &Store) -> Result<()> {
    let until = Instant::now() + LEFT;
    while store.records()?.sound.iter().any(Record::has_ended) && store.has_agent()? && Instant::now() < until
    {
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What differs between ledger and kernel: of all containers, of the parents and host links that underlay has made, and of
/// what belongs to no record.
///
/// # Errors
/// When the ledger cannot be read, or the kernel does not tell.
pub(crate) fn all(store: &Store) -> Result<Vec<Difference>> {
    wait_for_agent(store)?;
    let mut host = Socket::open()?;
    let settings = store.settings()?;
    // Before the lock: a container that is attached meanwhile has its record first.
    let mut survey = kernel::survey(&NetnsFile::own()?)?;
    // A mark without a seal is the container's own word.
    let key = store.known_key().inspect_err(|error| log::warn!("marks prove nothing: {}", error.in_full()));
    let key = key.ok().flatten();
    survey.seen.retain(|seen| seen.is_proven(key));
    // An attach and a detach hold the lock while leases and parents are without a record.
    let locked = store.lock(settings.lock_timeout())?;
    let records = store.records()?.sound;
    let links = host.links()?;
    let mut besides = parents(store, &links)?;
    besides.extend(check_host::links(&locked, &links, &mut host)?);
    besides.extend(unrecorded(store, &survey, &records));
    besides.extend(without_record(&locked)?);
    drop(locked);
    let mut differences = Vec::new();
    let by_host = HostRoutes::read(store, &mut host)?;
    for record in &records {
        match of_container(store, record, &by_host, &mut host) {
            Ok(found) => differences.extend(found),
            // A container that has made its namespace unreadable hides nothing of the others.
            Err(error) => log::warn!("{error}: it is left alone"),
        }
    }
    differences.extend(besides);
    Ok(differences)
}

/// What differs between the ledger and the container of `record`.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn container(store: &Store, record: &Record) -> Result<Vec<Difference>> {
    // The agent is about to release what it holds.
    if record.has_ended() {
        return Ok(Vec::new());
    }
    let mut host = Socket::open()?;
    let by_host = HostRoutes::read(store, &mut host)?;
    of_container(store, record, &by_host, &mut host)
}

fn of_container(
    store: &Store,
    record: &Record,
    by_host: &HostRoutes,
    host: &mut Socket,
) -> Result<Vec<Difference>> {
    let id = &record.container;
    let missing = |what, expected: String| vec![Difference::missing(what, expected).of(id)];
    // The agent is about to release what it holds.
    if record.has_ended() {
        return Ok(Vec::new());
    }
    if !kernel::is_alive(&record.holder) {
        let dead = match &record.holder {
            Holder::Process(process) => Difference::missing(What::Process, process.pid),
            Holder::Netns(kept) => Difference::missing(What::Netns, &kept.netns).hint(RECLAIMED),
            // An address that was asked for, and of which nothing came.
            Holder::Endpoint(_) => Difference::missing(What::Attach, &record.holder).hint(RECLAIMED),
        };
        return Ok(vec![dead.of(id)]);
    }
    // The endpoint is to come, or has come already and has the lease, if the call was killed that made it.
    if record.holder.endpoint().is_some_and(|endpoint| endpoint.awaited) {
        return Ok(Vec::new());
    }
    let within = |error: Error| error.within(format!("container {id}"));
    let mut differences = match (record.is_pending(), NetnsFile::of(&record.holder).map_err(within)?) {
        // Its engine is about to move the link.
        (false, _) if moved::is_unseen(record) => Vec::new(),
        (false, None) if record.holder.endpoint().is_some() => {
            missing(What::Netns, record.holder.to_string())
        }
        (true, _) => {
            vec![Difference::new(What::Attach, Some("attached".into()), Some("pending".into())).of(id)]
        }
        (false, Some((_, netns))) => {
            links(record, &netns, store.known_key().ok().flatten(), host).map_err(within)?
        }
        (false, None) => missing(What::Netns, format!("net:[{}]", record.holder.netns().inode)),
    };
    differences.extend(leases(store, record)?);
    differences.extend(check_dhcp::leases(store, record)?);
    differences.extend(duplicates(store, record));
    differences.extend(by_host.missing(record));
    // The container was stopped meanwhile if its record has changed.
    if !differences.is_empty() && store.record(id)?.as_ref() != Some(record) {
        differences.clear();
    }
    Ok(differences)
}

/// Compares the links of a container, from inside its namespace.
fn links(
    record: &Record,
    netns: &NetnsFile,
    key: Option<&Key>,
    host: &mut Socket,
) -> Result<Vec<Difference>> {
    let parents = record.attachments().iter().map(|attached| {
        let by_number = host.link_by_index(attached.parent_index)?;
        by_number.map_or_else(|| host.link(&attached.parent), |link| Ok(Some(link)))
    });
    let parents: Vec<Option<Link>> = parents.collect::<Result<_>>()?;
    let host_netns = NetnsFile::own()?;
    netns.inside(|| {
        let mut inside = Socket::open()?;
        let links = inside.links()?;
        let host_nsid = inside.nsid(&host_netns)?;
        let found: Vec<_> =
            record.marked().map(|(mark, attached)| compare::find(attached, &mark, &links).cloned()).collect();
        let contents = inside.contents(&found.iter().flatten().map(|link| link.ifindex).collect())?;
        let mut differences = Vec::new();
        for (((mark, attached), link), parent) in record.marked().zip(found).zip(parents) {
            // A link that is not as it was made differs by more than its seal.
            let as_made = link.as_ref().filter(|link| reseal::is_as_made(attached, link)).zip(key);
            let sealed = as_made.map(|(link, key)| key.seal(mark.clone(), link, &netns.describe(None)));
            let mut actual = Actual { sealed, host_nsid, parent, ..Actual::default() };
            if let Some(link) = link {
                actual.addresses = contents.addresses_of(link.ifindex).to_vec();
                actual.limited = actual.addresses.clone();
                actual.limited.retain(|net| contents.is_limited(link.ifindex, *net));
                actual.routes = contents.routes_of(link.ifindex, None).collect();
                let asked = attached.tuning.sysctls.keys();
                let told = asked.filter_map(|key| Some((key.clone(), kernel::read_sysctl(&link.name, key)?)));
                actual.sysctls = told.collect();
                if let Some(table) = &attached.table {
                    actual.table_routes = contents.routes_of(link.ifindex, Some(table.id)).collect();
                    actual.rules = contents.rules().to_vec();
                }
                actual.link = Some(link);
            }
            // Of the container that has the link, which may not be the one that it was made for.
            let found = compare::attachment(&mark, attached, &actual).into_iter();
            differences.extend(found.map(|difference| difference.of(&record.container)));
        }
        Ok(differences)
    })
}

/// The addresses of `record` that another host has, too, as the agent has found out.
fn duplicates(store: &Store, record: &Record) -> Vec<Difference> {
    let mut differences = Vec::new();
    for attached in record.attachments().iter().filter(|attached| attached.detection.is_some()) {
        let known = store.quarantined(attached.segment);
        // The link itself, while the ledger did not know it.
        let is_its_own = |mac| attached.mac == Some(mac);
        let of_others = known.iter().filter(|(_, other)| !is_its_own(other.mac));
        for (address, other) in of_others.filter(|(address, _)| attached.has(*address)) {
            let found = format!("{address}, and of another host, {}", other.mac);
            let duplicate = Difference::new(What::Address, Some(address.to_string()), Some(found));
            let hint =
                "find the host by its MAC address, or restart the container, which gets another address";
            differences.push(duplicate.of(&record.container).at(attached).hint(hint));
        }
    }
    differences
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

/// The parents that underlay has made: what of them differs, which nothing needs, and which the ledger does not have.
fn parents(store: &Store, links: &[Link]) -> Result<Vec<Difference>> {
    let link = |name: &IfName| links.iter().find(|link| link.name == name.as_str());
    let extra = |found: String, name: &IfName, hint: &str| {
        Difference::extra(What::Parent, found).at_parent(name).hint(hint)
    };
    let written = store.made_parents()?;
    let mut differences = Vec::new();
    for name in &written {
        // A damaged file is a difference of its own.
        let Ok(Some(parent)) = store.made_parent(name) else { continue };
        if let Some(left) = links.iter().find(|link| parent.has_left(link)) {
            let hint = "`underlay gc` deletes what is left half made";
            differences.push(extra(left.describe(), &parent.born_as, hint));
        }
        if store.needs_parent(name, |record| kernel::is_alive(&record.holder))? {
            let base = parent.recipe.base().and_then(link);
            differences.extend(compare::made_parent(&parent, link(name), base));
        } else {
            let hint = "`underlay gc` deletes parents that nothing needs";
            differences.push(extra(parent.recipe.to_string(), name, hint));
        }
    }
    // A file that cannot be read is a difference of its own.
    let networks = store.network_names()?.into_iter().filter_map(|name| store.network(&name).ok());
    differences.extend(networks.filter_map(|network| compare::network(&network, link(&network.parent)?)));
    for link in links.iter().filter(|link| link.is_made_parent()) {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        if !written.contains(&name) {
            let hint = "`underlay gc` writes down parents that bear the mark";
            differences.push(extra(link.describe(), &name, hint));
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
        // The links of a container that was stopped meanwhile go with it.
        let is_held = netns.path.is_some()
            || kernel::made_for(mark, netns).is_some_and(|holder| kernel::is_alive(&holder))
            || survey.first_process_in(netns.inode).is_some();
        // A damaged record is a difference of its own.
        let is_lost =
            !known.contains(&MadeFor::of(mark)) && matches!(store.record(&mark.container), Ok(None));
        if is_lost && is_held {
            let found = format!("{} in net:[{}]", link.name, netns.inode);
            let lost = Difference::extra(What::Link, found).of(&mark.container);
            let lost = lost.hint("`underlay gc` writes lost records anew");
            differences.push(Difference { network: Some(mark.network.clone()), ..lost });
        }
    }
    differences
}

/// Leases without a record, and files that are half written or cannot be read.
fn without_record(locked: &Locked<'_>) -> Result<Vec<Difference>> {
    let store = locked.store();
    let mut differences = Vec::new();
    for segment in store.segments()? {
        let orphans = store.leases(segment)?.orphans.into_iter();
        let paths = orphans.map(|orphan| store.lease_path(segment, orphan));
        differences.extend(paths.map(|path| Difference::extra(What::Lease, path.display())));
    }
    for path in locked.left_over()? {
        let file = Difference::extra(What::File, path.display());
        differences.push(file.hint("`underlay gc` removes what is left half written"));
    }
    let damaged = store.damaged()?.into_iter();
    differences.extend(damaged.map(|error| Difference {
        hint: error.hint_text().map(str::to_owned),
        ..Difference::extra(What::File, &error)
    }));
    Ok(differences)
}

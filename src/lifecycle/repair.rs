//! Repair of a damaged ledger: lost records are rebuilt from the kernel's state, and invalid files are
//! removed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::config::settings::Settings;
use crate::error::{Kind, Result};
use crate::fs::file;
use crate::kernel::{self, Survey};
use crate::ledger::host_link;
use crate::ledger::lease_link::{host_lease_target, lease_target};
use crate::ledger::record::{MadeFor, Record, VERSION};
use crate::ledger::{Folder, Holding, Locked, Records, Store};
use crate::lifecycle::affinity;
use crate::lifecycle::context::Context;
use crate::lifecycle::rebuild::{self, Rebuild};
use crate::lifecycle::repair_step::{RepairStep, Repaired};
use crate::lifecycle::reseal;
use crate::net::lease_key::LeaseKey;
use crate::net::link::Link;
use crate::net::name::{ContainerId, IfName};
use crate::net::parent::{MadeParent, ParentSpec};
use crate::net::seal::Key;
use crate::netlink::Socket;

/// Repairs the ledger if the state folder was lost.
pub(crate) fn recover(context: &mut Context<'_>) -> Result<()> {
    if context.store.is_lost()? {
        repair(context, false)?.warn();
    }
    Ok(())
}

/// Repairs the ledger. A `dry_run` only finds the steps. Steps that fail are in [`Repaired::failed`].
pub(crate) fn repair(context: &mut Context<'_>, dry_run: bool) -> Result<Repaired> {
    let store = context.store;
    let sealing = match dry_run {
        true => store.known_key(),
        false => store.key(context.settings.lock_timeout()).map(Some),
    };
    let was_lost = store.is_lost()?;
    let key = sealing.as_ref().copied().unwrap_or_else(|error| {
        log::warn!("marks prove nothing: {}", error.in_full());
        None
    });
    // Not under the lock: a survey of many namespaces takes long. An attach writes its record before it makes
    // links, so that its container is never taken for one with a lost record.
    let mut survey = kernel::survey(context.host_netns.get()?)?;
    let locked = context.lock()?;
    let mut repaired = find(&locked, context, &survey, key)?;
    // A container that was detached since the survey looks like one with a lost record. Its links were
    // deleted before the record, so a second survey of its namespace does not show them.
    let doubtful = repaired.namespaces();
    if !doubtful.is_empty() {
        survey.look_again(&doubtful, context.host_netns.get()?);
        repaired = find(&locked, context, &survey, key)?;
    }
    let lost = was_lost || repaired.has_lost();
    if !dry_run {
        let Repaired { steps, failed, .. } = &mut repaired;
        steps.retain(|step| apply(&locked, step).map_err(|error| failed.push(error)).is_ok());
    }
    let before = store.folder()?.unwrap_or(Folder::Lost);
    let all_found = survey.is_whole() && have_all(&repaired.records, &survey);
    let after = before.recovered(lost, repaired.failed.is_empty(), all_found);
    repaired.in_doubt = after != Folder::Whole;
    if !dry_run {
        locked.note(after)?;
    }
    if repaired.in_doubt {
        log::warn!("not all containers are found: parents and host links that they may need stay");
    }
    drop(locked);
    // Without a key no mark can be sealed, so a dry run lists no seals.
    if sealing.is_ok() {
        repaired.seals = reseal::find(&repaired.records, &survey.seen, key);
    }
    if let Some(key) = key.filter(|_| !dry_run) {
        // A container that has ended since needs no seal.
        repaired.seals.retain(|seal| {
            let done = reseal::apply(seal, key).inspect_err(|error| log::warn!("{seal}: {error}"));
            done.unwrap_or_default()
        });
    }
    Ok(repaired)
}

fn find(
    locked: &Locked<'_>,
    context: &mut Context<'_>,
    survey: &Survey,
    key: Option<&Key>,
) -> Result<Repaired> {
    let Context { store, settings, host_netlink: host, .. } = context;
    let mut repaired = Repaired::default();
    records(store, settings, survey, key, host, &mut repaired)?;
    leases(store, survey, &mut repaired)?;
    parents(store, host, &mut repaired)?;
    host_links(store, host, &mut repaired)?;
    repaired.steps.extend(locked.left_over()?.into_iter().map(RepairStep::Remove));
    Ok(repaired)
}

/// Returns true if for each mark, one of `records` holds the links of that container in that namespace.
fn have_all(records: &[Record], survey: &Survey) -> bool {
    let known: BTreeSet<_> =
        records.iter().map(|record| (record.made_for().container, record.holder.netns().id())).collect();
    // Where the link of an endpoint is, its engine decides.
    let endpoints = records.iter().filter(|record| record.holder.endpoint().is_some());
    let endpoints: BTreeSet<_> = endpoints.map(|record| &record.container).collect();
    survey.seen.iter().all(|seen| {
        let container = &seen.alias.mark.container;
        endpoints.contains(container) || known.contains(&(container.clone(), seen.netns.id()))
    })
}

fn apply(locked: &Locked<'_>, step: &RepairStep) -> Result<()> {
    log::info!("{step}");
    let (RepairStep::Record(_, path)
    | RepairStep::Lease(.., path)
    | RepairStep::Parent(_, path)
    | RepairStep::HostLink(_, path)
    | RepairStep::Remove(path)) = step;
    file::make_room(path)?;
    match step {
        RepairStep::Record(record, _) => {
            locked.write(record)?;
            // An agent that has looked for the lost record has forgotten its client.
            if record.has_dhcp() { locked.store().call_agent(&record.container) } else { Ok(()) }
        }
        RepairStep::Lease(segment, claim, target, _) => locked.write_lease(*segment, *claim, target),
        RepairStep::Parent(parent, _) => locked.write_parent(parent),
        RepairStep::HostLink(link, _) => locked.write_host_link(link),
        RepairStep::Remove(path) => file::remove(path),
    }
}

/// Finds damaged and missing records, and rebuilds them from links with proven marks. A damaged record of a
/// container without links is removed, unless the links may be in a namespace that could not be surveyed. A
/// record that may be sound is left alone ([`Kind::is_left_alone`]).
fn records(
    store: &Store,
    settings: &Settings,
    survey: &Survey,
    key: Option<&Key>,
    host: &mut Socket,
    repaired: &mut Repaired,
) -> Result<()> {
    let Records { sound, unknown } = store.records()?;
    let (left_alone, damaged): (Vec<_>, Vec<_>) =
        unknown.into_iter().partition(|(_, kind)| kind.is_left_alone());
    let known = sound.iter().map(|record| &record.container).chain(left_alone.iter().map(|(id, _)| id));
    let known: BTreeSet<_> = known.cloned().collect();
    let damaged: BTreeSet<_> = damaged.into_iter().map(|(id, _)| id).collect();
    // The record of a successor holds links that were handed over.
    let held: BTreeSet<_> = sound.iter().map(Record::made_for).collect();
    let proven: Vec<_> = survey.seen.iter().filter(|seen| seen.is_proven(key)).collect();
    let unheld = proven.iter().map(|seen| &seen.alias.mark).filter(|mark| !held.contains(&MadeFor::of(mark)));
    let mut lost: BTreeSet<_> = damaged.iter().chain(unheld.map(|mark| &mark.container)).collect();
    lost.retain(|id| !known.contains(*id));
    repaired.records = sound;
    if lost.is_empty() {
        return Ok(());
    }
    let on_host = host.addresses()?.into_iter().collect();
    let mut rebuild = Rebuild { store, settings, on_host, survey, proven: &proven, host };
    for id in lost {
        // An error of one container must not keep the others from being repaired.
        let rebuilt = rebuild.record(id, &repaired.records).unwrap_or_else(|error| {
            log::warn!("container {id}: {error}");
            None
        });
        let path = store.record_path(id);
        if let Some(record) = rebuilt {
            repaired.steps.push(RepairStep::Record(Box::new(record.clone()), path));
            repaired.records.push(record);
        } else if damaged.contains(id) && survey.is_whole() && !survey.shows(id) {
            repaired.steps.push(RepairStep::Remove(path));
        }
    }
    Ok(())
}

/// The priority of a container for a lease that several records list. A living container comes before a dead
/// one, then the one that the lease names. If records and leases were lost, the one whose affinity has the
/// address comes first, as only root writes that; else the one with fewer addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    is_alive: bool,
    is_named: bool,
    has_affinity: bool,
    less: Reverse<usize>,
}

/// Finds missing leases that records of living containers list, and leases that no record lists. A lease is
/// kept if its container may be in a namespace that could not be surveyed.
fn leases(store: &Store, survey: &Survey, repaired: &mut Repaired) -> Result<()> {
    let Repaired { records, steps, .. } = repaired;
    let mut listed: BTreeMap<(u32, LeaseKey), (Right, &ContainerId)> = BTreeMap::new();
    for record in records.iter() {
        let is_alive = kernel::is_alive(&record.holder);
        let affinity = match record.is_rebuilt() {
            true => affinity::load(store, record.identity.as_ref(), &record.container).previous,
            false => Vec::new(),
        };
        let less = Reverse(record.attachments().iter().map(|attached| attached.addresses.len()).sum());
        for attached in record.attachments() {
            for claim in attached.claims() {
                let is_named = store.leased_to(attached.segment, claim)?.as_ref() == Some(&record.container);
                let has_affinity = affinity.iter().any(|(network, previous)| {
                    *network == attached.network && previous.claims().any(|had| had == claim)
                });
                let right = (Right { is_alive, is_named, has_affinity, less }, &record.container);
                let first = listed.entry((attached.segment, claim)).or_insert(right);
                if right.0 > first.0 {
                    *first = right;
                }
            }
        }
    }
    for (&(segment, claim), (right, container)) in &listed {
        if right.is_alive && !right.is_named {
            let path = store.lease_path(segment, claim);
            steps.push(RepairStep::Lease(segment, claim, lease_target(container), path));
        }
    }
    for segment in store.segments()? {
        for claim in store.held(segment)? {
            if listed.contains_key(&(segment, claim)) || store.host_holding(segment, claim)?.is_some() {
                continue;
            }
            let may_hold = |id: &ContainerId| {
                let may_live = !survey.is_whole() || survey.shows(id);
                store.record(id).is_err_and(|error| error.kind().is_left_alone())
                    || may_live && records.iter().all(|record| record.container != *id)
            };
            if !store.leased_to(segment, claim)?.is_some_and(|id| may_hold(&id)) {
                steps.push(RepairStep::Remove(store.lease_path(segment, claim)));
            }
        }
    }
    Ok(())
}

/// Finds parents with our mark but without a record, and unreadable records of parents that do not exist.
fn parents(store: &Store, host: &mut Socket, repaired: &mut Repaired) -> Result<()> {
    let links = host.links()?;
    let marked = links.iter().filter(|link| link.is_made_parent());
    let mut lost: BTreeMap<IfName, &Link> =
        marked.filter_map(|link| Some((link.name.parse().ok()?, link))).collect();
    for name in store.made_parents()? {
        match store.made_parent(&name) {
            Err(error) if error.kind() == Kind::Damaged && lost.contains_key(&name) => {}
            Err(error) if error.kind() == Kind::Damaged => {
                repaired.steps.push(RepairStep::Remove(store.parent_path(&name)));
            }
            Err(error) if !error.kind().is_left_alone() => return Err(error),
            _ => drop(lost.remove(&name)),
        }
    }
    for (name, link) in lost {
        let base = links.iter().find(|base| link.lower == Some(base.ifindex));
        let Some(recipe) = ParentSpec::of_link(link, base) else { continue };
        let (path, ifindex) = (store.parent_path(&name), Some(link.ifindex));
        let born_as = IfName::temporary(std::process::id());
        let parent = MadeParent { version: VERSION, name, recipe, born_as, ifindex };
        repaired.steps.push(RepairStep::Parent(parent, path));
    }
    Ok(())
}

/// Finds host links with our mark but without a record, unreadable records of links that do not exist, and
/// missing leases of known links.
fn host_links(store: &Store, host: &mut Socket, repaired: &mut Repaired) -> Result<()> {
    let links = host.links()?;
    let marked = links.iter().filter_map(|link| {
        let network = host_link::network_of(link.alias.as_deref()?)?;
        (link.name == host_link::name(&network).as_str()).then_some((network, link))
    });
    let marked: BTreeMap<_, _> = marked.collect();
    let mut networks: BTreeSet<_> = marked.keys().cloned().collect();
    networks.extend(store.host_links()?);
    for network in networks {
        let path = store.host_link_path(&network);
        let link = match (store.host_link(&network), marked.get(&network)) {
            (Ok(Some(link)), _) => link,
            (Err(error), _) if error.kind().is_left_alone() => continue,
            (Err(error), _) if error.kind() != Kind::Damaged => return Err(error),
            (Err(_), None) => {
                repaired.steps.push(RepairStep::Remove(path));
                continue;
            }
            (_, Some(found)) => {
                let Some(link) = rebuild::of_host(store, &network, found, host)? else { continue };
                repaired.steps.push(RepairStep::HostLink(Box::new(link.clone()), path));
                link
            }
            (Ok(None), None) => continue,
        };
        for claim in link.addresses.iter().copied().map(LeaseKey::from) {
            if matches!(store.holding(link.segment, claim)?, Holding::Nobody) {
                let path = store.lease_path(link.segment, claim);
                let removes = |step: &RepairStep| matches!(step, RepairStep::Remove(of) if *of == path);
                repaired.steps.retain(|step| !removes(step));
                repaired.steps.push(RepairStep::Lease(
                    link.segment,
                    claim,
                    host_lease_target(&network),
                    path,
                ));
            }
        }
    }
    Ok(())
}

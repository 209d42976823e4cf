//! Repair of a damaged ledger: lost records are rebuilt from the kernel's state, and invalid files are
//! removed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use crate::config::settings::Settings;
use crate::error::{Kind, Result};
use crate::fs::file;
use crate::kernel::{self, Survey, SurveyedLink};
use crate::ledger::host_link;
use crate::ledger::lease_link::{host_lease_target, lease_target};
use crate::ledger::record::{MadeFor, Record, VERSION};
use crate::ledger::{Folder, Holding, Locked, Store};
use crate::lifecycle::affinity;
use crate::lifecycle::context::Context;
use crate::lifecycle::rebuild;
use crate::lifecycle::repair_step::{RepairStep, Repaired};
use crate::lifecycle::reseal::{self, Reseal};
use crate::net::lease_key::LeaseKey;
use crate::net::name::{ContainerId, IfName};
use crate::net::netns::Netns;
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
    let key = match dry_run {
        true => store.known_key(),
        false => store.key(context.settings.lock_timeout()).map(Some),
    };
    let was_lost = store.is_lost()?;
    // Without a key no mark is proven, and no mark can be sealed, so a dry run lists no seals.
    let seals = key.is_ok();
    let key = key.unwrap_or_else(|error| {
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
        do_all(&mut repaired, &locked);
    }
    let before = store.folder()?.unwrap_or(Folder::Lost);
    let after = before.recovered(lost, repaired.failed.is_empty(), repaired.all_found);
    repaired.in_doubt = after != Folder::Whole;
    if !dry_run {
        locked.note(after)?;
    }
    if repaired.in_doubt {
        log::warn!("not all containers are found: parents and host links that they may need stay");
    }
    drop(locked);
    if seals {
        repaired.seals = reseal::find(&repaired.records, &survey.seen, key);
    }
    if let Some(key) = key.filter(|_| !dry_run) {
        // A container that has ended since needs no seal.
        let is_done = |seal: &Reseal| {
            let done = reseal::apply(seal, key).inspect_err(|error| log::warn!("{seal}: {error}"));
            done.unwrap_or_default()
        };
        repaired.seals.retain(is_done);
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
    let mut repaired = Repaired { all_found: survey.is_whole(), ..Repaired::default() };
    let proven: Vec<&SurveyedLink> = survey.seen.iter().filter(|seen| seen.is_proven(key)).collect();
    records(store, settings, survey, &proven, host, &mut repaired)?;
    repaired.all_found &= have_all(&repaired.records, survey);
    leases(store, survey, &mut repaired)?;
    parents(store, host, &mut repaired)?;
    host_links(store, settings, host, &mut repaired)?;
    repaired.steps.extend(locked.left_over()?.into_iter().map(RepairStep::Remove));
    Ok(repaired)
}

/// Carries out the steps. Moves those that fail to the failures.
fn do_all(repaired: &mut Repaired, locked: &Locked<'_>) {
    let mut done = Vec::with_capacity(repaired.steps.len());
    for step in mem::take(&mut repaired.steps) {
        match apply(locked, &step) {
            Ok(()) => done.push(step),
            Err(error) => repaired.failed.push(error),
        }
    }
    repaired.steps = done;
}

/// Returns true if for each mark, one of `records` holds the links of that container in that namespace.
fn have_all(records: &[Record], survey: &Survey) -> bool {
    let place = |netns: &Netns| (netns.device, netns.inode);
    let known: BTreeSet<_> =
        records.iter().map(|record| (record.made_for().container, place(&record.holder.netns))).collect();
    survey.seen.iter().all(|seen| known.contains(&(seen.alias.mark.container.clone(), place(&seen.netns))))
}

fn apply(locked: &Locked<'_>, step: &RepairStep) -> Result<()> {
    log::info!("{step}");
    let (RepairStep::Record(_, path)
    | RepairStep::Lease(.., path)
    | RepairStep::Parent(_, path)
    | RepairStep::HostLink(_, path)
    | RepairStep::Remove(path)) = step;
    if !matches!(step, RepairStep::Remove(_)) {
        file::make_room(path)?;
    }
    match step {
        RepairStep::Record(record, _) => locked.write(record),
        RepairStep::Lease(segment, claim, target, _) => locked.write_lease(*segment, *claim, target),
        RepairStep::Parent(parent, _) => locked.write_parent(parent),
        RepairStep::HostLink(link, _) => locked.write_host_link(link),
        RepairStep::Remove(path) => file::remove(path),
    }
}

/// Finds damaged and missing records, and rebuilds them from links with `proven` marks. A damaged record of a
/// container without links is removed, unless the links may be in a namespace that could not be surveyed. A
/// record that may be sound is left alone ([`Kind::is_left_alone`]).
fn records(
    store: &Store,
    settings: &Settings,
    survey: &Survey,
    proven: &[&SurveyedLink],
    host: &mut Socket,
    repaired: &mut Repaired,
) -> Result<()> {
    let records = store.records()?;
    let known: BTreeSet<_> = records.sound.iter().map(|record| record.container.clone()).collect();
    let unknown = |is_left_alone: bool| {
        let unknown = records.unknown.iter().filter(move |(_, kind)| kind.is_left_alone() == is_left_alone);
        unknown.map(|(id, _)| id).collect::<BTreeSet<_>>()
    };
    let (left_alone, damaged) = (unknown(true), unknown(false));
    // The record of the successor holds links that were handed over.
    let taken_over: BTreeSet<_> = records
        .sound
        .iter()
        .map(Record::made_for)
        .filter(|made_for| !known.contains(&made_for.container))
        .collect();
    let is_taken_over = |seen: &&&SurveyedLink| taken_over.contains(&MadeFor::of(&seen.alias.mark));
    let missing = proven.iter().filter(|seen| !is_taken_over(seen)).map(|seen| &seen.alias.mark.container);
    let lost: BTreeSet<_> = damaged.iter().copied().chain(missing).collect();
    repaired.records = records.sound;
    let lost: Vec<_> =
        lost.into_iter().filter(|id| !known.contains(*id) && !left_alone.contains(*id)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let on_host = host.addresses()?.into_iter().collect();
    let known = rebuild::Known { store, settings, on_host, survey };
    for id in lost {
        let path = store.record_path(id);
        let rebuilt = rebuild::record(&known, id, proven, &repaired.records, host);
        // An error of one container must not keep the others from being repaired.
        let rebuilt = rebuilt.unwrap_or_else(|error| {
            log::warn!("container {id}: {error}");
            None
        });
        match rebuilt {
            Some(record) => {
                repaired.steps.push(RepairStep::Record(Box::new(record.clone()), path));
                repaired.records.push(record);
            }
            None if damaged.contains(id) && survey.is_whole() && !survey.shows(id) => {
                repaired.steps.push(RepairStep::Remove(path));
            }
            None => {}
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
    let mut listed: BTreeMap<(u32, LeaseKey), (Right, &ContainerId)> = BTreeMap::new();
    for record in &repaired.records {
        let is_alive = kernel::is_alive(&record.holder);
        let hints = match record.is_rebuilt() {
            true => affinity::load(store, record.identity.as_ref(), &record.container).hints,
            false => Vec::new(),
        };
        let less = Reverse(record.attachments().iter().map(|attached| attached.addresses.len()).sum());
        for attached in record.attachments() {
            for claim in attached.claims() {
                let is_named = store.leased_to(attached.segment, claim)?.as_ref() == Some(&record.container);
                let has_affinity = hints.iter().any(|(network, hint)| {
                    *network == attached.network && hint.claims().any(|previous| previous == claim)
                });
                let right = Right { is_alive, is_named, has_affinity, less };
                let first = listed.entry((attached.segment, claim)).or_insert((right, &record.container));
                if right > first.0 {
                    *first = (right, &record.container);
                }
            }
        }
    }
    let mut steps = Vec::new();
    for record in repaired.records.iter().filter(|record| kernel::is_alive(&record.holder)) {
        for attached in record.attachments() {
            for claim in attached.claims() {
                let segment = attached.segment;
                let is_mine = listed.get(&(segment, claim)).is_some_and(|(_, of)| **of == record.container);
                if is_mine && store.leased_to(segment, claim)?.as_ref() != Some(&record.container) {
                    let path = store.lease_path(segment, claim);
                    steps.push(RepairStep::Lease(segment, claim, lease_target(&record.container), path));
                }
            }
        }
    }
    for segment in store.segments()? {
        for claim in store.held(segment)? {
            let may_live = || -> Result<bool> {
                let Some(id) = store.leased_to(segment, claim)? else { return Ok(false) };
                let is_seen = !survey.is_whole() || survey.shows(&id);
                Ok(is_seen && repaired.records.iter().all(|record| record.container != id))
            };
            let is_left_alone = || -> Result<bool> {
                let Some(id) = store.leased_to(segment, claim)? else { return Ok(false) };
                Ok(store.record(&id).is_err_and(|error| error.kind().is_left_alone()))
            };
            let is_hosts = || -> Result<bool> { Ok(store.host_holding(segment, claim)?.is_some()) };
            if !listed.contains_key(&(segment, claim)) && !is_left_alone()? && !is_hosts()? && !may_live()? {
                steps.push(RepairStep::Remove(store.lease_path(segment, claim)));
            }
        }
    }
    repaired.steps.extend(steps);
    Ok(())
}

/// Finds parents with our mark but without a record, and unreadable records of parents that do not exist.
fn parents(store: &Store, host: &mut Socket, repaired: &mut Repaired) -> Result<()> {
    let written: BTreeSet<IfName> = store.made_parents()?.into_iter().collect();
    let unread = |name: &IfName| match store.made_parent(name) {
        Err(error) if error.kind() == Kind::Damaged => Ok(true),
        Err(error) if !error.kind().is_left_alone() => Err(error),
        _ => Ok(false),
    };
    for name in &written {
        if unread(name)? && host.link(name)?.is_none_or(|link| !link.is_made_parent()) {
            repaired.steps.push(RepairStep::Remove(store.parent_path(name)));
        }
    }
    let links = host.links()?;
    for link in links.iter().filter(|link| link.is_made_parent()) {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        if written.contains(&name) && !unread(&name)? {
            continue;
        }
        let base = links.iter().find(|base| link.lower == Some(base.ifindex));
        let Some(recipe) = ParentSpec::of_link(link, base) else { continue };
        let born_as = IfName::temporary(std::process::id());
        let path = store.parent_path(&name);
        let ifindex = Some(link.ifindex);
        let parent = MadeParent { version: VERSION, name, recipe, born_as, ifindex };
        repaired.steps.push(RepairStep::Parent(parent, path));
    }
    Ok(())
}

/// Finds host links with our mark but without a record, unreadable records of links that do not exist, and
/// missing leases of known links.
fn host_links(store: &Store, settings: &Settings, host: &mut Socket, repaired: &mut Repaired) -> Result<()> {
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
                let Some(link) = rebuild::of_host(store, settings, &network, found, host)? else { continue };
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

//! The story of a damaged ledger: what was lost is written anew from what the kernel tells, what makes no sense is
//! removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::claim::Claim;
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::host_link::HostLink;
use crate::ipv6::Advertised;
use crate::kernel::{self, NetnsFile, Seen, Socket, Survey};
use crate::mark::Mark;
use crate::mend_host;
use crate::name::{ContainerId, IfName, NetworkName};
use crate::network::Network;
use crate::parent::{MadeParent, Recipe};
use crate::record::{Attached, Holder, Record, State, VERSION};
use crate::settings::Settings;
use crate::shell::Line;
use crate::store::{Locked, Store};
use crate::tuning::Tuning;

/// The addresses and routes of a record that is written anew, at most.
const MOST: usize = 4096;

/// One thing that mends the ledger, shown as a command of the shell where there is one.
#[derive(Clone, Debug)]
pub(crate) enum Mend {
    /// Writes a container's record as the marks of its links tell it.
    Record(Box<Record>, PathBuf),
    /// Writes a lease that a record of a living container lists.
    Lease(u32, Claim, ContainerId, PathBuf),
    /// Writes down a parent whose mark says that underlay has made it.
    Parent(MadeParent, PathBuf),
    /// Writes down the host's link of a network, as its mark tells it.
    HostLink(Box<HostLink>, PathBuf),
    /// Writes a lease that the record of the host's link lists.
    HostLease(u32, Claim, NetworkName, PathBuf),
    /// Removes a lease, record or half-written file that is nobody's.
    Remove(PathBuf),
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record, path) => {
                let addresses = record.attachments.iter().flat_map(|attached| &attached.addresses);
                let addresses: Vec<_> = addresses.map(ToString::to_string).collect();
                write!(f, "# write {} anew: {}", path.display(), addresses.join(", "))
            }
            Self::Lease(_, _, id, path) => {
                let target = format!("../../containers/{id}.json");
                Line::of("ln -sfn").word(target).path(path).fmt(f)
            }
            Self::Parent(parent, path) => write!(f, "# write {} anew: {}", path.display(), parent.recipe),
            Self::HostLink(link, path) => write!(f, "# write {} anew: {}", path.display(), link.name),
            Self::HostLease(_, _, network, path) => {
                let target = format!("../../host_links/{network}.json");
                Line::of("ln -sfn").word(target).path(path).fmt(f)
            }
            Self::Remove(path) => Line::of("rm").path(path).fmt(f),
        }
    }
}

/// What there was to mend, and what the records are then.
#[derive(Debug, Default)]
pub(crate) struct Mended {
    /// What is done, in order, but for what failed.
    pub(crate) steps: Vec<Mend>,
    /// All records that can be read.
    pub(crate) records: Vec<Record>,
    /// Why what failed did.
    pub(crate) failed: Vec<Error>,
}

impl Mended {
    /// Tells what failed, where the rest is enough.
    pub(crate) fn warn(&self) {
        self.failed.iter().for_each(|error| log::warn!("{error}"));
    }

    /// The namespaces of the records that are to be written anew.
    fn namespaces(&self) -> BTreeSet<u64> {
        let inode = |step: &Mend| match step {
            Mend::Record(record, _) => Some(record.holder.netns.inode),
            _ => None,
        };
        self.steps.iter().filter_map(inode).collect()
    }
}

/// Mends the ledger; with `dry_run` it only tells. `home` is the host's namespace, `host` a socket of it.
///
/// # Errors
/// When kernel or ledger cannot be read. What of it fails is among what is returned.
pub(crate) fn mend(
    store: &Store,
    settings: &Settings,
    home: &NetnsFile,
    host: &mut Socket,
    dry_run: bool,
) -> Result<Mended> {
    // Without the lock: it takes as long as there are namespaces, and who attaches meanwhile has a record first.
    let mut survey = kernel::survey(home)?;
    let locked = store.lock(settings.lock_timeout())?;
    let mut mended = find(&locked, settings, &survey, host)?;
    // Who was detached meanwhile looks like one whose record is lost: his links go before his record.
    let doubtful = mended.namespaces();
    if !doubtful.is_empty() {
        survey.look_again(&doubtful, home);
        mended = find(&locked, settings, &survey, host)?;
    }
    if !dry_run {
        let Mended { steps, failed, .. } = &mut mended;
        steps.retain(|step| apply(&locked, step).map_err(|error| failed.push(error)).is_ok());
    }
    Ok(mended)
}

fn find(locked: &Locked<'_>, settings: &Settings, survey: &Survey, host: &mut Socket) -> Result<Mended> {
    let store = locked.store();
    let mut mended = Mended::default();
    records(store, settings, survey, host, &mut mended)?;
    leases(store, survey, &mut mended)?;
    parents(store, host, &mut mended)?;
    mend_host::host_links(store, host, &mut mended)?;
    mended.steps.extend(locked.left_over()?.into_iter().map(Mend::Remove));
    Ok(mended)
}

fn apply(locked: &Locked<'_>, step: &Mend) -> Result<()> {
    log::info!("{step}");
    let (Mend::Record(_, path)
    | Mend::Lease(.., path)
    | Mend::Parent(_, path)
    | Mend::HostLink(_, path)
    | Mend::HostLease(.., path)
    | Mend::Remove(path)) = step;
    // Whatever it is, even a folder: a file cannot take its place.
    file::remove(path)?;
    match step {
        Mend::Record(record, _) => locked.write(record),
        Mend::Lease(segment, claim, container, _) => locked.write_lease(*segment, *claim, container),
        Mend::Parent(parent, _) => locked.write_parent(parent),
        Mend::HostLink(link, _) => locked.write_host_link(link),
        Mend::HostLease(segment, claim, network, _) => locked.write_host_lease(*segment, *claim, network),
        Mend::Remove(_) => Ok(()),
    }
}

/// Damaged and missing records, as far as their containers' links are there; a damaged one of a container without
/// links is of no use, unless these may be where nobody could look. A record of a newer version is left alone.
fn records(
    store: &Store,
    settings: &Settings,
    survey: &Survey,
    host: &mut Socket,
    mended: &mut Mended,
) -> Result<()> {
    let records = store.records()?;
    let known: BTreeSet<_> = records.sound.iter().map(|record| record.container.clone()).collect();
    let is = |kind: Kind| move |unknown: &&(ContainerId, Kind)| unknown.1 == kind;
    let newer: BTreeSet<_> = records.unknown.iter().filter(is(Kind::Newer)).map(|(id, _)| id).collect();
    let damaged: BTreeSet<_> = records.unknown.iter().filter(is(Kind::Damaged)).map(|(id, _)| id).collect();
    let missing = survey.seen.iter().map(|seen| &seen.mark.container);
    let lost: BTreeSet<_> = damaged.iter().copied().chain(missing).collect();
    mended.records = records.sound;
    for id in lost.into_iter().filter(|id| !known.contains(*id) && !newer.contains(*id)) {
        let path = store.record_path(id);
        match rebuild(store, settings, id, &survey.seen, host)? {
            Some(record) => {
                mended.steps.push(Mend::Record(Box::new(record.clone()), path));
                mended.records.push(record);
            }
            None if damaged.contains(id) && survey.is_whole() => mended.steps.push(Mend::Remove(path)),
            None => {}
        }
    }
    Ok(())
}

/// The record of `id` as the marks of its links tell it; `None` if there are none, or their parents are gone.
fn rebuild(
    store: &Store,
    settings: &Settings,
    id: &ContainerId,
    seen: &[Seen],
    host: &mut Socket,
) -> Result<Option<Record>> {
    // Of a container that died and one that was made after it by the same name, the latter.
    let mut lives: BTreeMap<(bool, u64, i32), Vec<&Seen>> = BTreeMap::new();
    for seen in seen.iter().filter(|seen| seen.mark.container == *id) {
        let holder = holder(seen);
        // Who has CAP_NET_ADMIN in a container can forge a mark; not so that it speaks of a process elsewhere.
        if kernel::lives(&holder) && !kernel::is_in(&holder)? {
            log::warn!("alias {} of link {} is a forged mark", seen.mark, seen.link.name);
            continue;
        }
        lives.entry((kernel::lives(&holder), holder.start_time, holder.pid)).or_default().push(seen);
    }
    let Some((_, mut links)) = lives.pop_last() else { return Ok(None) };
    links.sort_by_key(|seen| seen.mark.index);
    let Some(holder) = links.first().map(|seen| holder(seen)) else { return Ok(None) };
    let mut attachments = Vec::new();
    let mut size = 0;
    for (index, seen) in links.into_iter().enumerate() {
        // The mark of a link says which attachment it is: behind a gap it would be another.
        if seen.mark.index != index {
            break;
        }
        // What no attach has made is not written either: it would be more than one file can hold.
        size += seen.addresses.len() + seen.routes.len();
        if size > MOST {
            break;
        }
        attachments.extend(attached(store, settings, seen, host)?);
    }
    if attachments.is_empty() {
        return Ok(None);
    }
    let (container, state) = (id.clone(), State::Attached);
    // The mark tells no identity: what is remembered of it stays as it is.
    Ok(Some(Record {
        version: VERSION,
        container,
        identity: None,
        state,
        holder,
        marked_as: None,
        shares: None,
        attachments,
    }))
}

fn holder(seen: &Seen) -> Holder {
    let Mark { pid, start_time, .. } = seen.mark;
    Holder { pid, start_time, pid_namespace: kernel::pid_namespace(), netns: seen.netns.clone() }
}

fn attached(store: &Store, settings: &Settings, seen: &Seen, host: &mut Socket) -> Result<Option<Attached>> {
    let Some(parent) = host.link_by_index(seen.parent_index)? else { return Ok(None) };
    let (Ok(name), Ok(ifname), Some(driver)) =
        (parent.name.parse(), seen.link.name.parse(), seen.link.driver)
    else {
        return Ok(None);
    };
    // A container may have given itself more.
    let network = store.network(&seen.mark.network).ok().map(|network| settings.complete(network));
    let is_ours =
        |net: &&IpNet| network.as_ref().is_none_or(|network| network.subnet_of(net.addr()).is_some());
    Ok(Some(Attached {
        network: seen.mark.network.clone(),
        driver,
        parent: name,
        parent_index: parent.ifindex,
        segment: parent.segment(),
        ifname,
        ifindex: Some(seen.link.ifindex),
        mac: seen.link.mac,
        mtu: None,
        bclim: None,
        tuning: Tuning::default(),
        host_link: mend_host::host_link_of(network.as_ref(), &seen.mark.network, host)?,
        detection: network.as_ref().and_then(|network| network.detection_on(&parent)),
        announcements: network.as_ref().map_or(0, Network::announced),
        // Set once, when the link was made.
        advertised: Advertised::default(),
        addresses: seen.addresses.iter().filter(is_ours).copied().collect(),
        routes: seen.routes.clone(),
        table: seen.table.clone(),
    }))
}

/// Leases that records of living containers list and nobody has; then those that no record lists, but for those of
/// containers that may be where nobody could look.
fn leases(store: &Store, survey: &Survey, mended: &mut Mended) -> Result<()> {
    let mut listed: BTreeMap<(u32, Claim), &ContainerId> = BTreeMap::new();
    for record in &mended.records {
        let lives = kernel::lives(&record.holder);
        for attached in &record.attachments {
            for claim in attached.claims() {
                let held = (attached.segment, claim);
                // Of two, the living has it.
                if lives {
                    listed.insert(held, &record.container);
                } else {
                    listed.entry(held).or_insert(&record.container);
                }
            }
        }
    }
    let mut steps = Vec::new();
    for record in mended.records.iter().filter(|record| kernel::lives(&record.holder)) {
        for attached in &record.attachments {
            for claim in attached.claims() {
                let segment = attached.segment;
                let is_mine = listed.get(&(segment, claim)) == Some(&&record.container);
                if is_mine && store.leased_to(segment, claim)?.as_ref() != Some(&record.container) {
                    let path = store.lease_path(segment, claim);
                    steps.push(Mend::Lease(segment, claim, record.container.clone(), path));
                }
            }
        }
    }
    for segment in store.segments()? {
        for claim in store.held(segment)? {
            let may_live = || -> Result<bool> {
                let Some(id) = store.leased_to(segment, claim)?.filter(|_| !survey.is_whole()) else {
                    return Ok(false);
                };
                Ok(mended.records.iter().all(|record| record.container != id))
            };
            let of_newer = || -> Result<bool> {
                let Some(id) = store.leased_to(segment, claim)? else { return Ok(false) };
                Ok(store.record(&id).is_err_and(|error| error.kind() == Kind::Newer))
            };
            let is_hosts = || -> Result<bool> { Ok(store.host_holding(segment, claim)?.is_some()) };
            if !listed.contains_key(&(segment, claim)) && !of_newer()? && !is_hosts()? && !may_live()? {
                steps.push(Mend::Remove(store.lease_path(segment, claim)));
            }
        }
    }
    mended.steps.extend(steps);
    Ok(())
}

/// Parents that bear our mark and are not written down; and what is written of parents that are gone and cannot be
/// read.
fn parents(store: &Store, host: &mut Socket, mended: &mut Mended) -> Result<()> {
    let written: BTreeSet<IfName> = store.made_parents()?.into_iter().collect();
    let unread = |name: &IfName| match store.made_parent(name) {
        Err(error) if error.kind() == Kind::Damaged => Ok(true),
        Err(error) if error.kind() != Kind::Newer => Err(error),
        _ => Ok(false),
    };
    for name in &written {
        if unread(name)? && host.link(name)?.is_none_or(|link| !link.is_made_parent()) {
            mended.steps.push(Mend::Remove(store.parent_path(name)));
        }
    }
    let links = host.links()?;
    for link in links.iter().filter(|link| link.is_made_parent()) {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        if written.contains(&name) && !unread(&name)? {
            continue;
        }
        let base = links.iter().find(|base| link.lower == Some(base.ifindex));
        let Some(recipe) = Recipe::of_link(link, base) else { continue };
        let born_as = IfName::temporary(std::process::id());
        let path = store.parent_path(&name);
        let parent = MadeParent { version: VERSION, name, recipe, born_as, ifindex: Some(link.ifindex) };
        mended.steps.push(Mend::Parent(parent, path));
    }
    Ok(())
}

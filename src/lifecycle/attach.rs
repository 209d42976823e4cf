//! Attach: a network namespace gets the links that its container asks for, with addresses and routes.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ipam::assign::{self, ResolvedAttachment};
use crate::ipam::previous::{self, Hint};
use crate::ipam::reserve::{Applicant, HostFacts};
use crate::kernel::{self, CreatedLink};
use crate::ledger::record::{Links, Record, State};
use crate::ledger::{Locked, Store};
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::conflicts;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access;
use crate::lifecycle::host_facts;
use crate::lifecycle::parents;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::reserve;
use crate::lifecycle::shared_netns;
use crate::lifecycle::target::{AttachmentRequest, Target};
use crate::net::link::Link;
use crate::net::name::{ContainerId, IfName};
use crate::net::route::DefaultRoutes;
use crate::net::seal::Alias;
use crate::netlink::{Socket, is_in_use};
use crate::plan;
use crate::plan::persistent;

/// Attaches `target` to the networks of `requests`: to all of them, or to none. `None` if its container is attached
/// already.
///
/// The calling thread is in the namespace of `target` afterwards.
///
/// # Errors
/// The first thing that is wrong. No link, lease or record is left behind.
pub(crate) fn attach(
    context: &mut Context<'_>,
    target: &Target,
    requests: &[AttachmentRequest],
) -> Result<Option<Record>> {
    let (store, container) = (context.store, &target.container);
    let parents = host_facts::parents(requests, &mut context.host_netlink)?;
    repair::recover(context)?;
    let memory = affinity::recall(store, target.identity.as_ref(), container);
    let hints = previous::of(requests.iter().map(|request| &request.options), &memory.hints);
    for (request, had) in requests.iter().zip(&hints) {
        if let Some(parent) = parents.get(&request.network.parent) {
            release::reclaim_previous(context, had, parent);
        }
    }
    let on_host = host_facts::on_host(requests, &mut context.host_netlink)?;
    let ways = host_facts::ways(requests, &mut context.host_netlink)?;

    // Before this thread leaves it.
    context.host_netns.get()?;
    context.host_netlink.connect()?;
    target.netns.enter()?;
    let mut inside = Socket::open()?;
    let links = inside.links()?;
    // Into a namespace that the runtime made for this container no other has come yet.
    if target.holder.netns.path.is_some() {
        if let Some(joined) = shared_netns::join(context, target, requests, &marked(&links))? {
            return Ok(Some(joined));
        }
    }
    let links = without_the_dead(context, target, requests, links, &mut inside)?;
    let names = assign::names(requests.iter().map(|request| &request.options), &links)?;
    // A namespace with nothing but `lo` has no routes.
    let default_routes = if links.len() > 1 { inside.default_routes()? } else { DefaultRoutes::default() };
    let neighbours = host_facts::neighbours(requests, &parents, &mut context.host_netlink)?;
    let present = HostFacts { on_host, ways, neighbours, default_routes };
    let mut attach = Attach { context, target, requests, hints: &hints, names: &names, parents: &parents };
    let (mut freed, mut avoid_previous) = (false, false);
    loop {
        let reserved = attach.reserve(&present, avoid_previous);
        let Some((mut record, wanted)) = reserved.inspect_err(|_| attach.drop_parents())? else {
            log::info!("container {container} is attached already: the hook was called twice");
            return Ok(None);
        };
        let error = match attach.make(&mut record, &wanted, &present, &mut inside) {
            Ok(()) => {
                announce::repeat(attach.context, &record);
                affinity::keep(store, &record, &memory);
                return Ok(Some(record));
            }
            Err(error) => error,
        };
        // If that fails too, the container dies of the error, and its record is reclaimed as that of any dead container.
        if let Err(other) = release::release(attach.context, &record) {
            log::warn!("{other}");
            return Err(error);
        }
        if !freed && host_access::is_in_the_way(&error) {
            freed = true;
            if release::reclaim_host_links(attach.context, &record)? {
                continue;
            }
        } else if !avoid_previous && is_in_use(&error) && attach.can_differ() {
            // A link that is not in the ledger, or is slow to go, has what this one had before: another will do.
            log::warn!("{error}; another one is taken");
            avoid_previous = true;
            continue;
        }
        return Err(error);
    }
}

/// The containers that the marks of `links` name.
fn marked(links: &[Link]) -> BTreeSet<ContainerId> {
    let alias = |link: &Link| link.alias.as_deref()?.parse::<Alias>().ok();
    links.iter().filter_map(|link| Some(alias(link)?.mark.container)).collect()
}

/// The names of `links`, those in the namespace of `target`. Links of containers that died in it, and that no poststop
/// has deleted, are deleted first: CRI-O calls their poststop after the successor's create, and containerd may never. So
/// is what else they have left there, if `requests` ask for rules or routes that outlive links.
fn without_the_dead(
    context: &mut Context<'_>,
    target: &Target,
    requests: &[AttachmentRequest],
    mut links: Vec<Link>,
    inside: &mut Socket,
) -> Result<BTreeSet<String>> {
    let (store, netns) = (context.store, &target.holder.netns);
    let mut left = marked(&links);
    if requests.iter().any(|request| persistent::is_wanted(&request.options, &request.network)) {
        left.extend(store.records()?.sound.into_iter().map(|record| record.container));
    } else if netns.path.is_some() {
        left.extend(store.records_in(netns)?.into_iter().map(|record| record.container));
    }
    let mut any = false;
    // A mark is only a way to a record, which must speak of this very namespace: a container can write any mark here, and
    // reaches none elsewhere.
    for record in store.records_of(netns, left)?.iter().filter(|record| !kernel::lives(&record.holder)) {
        log::info!("container {} died in this namespace: its links are deleted", record.container);
        release::reclaim(context, record)?;
        any = true;
    }
    if any {
        links = inside.links()?;
    }
    Ok(links.into_iter().map(|link| link.name).collect())
}

/// What does not change while a container is attached.
struct Attach<'a, 's> {
    context: &'a mut Context<'s>,
    target: &'a Target,
    requests: &'a [AttachmentRequest],
    /// What the identity had before, by request.
    hints: &'a [Hint],
    /// The names of the links, by request.
    names: &'a [IfName],
    /// The parents that were there.
    parents: &'a BTreeMap<IfName, Link>,
}

impl<'s> Attach<'_, 's> {
    /// Writes the pending record. What dead containers hold is reclaimed if it is in the way, once. `None` if this
    /// very container is attached already: the hook was called twice.
    fn reserve(
        &mut self,
        present: &HostFacts,
        avoid_previous: bool,
    ) -> Result<Option<(Record, Vec<ResolvedAttachment>)>> {
        let store = self.context.store;
        let Target { container, identity, holder, .. } = self.target;
        let (mut reclaimed, mut repaired) = (false, false);
        loop {
            let locked = self.context.lock()?;
            let old = match store.record(container) {
                Err(error) if error.kind() == Kind::Damaged && !repaired => {
                    log::warn!("{error}");
                    drop(locked);
                    repaired = true;
                    repair::mend(self.context, false)?.warn();
                    continue;
                }
                // What it said is lost. The runtime has made another container of that id, so it is over.
                Err(error) if error.kind() == Kind::Damaged => {
                    file::remove(&store.record_path(container))?;
                    None
                }
                old => old?,
            };
            if let Some(old) = old {
                if old.holder == *holder {
                    // Whether the hook that wrote a pending record still runs cannot be told: it is left alone.
                    return if old.is_pending() { Err(cut_short(&old)) } else { Ok(None) };
                }
                if kernel::lives(&old.holder) {
                    return Err(attached_already(&old));
                }
                drop(locked);
                release::reclaim(self.context, &old)?;
                continue;
            }
            self.refuse_removed(store)?;
            let wanted = self.wanted(&locked)?;
            host_access::refuse_elsewhere(store, &wanted, &mut self.context.host_netlink)?;
            let applicant = Applicant { container, identity: identity.as_ref(), holder, avoid_previous };
            match reserve::reserve(&locked, applicant, &wanted, present, kernel::lives) {
                Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !reclaimed => {
                    drop(locked);
                    reclaimed = true;
                    if !release::reclaim_dead(self.context, &wanted)? {
                        return Err(error);
                    }
                }
                reserved => return reserved.map(|record| Some((record, wanted))),
            }
        }
    }

    /// Whether another address or MAC address than the previous ones would do.
    fn can_differ(&self) -> bool {
        self.requests.iter().zip(self.hints).any(|(AttachmentRequest { options, network, .. }, had)| {
            !had.addresses.is_empty() || network.driver.has_own_mac() && options.mac.is_none()
        })
    }

    /// A network may have been removed since its file was read; from now on it cannot be.
    fn refuse_removed(&self, store: &Store) -> Result<()> {
        for AttachmentRequest { network, .. } in self.requests.iter().filter(|request| !request.is_inline) {
            if !store.has_network(&network.name)? {
                let text = format!("network {} was removed meanwhile", network.name);
                return Err(Error::new(Kind::NotFound, text));
            }
        }
        Ok(())
    }

    /// What is wanted, with every parent there: those that underlay makes are made where they are missing.
    fn wanted(&mut self, locked: &Locked<'_>) -> Result<Vec<ResolvedAttachment>> {
        let host = &mut self.context.host_netlink;
        let all = self.requests.iter().zip(self.names).zip(self.hints);
        all.map(|((AttachmentRequest { options, network, .. }, ifname), hint)| {
            let parent = match self.parents.get(&network.parent).filter(|link| !link.is_made_parent()) {
                Some(parent) => parent.clone(),
                // Found or made under the lock, so that it is not deleted meanwhile.
                None => parents::ensure(locked, network, host)?,
            };
            let (request, network, ifname) = (options.clone(), network.clone(), ifname.clone());
            Ok(ResolvedAttachment { request, network, parent, ifname, hint: hint.clone() })
        })
        .collect()
    }

    /// Deletes the parents that were made for nothing.
    fn drop_parents(&mut self) {
        let networks = self.requests.iter().map(|request| &request.network);
        let mut made = networks.filter(|network| matches!(network.recipe(), Ok(Some(_)))).peekable();
        if made.peek().is_none() {
            return;
        }
        let dropped = self.context.lock().and_then(|locked| {
            let host = &mut self.context.host_netlink;
            made.try_for_each(|network| parents::drop_unneeded_of(&locked, network, host))
        });
        if let Err(error) = dropped {
            log::warn!("{error}");
        }
    }

    /// Makes what the pending record says, and confirms it. Where an address turns out to be another host's, the record
    /// gets another first.
    fn make(
        &mut self,
        record: &mut Record,
        wanted: &[ResolvedAttachment],
        present: &HostFacts,
        inside: &mut Socket,
    ) -> Result<()> {
        let host_probes = host_access::begin_probes(self.context, record, present)?;
        let context = &mut *self.context;
        let mut probing = conflicts::Probing { context, wanted, present };
        let probes = probing.begin(record)?;
        let context = &mut *probing.context;
        let key = context.store.key(context.settings.lock_timeout());
        let key = key.inspect_err(|e| log::warn!("the marks of its links are not sealed: {}", e.in_full()));
        let (plan, host) = (plan::attach(record), &mut context.host_netlink);
        let (made, nsid) = kernel::attach(&plan, key.ok(), host, inside, &self.target.netns)?;
        if record.is_probed() {
            probing.settle(record, &made, probes, inside)?;
        }
        host_access::ensure(self.context, record, present, host_probes)?;
        confirm(record, &made, nsid);
        self.context.lock()?.write(record)
    }
}

fn confirm(record: &mut Record, made: &[CreatedLink], nsid: Option<i32>) {
    let Links::Own(own) = &mut record.links else { return };
    for (attached, made) in own.attachments.iter_mut().zip(made) {
        attached.ifindex = Some(made.ifindex);
        // One of its own is leased.
        attached.mac = attached.mac.or(made.mac);
    }
    own.nsid = nsid;
    own.state = State::Attached;
}

/// The error for a container whose id another one has, in `old`.
pub(crate) fn attached_already(old: &Record) -> Error {
    let text = format!("container id {} is attached already, with pid {}", old.container, old.holder.pid);
    Error::new(Kind::Taken, text).hint("two runtimes use the same id: rename one container")
}

/// The error for a container that has a record of its own which was never confirmed.
fn cut_short(old: &Record) -> Error {
    let text = format!("an earlier attach of container {} was killed, or has not ended yet", old.container);
    Error::new(Kind::Taken, text)
        .hint("stop the container and start it again: what was half made is taken back when it is gone")
}

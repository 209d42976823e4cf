//! Attach: a network namespace gets the links that its container asks for, with addresses and routes.

use std::collections::{BTreeMap, BTreeSet};

use nix::libc;

use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ipam::assign::{self, ResolvedAttachment};
use crate::ipam::previous::{self, Hint};
use crate::ipam::reserve::{Applicant, HostFacts};
use crate::kernel::{self, CreatedLink};
use crate::ledger::record::{Links, Nsid, Record, State};
use crate::ledger::{Locked, Store};
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::conflicts;
use crate::lifecycle::context::Context;
use crate::lifecycle::gc;
use crate::lifecycle::host_access;
use crate::lifecycle::host_facts;
use crate::lifecycle::host_links;
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

/// Attaches `target` to the networks of `requests`: to all of them, or to none. Returns `None` if its container is
/// attached already.
///
/// The calling thread is in the namespace of `target` afterwards.
///
/// # Errors
/// No link, lease or record is left behind.
pub(crate) fn attach(
    context: &mut Context<'_>,
    target: &Target,
    requests: &[AttachmentRequest],
) -> Result<Option<Record>> {
    let (store, container) = (context.store, &target.container);
    let parents = host_facts::parents(requests, &mut context.host_netlink)?;
    repair::recover(context)?;
    let affinity = affinity::load(store, target.identity.as_ref(), container);
    let hints = previous::of(requests.iter().map(|request| &request.options), &affinity.hints);
    for (request, previous) in requests.iter().zip(&hints) {
        if let Some(parent) = parents.get(&request.network.parent) {
            release::reclaim_previous(context, previous, parent);
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
    // A namespace without a path was made by the runtime for this container: no other is in it yet.
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
    let (mut collected, mut avoid_previous) = (false, false);
    loop {
        let reserved = attach.reserve(&present, avoid_previous);
        let Some((mut record, wanted)) = reserved.inspect_err(|_| attach.drop_parents())? else {
            log::info!("container {container} is attached already: the hook was called twice");
            return Ok(None);
        };
        let error = match attach.make(&mut record, &wanted, &present, &mut inside) {
            Ok(()) => {
                announce::repeat(attach.context, &record);
                affinity::save(store, &record, &affinity);
                return Ok(Some(record));
            }
            Err(error) => error,
        };
        // If that fails too, the container dies of the error, and its record is reclaimed as that of any dead container.
        if let Err(other) = release::release(attach.context, &record) {
            log::warn!("{other}");
            return Err(error);
        }
        // All links of a parent are of one kind: one that only dead containers need may be in the way.
        if !collected && matches!(error.kind(), Kind::Kernel(libc::EBUSY | libc::EINVAL)) {
            collected = true;
            if gc::gc(attach.context, false, false).is_ok_and(|collected| !collected.done.is_empty()) {
                continue;
            }
        } else if !avoid_previous && is_in_use(&error) && attach.can_differ() {
            // A link outside the ledger, or one that is still being deleted, has the previous address: avoid it.
            log::warn!("{error}; another one is taken");
            avoid_previous = true;
            continue;
        }
        return Err(error);
    }
}

/// Returns the containers that the marks of `links` name.
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
    for record in store.records_of(netns, left)?.iter().filter(|record| !kernel::is_alive(&record.holder)) {
        log::info!("container {} died in this namespace: its links are deleted", record.container);
        release::reclaim(context, record)?;
        any = true;
    }
    if any {
        links = inside.links()?;
    }
    Ok(links.into_iter().map(|link| link.name).collect())
}

/// What stays the same during an attach.
struct Attach<'a, 's> {
    context: &'a mut Context<'s>,
    target: &'a Target,
    requests: &'a [AttachmentRequest],
    /// The previous assignments of the identity, by request.
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
                    repair::repair(self.context, false)?.warn();
                    continue;
                }
                // The record is lost. The runtime has made a new container of that id, so the old one is dead.
                Err(error) if error.kind() == Kind::Damaged => {
                    file::remove(&store.record_path(container))?;
                    None
                }
                old => old?,
            };
            if let Some(old) = old {
                if old.holder == *holder {
                    // The hook that wrote a pending record may still run: leave the record alone.
                    return if old.is_pending() { Err(cut_short(&old)) } else { Ok(None) };
                }
                drop(locked);
                if kernel::is_alive(&old.holder) {
                    if shared_netns::hand_over_of_version_1(self.context, &old)? {
                        continue;
                    }
                    return Err(attached_already(&old));
                }
                release::reclaim(self.context, &old)?;
                continue;
            }
            self.refuse_removed(store)?;
            let wanted = self.wanted(&locked)?;
            host_access::refuse_elsewhere(store, &wanted, &mut self.context.host_netlink)?;
            let nsid = Some(self.nsid()?);
            let applicant =
                Applicant { container, identity: identity.as_ref(), holder, nsid, avoid_previous };
            match reserve::reserve(&locked, applicant, &wanted, present, kernel::is_alive) {
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

    /// The number that the host's namespace gets for that of the container, if it can.
    fn nsid(&self) -> Result<Nsid> {
        let host = self.context.host_netns.get()?.inode();
        Ok(Nsid { host, id: kernel::usual_number(&self.target.netns) })
    }

    /// Whether another address or MAC address than the previous ones would do.
    fn can_differ(&self) -> bool {
        self.requests.iter().zip(self.hints).any(|(AttachmentRequest { options, network, .. }, previous)| {
            !previous.addresses.is_empty() || network.driver.has_own_mac() && options.mac.is_none()
        })
    }

    /// Checks again, now under the lock: a network may have been removed since its file was read.
    fn refuse_removed(&self, store: &Store) -> Result<()> {
        for AttachmentRequest { network, .. } in self.requests.iter().filter(|request| !request.is_inline) {
            if !store.has_network(&network.name)? {
                let text = format!("network {} was removed during the attach", network.name);
                return Err(Error::new(Kind::NotFound, text));
            }
        }
        Ok(())
    }

    /// Resolves the requests, and makes missing parents.
    fn wanted(&mut self, locked: &Locked<'_>) -> Result<Vec<ResolvedAttachment>> {
        let host = &mut self.context.host_netlink;
        let all = self.requests.iter().zip(self.names).zip(self.hints);
        all.map(|((AttachmentRequest { options, network, .. }, ifname), hint)| {
            let parent = match self.parents.get(&network.parent).filter(|link| !link.is_made_parent()) {
                Some(parent) => parent.clone(),
                // Found or made under the lock, so that no other process deletes it.
                None => parents::ensure(locked, network, host)?,
            };
            let (request, network, ifname) = (options.clone(), network.clone(), ifname.clone());
            Ok(ResolvedAttachment { request, network, parent, ifname, hint: hint.clone() })
        })
        .collect()
    }

    /// Deletes the parents that were made for an attach that fails.
    fn drop_parents(&mut self) {
        let networks = self.requests.iter().map(|request| &request.network);
        let mut made = networks.filter(|network| matches!(network.recipe(), Ok(Some(_)))).peekable();
        if made.peek().is_none() {
            return;
        }
        let dropped = self.context.lock().and_then(|locked| {
            let host = &mut self.context.host_netlink;
            made.try_for_each(|network| parents::delete_unused_of(&locked, network, host))
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
        let host_probes = host_links::begin(self.context, record, present)?;
        let context = &mut *self.context;
        let mut probing = conflicts::Probing { context, wanted, present };
        let probes = probing.begin(record)?;
        let context = &mut *probing.context;
        let key = context.store.key(context.settings.lock_timeout());
        let key = key.inspect_err(|e| log::warn!("the marks of its links are not sealed: {}", e.in_full()));
        let (plan, host) = (plan::attach(record), &mut context.host_netlink);
        let (made, nsid) = kernel::attach(&plan, key.ok(), host, inside, &self.target.netns)?;
        if record.is_probed() {
            probing.resolve_conflicts(record, &made, probes, inside)?;
        }
        host_links::ensure(self.context, record, present, host_probes)?;
        let host = self.context.host_netns.get()?.inode();
        confirm(record, &made, nsid.map(|id| Nsid { host, id }));
        let locked = self.context.lock()?;
        // A poststop may have released the pending record meanwhile, and its addresses may be another's.
        if !file::exists(&locked.store().record_path(&record.container))? {
            release::delete_links(self.context, record)?;
            let text = format!("container {} was stopped while it was attached", record.container);
            return Err(Error::new(Kind::Taken, text));
        }
        locked.write(record)
    }
}

fn confirm(record: &mut Record, made: &[CreatedLink], nsid: Option<Nsid>) {
    let Links::Own(own) = &mut record.links else { return };
    for (attached, made) in own.attachments.iter_mut().zip(made) {
        attached.ifindex = Some(made.ifindex);
        // A link with its own MAC address has a leased one; others take over that of the parent.
        attached.mac = attached.mac.or(made.mac);
    }
    own.nsid = nsid;
    own.state = State::Attached;
}

/// Returns the error for a container whose id another one has, in `old`.
pub(crate) fn attached_already(old: &Record) -> Error {
    let text = format!("container id {} is attached already, with pid {}", old.container, old.holder.pid);
    Error::new(Kind::Taken, text).hint("two runtimes use the same id: rename one container")
}

/// Returns the error for a container with a pending record of its own.
fn cut_short(old: &Record) -> Error {
    let text = format!("an earlier attach of container {} was killed, or has not ended yet", old.container);
    Error::new(Kind::Taken, text)
        .hint("stop the container and start it again: its links and addresses are reclaimed when it is gone")
}

//! Attach: a network namespace gets the links that its container asks for, with addresses and routes.

use std::collections::BTreeSet;

use nix::libc;

use crate::error::{Error, Kind, Result};
use crate::fs::file;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::{Applicant, HostFacts};
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::holder::Holder;
use crate::ledger::record::{Links, Nsid, Record, State};
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::conflicts;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp;
use crate::lifecycle::host_access;
use crate::lifecycle::host_facts;
use crate::lifecycle::host_links;
use crate::lifecycle::parents;
use crate::lifecycle::pod;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::reserve;
use crate::lifecycle::target::{AttachmentRequest, Target};
use crate::net::link::Link;
use crate::net::name::ContainerId;
use crate::net::route::DefaultRoutes;
use crate::net::seal::Alias;
use crate::netlink::{Socket, is_address_in_use};
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

    // Before this thread leaves it.
    context.host_netns.get()?;
    context.host_netlink.connect()?;
    target.netns.enter()?;
    let mut inside = Socket::open()?;
    let links = inside.links()?;
    // A namespace without a path was made by the runtime for this container: no other is in it yet. An engine that has mounted
    // it asks for a link of its own.
    if target.holder.process().is_some() && target.holder.netns().path.is_some() {
        if let Some(joined) = pod::join(context, target, requests, &marked(&links))? {
            return Ok(Some(joined));
        }
    }
    let links = without_the_dead(context, target, requests, links, &mut inside)?;
    let wanted = host_facts::resolve(requests, parents, &links, &affinity)?;
    for wanted in &wanted {
        release::reclaim_previous(context, &wanted.previous, &wanted.parent);
    }
    // A namespace with nothing but `lo` has no routes. An engine that attaches a container to each network by itself does so in any
    // order: metrics say which default route counts.
    let default_routes = match links.len() > 1 && target.holder.process().is_some() {
        true => inside.default_routes()?,
        false => DefaultRoutes::default(),
    };
    let facts = host_facts::read(store, &wanted, default_routes, &mut context.host_netlink)?;
    let mut attach = Attach { context, target, requests, wanted, facts, avoid_previous: false };
    let mut freed = false;
    loop {
        let reserved = attach.reserve();
        let Some(mut record) = reserved.inspect_err(|_| attach.drop_parents())? else {
            log::info!("container {container} is attached already: the hook was called twice");
            return Ok(None);
        };
        let Err(error) = attach.make(&mut record, &mut inside) else {
            call_agent(store, &record);
            if record.has_dhcp() {
                dhcp::tell_names(attach.context, &record, target.resolv_conf.as_deref());
                dhcp::tell_if_unattended(store, &record);
            }
            affinity::save(store, &record, &affinity);
            return Ok(Some(record));
        };
        // If that fails too, the container dies of the error, and its record is reclaimed as that of any dead container.
        if let Err(other) = release::release(attach.context, &record) {
            log::warn!("{other}");
            return Err(error);
        }
        // A DHCP server may offer what a dead container has.
        if !freed && error.kind() == Kind::Taken && record.has_dhcp() {
            freed = true;
            let reclaimed = release::reclaim_dead(attach.context, &attach.wanted);
            if reclaimed.inspect_err(|other| log::warn!("{other}")).unwrap_or_default() {
                continue;
            }
        }
        // All links of a parent are of one kind: one that only dead containers need may be in the way.
        if !freed && matches!(error.kind(), Kind::Kernel(libc::EBUSY | libc::EINVAL)) {
            freed = true;
            let segments = record.attachments().iter().map(|attached| attached.segment).collect();
            let reclaimed = release::reclaim_ended(attach.context, &segments)
                .and_then(|any| release::reclaim_host_links(attach.context, &record).map(|more| any || more));
            if reclaimed.inspect_err(|other| log::warn!("{other}")).unwrap_or_default() {
                continue;
            }
        } else if !attach.avoid_previous && is_address_in_use(&error) && attach.wanted.iter().any(can_differ)
        {
            // A link outside the ledger, or one that is still being deleted, has the previous address: avoid it.
            log::warn!("{error}; another one is taken");
            attach.avoid_previous = true;
            continue;
        }
        return Err(error);
    }
}

/// Leaves the agent word of `record`, if anything is due after the attach. A failure is logged only: the addresses have been
/// announced once.
pub(super) fn call_agent(store: &Store, record: &Record) {
    if announce::times(record) > 1 || record.is_detected() || record.has_dhcp() {
        let called = store.call_agent(&record.container).and_then(|()| match affinity::is_time_to_trim() {
            // Where no agent runs, nothing else removes them.
            true => store.trim_tasks(),
            false => Ok(()),
        });
        called.unwrap_or_else(|error| log::warn!("{error}"));
    }
}

/// Whether another address or MAC address than the previous ones would do.
fn can_differ(wanted: &ResolvedAttachment) -> bool {
    !wanted.previous.addresses.is_empty()
        || wanted.network.driver.has_own_mac() && wanted.request.mac.is_none()
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
    let (store, netns) = (context.store, target.holder.netns());
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

/// An attach under way.
struct Attach<'a, 's> {
    context: &'a mut Context<'s>,
    target: &'a Target,
    requests: &'a [AttachmentRequest],
    wanted: Vec<ResolvedAttachment>,
    facts: HostFacts,
    /// True if a link that is not in the ledger uses the previous addresses of the identity.
    avoid_previous: bool,
}

impl<'s> Attach<'_, 's> {
    /// Writes the pending record. What dead containers hold is reclaimed if it is in the way, once. `None` if this
    /// very container is attached already: the hook was called twice.
    fn reserve(&mut self) -> Result<Option<Record>> {
        let store = self.context.store;
        let Target { container, identity, host_name, holder, netns, .. } = self.target;
        let (mut reclaimed, mut repaired) = (false, false);
        loop {
            let locked = self.context.lock()?;
            match store.record(container) {
                Ok(None) => {}
                // The hook that wrote a pending record may still run: leave the record alone.
                Ok(Some(old)) if old.holder == *holder => {
                    return if old.is_pending() { Err(cut_short(&old)) } else { Ok(None) };
                }
                Ok(Some(old)) => {
                    drop(locked);
                    if !kernel::is_alive(&old.holder) || is_over(&old, holder)? {
                        release::reclaim_for_successor(self.context, &old)?;
                    } else if !pod::hand_over_of_version_1(self.context, &old)? {
                        return Err(attached_already(&old));
                    }
                    continue;
                }
                Err(error) if error.kind() == Kind::Damaged && !repaired => {
                    log::warn!("{error}");
                    drop(locked);
                    repaired = true;
                    repair::repair(self.context, false)?.warn();
                    continue;
                }
                // The record is lost. The runtime has made a new container of that id, so the old one is dead.
                Err(error) if error.kind() == Kind::Damaged => file::remove(&store.record_path(container))?,
                Err(error) => return Err(error),
            }
            self.refuse_removed()?;
            // Found or made under the lock, so that no other process deletes it.
            for wanted in self.wanted.iter_mut().filter(|wanted| wanted.parent.is_made_parent()) {
                wanted.parent = parents::ensure(&locked, &wanted.network, &mut self.context.host_netlink)?;
            }
            let (wanted, avoid_previous) = (&self.wanted, self.avoid_previous);
            host_access::refuse_elsewhere(store, wanted, &mut self.context.host_netlink)?;
            let host = self.context.host_netns.get()?.inode();
            let nsid = Some(Nsid { host, id: kernel::usual_number(netns) });
            let (identity, host_name) = (identity.as_ref(), host_name.as_ref());
            let applicant = Applicant { container, identity, host_name, holder, nsid, avoid_previous };
            match reserve::reserve(&locked, applicant, wanted, &self.facts, kernel::is_alive) {
                Err(error) if matches!(error.kind(), Kind::Exhausted | Kind::Taken) && !reclaimed => {
                    drop(locked);
                    reclaimed = true;
                    // It is tried again in any case: the agent may have released what was in the way meanwhile.
                    log::debug!("{error}");
                    release::reclaim_dead(self.context, wanted)?;
                }
                reserved => return reserved.map(Some),
            }
        }
    }

    /// Checks again, now under the lock: a network may have been removed since its file was read.
    fn refuse_removed(&self) -> Result<()> {
        for AttachmentRequest { network, .. } in self.requests.iter().filter(|request| !request.is_inline) {
            if !self.context.store.has_network(&network.name)? {
                let text = format!("network {} was removed during the attach", network.name);
                return Err(Error::new(Kind::NotFound, text));
            }
        }
        Ok(())
    }

    /// Deletes the parents that were made for an attach that fails.
    fn drop_parents(&mut self) {
        let mut made = self.wanted.iter().filter(|wanted| wanted.parent.is_made_parent()).peekable();
        if made.peek().is_none() {
            return;
        }
        let dropped = self.context.lock().and_then(|locked| {
            let host = &mut self.context.host_netlink;
            made.try_for_each(|wanted| parents::delete_unused_of(&locked, &wanted.network, host))
        });
        dropped.unwrap_or_else(|error| log::warn!("{error}"));
    }

    /// Makes what the pending record says, and confirms it. Where an address turns out to be another host's, the record
    /// gets another first.
    fn make(&mut self, record: &mut Record, inside: &mut Socket) -> Result<()> {
        let (wanted, facts) = (&self.wanted, &self.facts);
        let host_probes = host_links::begin(self.context, record, facts)?;
        let mut probing = conflicts::Probing { context: &mut *self.context, wanted, facts };
        let probes = probing.begin(record)?;
        let context = &mut *probing.context;
        let key = context.store.key(context.settings.lock_timeout());
        let key = key.inspect_err(|e| log::warn!("the marks of its links are not sealed: {}", e.in_full()));
        let (plan, host) = (plan::attach(record), &mut context.host_netlink);
        let (made, nsid) = kernel::attach(&plan, key.ok(), host, inside, &self.target.netns)?;
        if record.is_probed() || record.has_dhcp() {
            probing.complete(record, &made, probes, inside)?;
        }
        host_links::ensure(self.context, record, facts, host_probes)?;
        confirm(record, &made, nsid);
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

/// Completes `record`: links were `made`, and the host knows their namespace by the number `nsid`, if by any.
fn confirm(record: &mut Record, made: &[Link], nsid: Option<i32>) {
    let Links::Own(own) = &mut record.links else { return };
    for (attached, made) in own.attachments.iter_mut().zip(made) {
        attached.ifindex = Some(made.ifindex);
        // A link with its own MAC address has a leased one; others take over that of the parent.
        attached.mac = attached.mac.or(made.mac);
    }
    own.nsid = own.nsid.zip(nsid).map(|(asked, id)| Nsid { id, ..asked });
    own.state = State::Attached;
}

/// Whether the container of `old` is over, though a path keeps its namespace: its engine asks for links in another one, `holder`,
/// and no process is in the old one. podman leaves such paths behind when it is killed (podman 24044).
fn is_over(old: &Record, holder: &Holder) -> Result<bool> {
    let are_kept = old.holder.process().is_none() && holder.process().is_none();
    Ok(are_kept && !kernel::has_process(old.holder.netns())?)
}

/// Returns the error for a container whose id another one has, in `old`.
pub(crate) fn attached_already(old: &Record) -> Error {
    let text = format!("container id {} is attached already, with {}", old.container, old.holder);
    Error::new(Kind::Taken, text).hint("two runtimes use the same id: rename one container")
}

/// Returns the error for a container with a pending record of its own.
fn cut_short(old: &Record) -> Error {
    let text = format!("an earlier attach of container {} was killed, or has not ended yet", old.container);
    Error::new(Kind::Taken, text)
        .hint("stop the container and start it again: its links and addresses are reclaimed when it is gone")
}

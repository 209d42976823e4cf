//! Release: deletes links and the host's routes, releases addresses, then deletes what nothing else needs. Each end of a
//! container comes here: its poststop, an attach that failed, `gc`, and an attach that needs what dead containers hold.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::Result;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::PreviousAddresses;
use crate::kernel::{self, Detached, NetnsFile};
use crate::ledger::Released;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp;
use crate::lifecycle::report::report;
use crate::lifecycle::{affinity, host_access, moved, parents, pod, repair};
use crate::net::link::Link;
use crate::netlink::Socket;
use crate::plan::{self, Removal};

/// Where links of a container may still be.
pub(crate) enum LinksPlace {
    /// Nowhere: they were deleted with their namespace, or by another process.
    Nowhere,
    /// In this namespace, in which a process is, or to which this path leads.
    Netns(PathBuf, NetnsFile),
    /// In a namespace that only the host's number leads to. A descriptor or a socket keeps it, or the kernel has not
    /// deleted it yet.
    Nsid(i32),
}

/// Finds the links of the container of `record`.
///
/// # Errors
/// When it cannot be told whether they are there.
pub(crate) fn locate_links(context: &mut Context<'_>, record: &Record) -> Result<LinksPlace> {
    if record.own().is_none() {
        return Ok(LinksPlace::Nowhere);
    }
    let (plan, host_inode) = (plan::detach(record), context.host_netns.get()?.inode());
    let sure = sure_nsid(record, &plan, host_inode);
    if let Some(nsid) = sure {
        if !kernel::has_links(&plan, nsid, &mut context.host_netlink)? {
            return Ok(LinksPlace::Nowhere);
        }
    }
    let found = match NetnsFile::of(&record.holder)? {
        Some(found) => Some(found),
        None if record.holder.endpoint().is_some() => None,
        None => kernel::find_netns(record.holder.netns())?,
    };
    Ok(match (found, record.nsid(host_inode)) {
        (Some((path, netns)), _) => LinksPlace::Netns(path, netns),
        (None, Some(nsid))
            if sure.is_some() || kernel::has_links(&plan, nsid, &mut context.host_netlink)? =>
        {
            LinksPlace::Nsid(nsid)
        }
        (None, _) => LinksPlace::Nowhere,
    })
}

/// The number by which the namespace `host_inode` knows that of `record`, if it leads to all that `plan` deletes: to links,
/// but not to rules and routes. The number of a pending record may be another namespace's.
fn sure_nsid(record: &Record, plan: &[Removal], host_inode: u64) -> Option<i32> {
    let is_sure = !record.is_pending() && plan.iter().all(|step| matches!(step, Removal::Link(_)));
    record.nsid(host_inode).filter(|_| is_sure)
}

/// Whether the container of `record` lives, or its links are in a namespace that something uses without it: there they
/// hold their addresses, unless its poststop was called. If that cannot be told, they are in use: nothing is taken from a
/// container that may live.
pub(crate) fn is_in_use(context: &mut Context<'_>, record: &Record) -> bool {
    if record.has_ended() {
        return false;
    }
    kernel::is_alive(&record.holder)
        || locate_links(context, record).map_or_else(
            |error| {
                log::warn!("container {}: {error}: it counts as alive", record.container);
                true
            },
            |place| matches!(place, LinksPlace::Netns(..)),
        )
}

/// Hands the links of `record` over to a container that shares them, if there is one. Else: deletes the links, in
/// whatever namespace they are, the host's routes to them, their leases, and then the host's links and the parents that
/// nothing else needs. Then does the same for the container whose links this one was the last to share.
///
/// Returns the record as it was when it was released; `None` if another process has done that.
///
/// # Errors
/// The record stays if a link of it does.
pub(crate) fn release(context: &mut Context<'_>, record: &Record) -> Result<Option<Record>> {
    release_all(context, record, false)
}

/// As [`release`]; leases of DHCP servers are kept if `keeps_leases`: who comes asks for them.
fn release_all(context: &mut Context<'_>, record: &Record, keeps_leases: bool) -> Result<Option<Record>> {
    let mut last = None;
    let mut next = Some(record.clone());
    while let Some(record) = next {
        let Some(record) = pod::hand_over(context, &record)? else { break };
        let released = release_one(context, &record, keeps_leases)?;
        let released_now = released == Released::Now;
        next = match released {
            // It may have got the links of another container since it was read: they go too, or to the next one.
            Released::Changed(now) => Some(*now),
            Released::Now | Released::Before => pod::left_behind(context.store, &record)?,
        };
        if released_now {
            last.get_or_insert(record);
        }
    }
    Ok(last)
}

fn release_one(context: &mut Context<'_>, record: &Record, keeps_leases: bool) -> Result<Released> {
    let detached = delete_links(context, record)?;
    let given_back = match dhcp::has_lease(record) && !keeps_leases {
        true => Some(dhcp::give_back(context, record)?),
        false => None,
    };
    let record = given_back.as_ref().unwrap_or(record);
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    host_access::close(&locked, record, host)?;
    let released = locked.release(record, detached == Detached::Nothing, detached == Detached::All)?;
    if matches!(released, Released::Changed(_)) {
        return Ok(released);
    }
    host_access::delete_unused_of(&locked, record, host)?;
    let mut parents = record.attachments().iter().map(|attached| &attached.parent);
    parents.try_for_each(|parent| parents::delete_unused(&locked, parent, host))?;
    drop(locked);
    if record.has_dhcp() {
        let removed = context.store.remove_resolv_conf(&record.container);
        removed.unwrap_or_else(|error| log::warn!("{error}"));
    }
    affinity::refresh(context.store, record);
    Ok(released)
}

/// Deletes the links of `record`, and what would outlive them.
///
/// # Errors
/// When a link cannot be deleted.
pub(crate) fn delete_links(context: &mut Context<'_>, record: &Record) -> Result<Detached> {
    let plan = plan::detach(record);
    // An engine moves the link of an endpoint back before it says that the endpoint is over.
    let is_moved = record.holder.endpoint().is_some();
    if is_moved && kernel::delete_endpoint_link(&record.container, &mut context.host_netlink)? {
        return Ok(Detached::All);
    }
    // A namespace that is being taken apart needs no search for a way into it.
    let nsid = match sure_nsid(record, &plan, context.host_netns.get()?.inode()) {
        Some(nsid) => nsid,
        None => match locate_links(context, record)? {
            LinksPlace::Nowhere => return Ok(Detached::Nothing),
            LinksPlace::Netns(_, netns) => {
                return netns.inside(|| kernel::detach(&plan, None, &mut Socket::open()?)).map(|detached| {
                    // The namespace is there, though its links are not.
                    if detached == Detached::Nothing { Detached::Part } else { detached }
                });
            }
            LinksPlace::Nsid(nsid) => nsid,
        },
    };
    kernel::detach(&plan, Some(nsid), &mut context.host_netlink)
}

/// As [`release`], of a container that ended without poststop, or whose poststop has left it to the agent. It is reported.
pub(crate) fn reclaim(context: &mut Context<'_>, record: &Record) -> Result<()> {
    reclaim_all(context, record, false)
}

/// As [`reclaim`], for the same container, or another one of its identity, which comes again: it asks DHCP servers for the
/// leases that it had.
pub(crate) fn reclaim_for_successor(context: &mut Context<'_>, record: &Record) -> Result<()> {
    reclaim_all(context, record, true)
}

fn reclaim_all(context: &mut Context<'_>, record: &Record, keeps_leases: bool) -> Result<()> {
    if let Some(released) = release_all(context, record, keeps_leases)? {
        let event = if released.has_ended() { Event::Detached } else { Event::Reclaimed };
        report(context.store, &event((&released).into()));
    }
    Ok(())
}

/// Reclaims what dead containers hold on the segments of `wanted`, and repairs leases without a holder. Returns true if
/// there was anything.
pub(crate) fn reclaim_dead(context: &mut Context<'_>, wanted: &[ResolvedAttachment]) -> Result<bool> {
    let segments: BTreeSet<u32> = wanted.iter().map(|wanted| wanted.parent.segment()).collect();
    let mut any = false;
    for segment in segments {
        let leases = {
            let _locked = context.lock()?;
            context.store.leases(segment)?
        };
        if !leases.orphans.is_empty() || !leases.unknown.is_empty() {
            let repaired = repair::repair(context, false)?;
            repaired.warn();
            any |= !repaired.steps.is_empty();
        }
        for record in &leases.holders {
            // If it fails, the addresses of another container may be enough.
            any |= reclaim_unused(context, record, "its addresses are", false);
        }
    }
    Ok(any)
}

/// Reclaims all that `record` holds, unless it is in use. `what` of it is needed. Returns true if it was reclaimed.
fn reclaim_unused(context: &mut Context<'_>, record: &Record, what: &str, keeps_leases: bool) -> bool {
    if is_in_use(context, record) && !is_forgotten(context, record) {
        return false;
    }
    let how = if record.has_ended() { "has ended" } else { "ended without poststop" };
    log::info!("container {} {how}: {what} reclaimed", record.container);
    let reclaimed = reclaim_all(context, record, keeps_leases);
    reclaimed.inspect_err(|error| log::warn!("container {}: {error}", record.container)).is_ok()
}

/// Returns true if `record` is of an endpoint that nothing is left of. If that cannot be told, it is in use.
pub(crate) fn is_forgotten(context: &mut Context<'_>, record: &Record) -> bool {
    let forgotten = moved::is_forgotten(context, record);
    forgotten.inspect_err(|error| log::warn!("container {}: {error}", record.container)).unwrap_or_default()
}

/// Reclaims what containers hold on `segments` that have ended. Returns true if there was any.
pub(crate) fn reclaim_ended(context: &mut Context<'_>, segments: &BTreeSet<u32>) -> Result<bool> {
    let mut any = false;
    let is_there =
        |record: &&Record| record.attachments().iter().any(|attached| segments.contains(&attached.segment));
    for record in context.store.records()?.sound.iter().filter(|record| record.has_ended()).filter(is_there) {
        any |= reclaim_unused(context, record, "its links are", false);
    }
    Ok(any)
}

/// Reclaims what of `previous`, on the segment of `parent`, is held by containers that ended without poststop.
pub(crate) fn reclaim_previous(context: &mut Context<'_>, previous: &PreviousAddresses, parent: &Link) {
    for claim in previous.claims() {
        let Some(record) = affinity::holder(context.store, parent.segment(), claim) else { continue };
        reclaim_unused(context, &record, &format!("{claim} is"), true);
    }
}

/// Reclaims what the dead containers hold that are the only users of host links on the parents of `record`, and so deletes those
/// links. Returns true if a link is gone.
pub(crate) fn reclaim_host_links(context: &mut Context<'_>, record: &Record) -> Result<bool> {
    let store = context.store;
    let mut any = false;
    for network in store.host_links()? {
        let Some(link) = host_access::known(store, &network)? else { continue };
        let is_near = record.attachments().iter().any(|attached| attached.segment == link.segment);
        if !is_near || !context.host_netlink.link(&link.name)?.is_some_and(|found| link.is(&found)) {
            continue;
        }
        let mut users = store.records()?.sound;
        users.retain(|user| user.uses_host_link(&network));
        if users.iter().any(|user| kernel::is_alive(&user.holder)) {
            continue;
        }
        for user in &users {
            // The link stays as long as one of them does.
            reclaim(context, user)
                .unwrap_or_else(|error| log::warn!("container {}: {error}", user.container));
        }
        let locked = context.lock()?;
        host_access::delete_unused(&locked, &network, &mut context.host_netlink)?;
        any |= context.host_netlink.link(&link.name)?.is_none();
    }
    Ok(any)
}

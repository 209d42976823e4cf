//! Release: links, the host's routes, addresses, and then what nothing else needs are given back. Whatever ends a
//! container comes here: its poststop, an attach that failed, `gc`, and an attach that needs what dead containers hold.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::error::Result;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::Hint;
use crate::kernel::{self, NetnsFile};
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::report::report;
use crate::lifecycle::{affinity, host_access, parents, repair, shared_netns};
use crate::net::link::Link;
use crate::netlink::Socket;
use crate::plan::{self, Removal};

/// Where links of a container may still be.
pub(crate) enum Remaining {
    /// Nowhere: they are gone with their namespace, or by another's hand.
    Nowhere,
    /// In this namespace, in which a process is, or to which this path leads.
    In(PathBuf, NetnsFile),
    /// In a namespace to which nothing leads but the host's number for it. A descriptor or a socket keeps it, or the kernel
    /// has not taken it apart yet.
    Numbered(i32),
}

/// Finds the links of the container of `record`. `host` is a socket of the host's namespace.
///
/// # Errors
/// When it cannot be told whether they are there.
pub(crate) fn remaining(record: &Record, host: &mut Socket) -> Result<Remaining> {
    let plan = plan::detach(record);
    let has_links = match record.nsid() {
        Some(nsid) => !kernel::remaining(&plan, nsid, host)?.is_empty(),
        None => true,
    };
    // Rules and routes may be left without them.
    if !has_links && !has_persistent(&plan) {
        return Ok(Remaining::Nowhere);
    }
    let found = match NetnsFile::of(&record.holder)? {
        Some(found) => Some(found),
        None => kernel::find_netns(&record.holder.netns)?,
    };
    Ok(match (found, record.nsid()) {
        (Some((path, netns)), _) => Remaining::In(path, netns),
        (None, Some(nsid)) if has_links => Remaining::Numbered(nsid),
        (None, _) => Remaining::Nowhere,
    })
}

fn has_persistent(plan: &[Removal]) -> bool {
    plan.iter().any(|step| matches!(step, Removal::Persistent(_)))
}

/// Whether the container of `record` lives, or its links are in a namespace that something uses without it: there they
/// hold their addresses. If that cannot be told, they are in use: nothing is taken from a container that may live.
pub(crate) fn is_in_use(record: &Record, host: &mut Socket) -> bool {
    kernel::lives(&record.holder)
        || record.own().is_some()
            && remaining(record, host).map_or_else(
                |error| {
                    log::warn!("container {}: {error}: it counts as alive", record.container);
                    true
                },
                |remaining| matches!(remaining, Remaining::In(..)),
            )
}

/// Hands the links of `record` over to a container that shares them, if there is one. Else: deletes the links, in
/// whatever namespace they are, the host's routes to them, their leases, and then the host's links and the parents that
/// nothing else needs. Then does the same for the container whose links this one was the last to share.
///
/// Returns true if the record is gone, and its links with it.
///
/// # Errors
/// The record stays if a link of it does.
pub(crate) fn release(context: &mut Context<'_>, record: &Record) -> Result<bool> {
    let mut is_released = false;
    let mut next = Some(record.clone());
    while let Some(record) = next {
        if shared_netns::hand_over(context, &record)? {
            break;
        }
        release_one(context, &record)?;
        is_released = true;
        next = shared_netns::left_behind(context.store, &record)?;
    }
    Ok(is_released)
}

fn release_one(context: &mut Context<'_>, record: &Record) -> Result<()> {
    delete_links(record, &mut context.host_netlink)?;
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    host_access::close(&locked, record, host)?;
    locked.release(record)?;
    host_access::drop_unneeded_of(&locked, record, host)?;
    let mut parents = record.attachments().iter().map(|attached| &attached.parent);
    parents.try_for_each(|parent| parents::drop_unneeded(&locked, parent, host))?;
    drop(locked);
    affinity::refresh(context.store, record);
    Ok(())
}

/// Deletes the links of `record`, and what would outlive them.
fn delete_links(record: &Record, host: &mut Socket) -> Result<()> {
    let plan = plan::detach(record);
    // Links alone can be deleted from here. A namespace that is being taken apart needs no search for a way into it.
    if let Some(nsid) = record.nsid().filter(|_| !has_persistent(&plan)) {
        return kernel::detach_from_host(&plan, nsid, host);
    }
    match remaining(record, host)? {
        Remaining::Nowhere => Ok(()),
        Remaining::In(_, netns) => netns.inside(|| kernel::detach(&plan, &mut Socket::open()?)),
        Remaining::Numbered(nsid) => kernel::detach_from_host(&plan, nsid, host),
    }
}

/// As [`release`], of a container that ended without poststop, which is reported.
///
/// # Errors
/// As [`release`].
pub(crate) fn reclaim(context: &mut Context<'_>, record: &Record) -> Result<()> {
    if release(context, record)? {
        report(context.store, &Event::Reclaimed(record.into()));
    }
    Ok(())
}

/// Reclaims what dead containers hold on the segments of `wanted`, and repairs leases without a holder. Returns true if
/// there was anything.
///
/// # Errors
/// When the ledger cannot be read or written.
pub(crate) fn reclaim_dead(context: &mut Context<'_>, wanted: &[ResolvedAttachment]) -> Result<bool> {
    let segments: BTreeSet<u32> = wanted.iter().map(|wanted| wanted.parent.segment()).collect();
    let mut any = false;
    for segment in segments {
        let leases = {
            let _locked = context.lock()?;
            context.store.leases(segment)?
        };
        if !leases.orphans.is_empty() || !leases.unknown.is_empty() {
            let mended = repair::mend(context, false)?;
            mended.warn();
            any |= !mended.steps.is_empty();
        }
        for record in &leases.holders {
            if is_in_use(record, &mut context.host_netlink) {
                continue;
            }
            log::info!("container {} ended without poststop: its addresses are reclaimed", record.container);
            match reclaim(context, record) {
                Ok(()) => any = true,
                // Another one's may do.
                Err(error) => log::warn!("container {}: {error}", record.container),
            }
        }
    }
    Ok(any)
}

/// Reclaims what of `previous`, on the segment of `parent`, is held by containers that ended without poststop.
pub(crate) fn reclaim_previous(context: &mut Context<'_>, previous: &Hint, parent: &Link) {
    for claim in previous.claims() {
        let Some(record) = affinity::holder(context.store, parent.segment(), claim) else { continue };
        if is_in_use(&record, &mut context.host_netlink) {
            continue;
        }
        log::info!("container {} ended without poststop: {claim} is reclaimed", record.container);
        reclaim(context, &record).unwrap_or_else(|error| log::warn!("{error}"));
    }
}

/// Releases the dead containers for which alone there are links of the host on the parents of `record`, and so those
/// links; returns true if one is gone.
///
/// # Errors
/// When one cannot be deleted.
pub(crate) fn reclaim_host_links(context: &mut Context<'_>, record: &Record) -> Result<bool> {
    let mut any = false;
    for (link, users) in host_access::near(context.store, record, &mut context.host_netlink)? {
        if !users.iter().any(|user| kernel::lives(&user.holder)) {
            for user in &users {
                // The link is in the way as long as one of them stays, and then what was refused is told.
                if let Err(error) = release(context, user) {
                    log::warn!("container {}: {error}", user.container);
                }
            }
        }
        let locked = context.lock()?;
        host_access::drop_unneeded(&locked, &link.network, &mut context.host_netlink)?;
        any |= context.host_netlink.link(&link.name)?.is_none();
    }
    Ok(any)
}

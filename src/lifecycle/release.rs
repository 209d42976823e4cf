//! Release: deletes links and the host's routes, releases addresses, then deletes what nothing else needs. Each end of a
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
    /// Nowhere: they were deleted with their namespace, or by another process.
    Nowhere,
    /// In this namespace, in which a process is, or to which this path leads.
    In(PathBuf, NetnsFile),
    /// In a namespace that only the host's number leads to. A descriptor or a socket keeps it, or the kernel has not
    /// deleted it yet.
    Numbered(i32),
}

/// Finds the links of the container of `record`.
///
/// # Errors
/// When it cannot be told whether they are there.
pub(crate) fn remaining(context: &mut Context<'_>, record: &Record) -> Result<Remaining> {
    if record.own().is_none() {
        return Ok(Remaining::Nowhere);
    }
    let plan = plan::detach(record);
    let nsid = record.nsid(context.host_netns.get()?.inode());
    let by_number = |context: &mut Context<'_>| -> Result<Option<i32>> {
        let Some(nsid) = nsid else { return Ok(None) };
        let is_there = kernel::has_links(&plan, nsid, &mut context.host_netlink)?;
        Ok(is_there.then_some(nsid))
    };
    // The number tells all of links, but not of rules and routes; and that of a pending record may be another namespace's.
    let is_certain = nsid.is_some() && !record.is_pending() && !has_persistent(&plan);
    if is_certain && by_number(context)?.is_none() {
        return Ok(Remaining::Nowhere);
    }
    let found = match NetnsFile::of(&record.holder)? {
        Some(found) => Some(found),
        None => kernel::find_netns(&record.holder.netns)?,
    };
    Ok(match found {
        Some((path, netns)) => Remaining::In(path, netns),
        None => by_number(context)?.map_or(Remaining::Nowhere, Remaining::Numbered),
    })
}

fn has_persistent(plan: &[Removal]) -> bool {
    plan.iter().any(|step| matches!(step, Removal::Persistent(_)))
}

/// Whether the container of `record` lives, or its links are in a namespace that something uses without it: there they
/// hold their addresses. If that cannot be told, they are in use: nothing is taken from a container that may live.
pub(crate) fn is_in_use(context: &mut Context<'_>, record: &Record) -> bool {
    kernel::is_alive(&record.holder)
        || remaining(context, record).map_or_else(
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
        let Some(record) = shared_netns::hand_over(context, &record)? else { break };
        next = release_one(context, &record)?;
        // The record may have got the links of another container since it was read: they go too, or to the next one.
        if next.is_none() {
            is_released = true;
            next = shared_netns::left_behind(context.store, &record)?;
        }
    }
    Ok(is_released)
}

/// Returns the record as it is by now, if that has other links: it is not released then.
fn release_one(context: &mut Context<'_>, record: &Record) -> Result<Option<Record>> {
    let may_answer = !delete_links(context, record)?;
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    host_access::close(&locked, record, host)?;
    let changed = locked.release(record, may_answer)?;
    if changed.is_some() {
        return Ok(changed);
    }
    host_access::delete_unused_of(&locked, record, host)?;
    let mut parents = record.attachments().iter().map(|attached| &attached.parent);
    parents.try_for_each(|parent| parents::delete_unused(&locked, parent, host))?;
    drop(locked);
    affinity::refresh(context.store, record);
    Ok(None)
}

/// Deletes the links of `record`, and what would outlive them. Returns false if there was nothing: their namespace is gone,
/// or about to go.
///
/// # Errors
/// When a link cannot be deleted.
pub(crate) fn delete_links(context: &mut Context<'_>, record: &Record) -> Result<bool> {
    let plan = plan::detach(record);
    let nsid = record.nsid(context.host_netns.get()?.inode());
    // Links alone can be deleted from here. A namespace that is being taken apart needs no search for a way into it.
    if let Some(nsid) = nsid.filter(|_| !record.is_pending() && !has_persistent(&plan)) {
        return kernel::detach_from_host(&plan, nsid, &mut context.host_netlink);
    }
    match remaining(context, record)? {
        Remaining::Nowhere => Ok(false),
        Remaining::In(_, netns) => {
            netns.inside(|| kernel::detach(&plan, &mut Socket::open()?)).map(|()| true)
        }
        Remaining::Numbered(nsid) => kernel::detach_from_host(&plan, nsid, &mut context.host_netlink),
    }
}

/// As [`release`], of a container that ended without poststop, which is reported.
pub(crate) fn reclaim(context: &mut Context<'_>, record: &Record) -> Result<()> {
    if release(context, record)? {
        report(context.store, &Event::Reclaimed(record.into()));
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
            if is_in_use(context, record) {
                continue;
            }
            log::info!("container {} ended without poststop: its addresses are reclaimed", record.container);
            match reclaim(context, record) {
                Ok(()) => any = true,
                // The addresses of another dead container may be enough.
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
        if is_in_use(context, &record) {
            continue;
        }
        log::info!("container {} ended without poststop: {claim} is reclaimed", record.container);
        reclaim(context, &record).unwrap_or_else(|error| log::warn!("{error}"));
    }
}

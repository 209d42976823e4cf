//! Pods, and other containers that share a network namespace: those that ask for the same networks use the same links.
//!
//! The first one is attached; its record holds the links. The record of each other names the first one. When a container
//! ends that holds links which others use, one of these takes them over: its record holds them from then on. So links are
//! always held by a living container, and are deleted with the last one.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::{Links, Own, Record, State};
use crate::lifecycle::context::Context;
use crate::lifecycle::dhcp;
use crate::lifecycle::target::{AttachmentRequest, Target};
use crate::net::name::ContainerId;

/// Has the container of `target` share the links of another one in its namespace, if these are what it asks for. The
/// marks of links in the namespace name the containers `marked`. Returns its record.
pub(crate) fn join(
    context: &Context<'_>,
    target: &Target,
    requests: &[AttachmentRequest],
    marked: &BTreeSet<ContainerId>,
) -> Result<Option<Record>> {
    let (store, netns) = (context.store, target.holder.netns());
    // It comes again while others use its links: they are theirs by now, and it joins them.
    if let Some(own) = store.record(&target.container).ok().flatten() {
        let is_over = (own.has_ended() || !kernel::is_alive(&own.holder)) && is_used(store, &own)?;
        if is_over {
            hand_over(context, &own)?;
        } else {
            hand_over_of_version_1(context, &own)?;
        }
    }
    let locked = context.lock()?;
    let mut others = store.records_in(netns)?;
    // The namespace of the first may have been made for it alone, so that it is in no list. A mark is only a way to a
    // record, which must speak of this very namespace: a container can write any mark on its links.
    let unlisted = marked.iter().filter(|id| !others.iter().any(|other| other.container == **id)).cloned();
    let unlisted = store.records_of(netns, unlisted.collect::<Vec<_>>())?;
    others.extend(unlisted);
    let mut near = others.iter().filter(|other| other.is_attached());
    let Some(first) = near.find(|other| other.gives(requests)) else { return Ok(None) };
    // What a dead container holds alone is being released, or will be.
    if !kernel::is_alive(&first.holder) && successor(first, &others).is_none() {
        return Ok(None);
    }
    let own = store.record(&target.container).ok().flatten();
    if own.is_some_and(|own| {
        own.own().is_some() || own.holder != target.holder && kernel::is_alive(&own.holder)
    }) {
        // It has, or had, links of its own: the attach reports that.
        return Ok(None);
    }
    let joined = Record {
        container: target.container.clone(),
        identity: target.identity.clone(),
        holder: target.holder.clone(),
        links: Links::SharedWith(first.container.clone()),
    };
    locked.write(&joined)?;
    Ok(Some(joined))
}

/// A container that lives and shares the links of `record`, or has begun to take them over.
fn successor<'a>(record: &Record, others: &'a [Record]) -> Option<&'a Record> {
    let has_taken_over = |other: &&Record| {
        other.container != record.container && other.own().is_some() && other.made_for() == record.made_for()
    };
    let shares = |other: &&Record| other.shared_with() == Some(&record.container);
    let living = || others.iter().filter(|other| kernel::is_alive(&other.holder));
    living().find(has_taken_over).or_else(|| living().find(shares))
}

/// Returns true if a living container uses the links of `record`, and will take them over.
pub(crate) fn is_used(store: &Store, record: &Record) -> Result<bool> {
    Ok(record.own().is_some() && successor(record, &store.records_in(record.holder.netns())?).is_some())
}

/// Hands the links of `record`, whose container has ended, over to a container that uses them too; returns `None` then, as
/// it does if another process has released the record. Else no container can join any more, and the record as it is by
/// now is returned.
///
/// # Errors
/// When the ledger cannot be read or written. What was begun is finished by the next call.
pub(crate) fn hand_over(context: &Context<'_>, record: &Record) -> Result<Option<Record>> {
    let store = context.store;
    if record.own().is_none() || !store.is_shared(record.holder.netns())? {
        return Ok(Some(record.clone()));
    }
    let locked = context.lock()?;
    locked.index_namespaces()?;
    let now = store.record(&record.container)?.filter(|now| now.holder == record.holder);
    let Some((now, own)) = now.as_ref().and_then(|now| Some((now, now.own()?))) else { return Ok(now) };
    let others = store.records_in(now.holder.netns())?;
    if let Some(successor) = successor(now, &others) {
        log::info!("container {} takes over the links of {}", successor.container, now.container);
        // It may have ended, but the successor has not.
        let own = Own { made_for: Some(now.made_for()), state: State::Attached, ..own.clone() };
        let successor = Record { links: Links::Own(own), ..successor.clone() };
        locked.transfer(now, &successor, &others)?;
        if successor.has_dhcp() {
            dhcp::hand_over_names(store, &now.container, &successor);
            // Its client goes on under the name of that container.
            store.call_agent(&successor.container).unwrap_or_else(|error| log::warn!("{error}"));
        }
        return Ok(None);
    }
    let pending = now.in_state(State::Pending);
    if pending != *now {
        locked.write(&pending)?;
    }
    Ok(Some(pending))
}

/// The record whose links the container of `record`, which has ended, was the last to use, if it was; or the record that
/// is left of the one whose links it took over.
///
/// # Errors
/// When the ledger cannot be read.
pub(crate) fn left_behind(store: &Store, record: &Record) -> Result<Option<Record>> {
    let made_for = record.own().and_then(|own| own.made_for.as_ref());
    let Some(first) = record.shared_with().or(made_for.map(|made_for| &made_for.container)) else {
        return Ok(None);
    };
    let is_left = |first: &Record| {
        first.container != record.container
            && !kernel::is_alive(&first.holder)
            && made_for.is_none_or(|made_for| first.made_for() == *made_for)
    };
    Ok(store.record(first)?.filter(is_left))
}

/// Hands over links whose record version 1 has left with the container that has ended, but with the process of one that
/// uses them; returns true if it was so.
///
/// # Errors
/// As [`hand_over`].
pub(crate) fn hand_over_of_version_1(context: &Context<'_>, record: &Record) -> Result<bool> {
    let is_anothers =
        |own: &Own| own.made_for.as_ref().is_some_and(|made_for| made_for.container == record.container);
    if !record.own().is_some_and(is_anothers) {
        return Ok(false);
    }
    let others = context.store.records_in(record.holder.netns())?;
    let has_its_process =
        |other: &Record| other.shared_with() == Some(&record.container) && other.holder == record.holder;
    Ok(others.iter().any(has_its_process) && hand_over(context, record)?.is_none())
}

//! A network namespace that several containers share, as those of a pod do: containers that ask for the same networks use
//! the same links.
//!
//! The first one is attached; its record holds the links. The record of each other names the first one. When a container
//! ends that holds links which others use, one of these takes them over: its record holds them from then on. So links are
//! always held by a living container, and are deleted with the last one.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::record::{Links, Own, Record};
use crate::lifecycle::context::Context;
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
    let (store, netns) = (context.store, &target.holder.netns);
    let own = |id: &ContainerId| store.record(id).ok().flatten().filter(|own| own.own().is_some());
    if let Some(own) = own(&target.container).filter(|own| !kernel::is_alive(&own.holder)) {
        // The container is created again while others use its links: hand these over, and join.
        if is_used(store, &own)? {
            hand_over(context, &own)?;
        }
    }
    let locked = context.lock()?;
    let mut others = store.records_in(netns)?;
    // The namespace of the first may have been made for it alone, so that it is in no list. A mark is only a way to a
    // record, which must speak of this very namespace: a container can write any mark on its links.
    let unlisted = marked.iter().filter(|id| !others.iter().any(|other| other.container == **id)).cloned();
    let unlisted = store.records_of(netns, unlisted.collect::<Vec<_>>())?;
    others.extend(unlisted);
    let mut near = others.iter().filter(|other| !other.is_pending());
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

/// Returns a living container that shares the links of `record`, or the one that has taken them over.
fn successor<'a>(record: &Record, others: &'a [Record]) -> Option<&'a Record> {
    let has_taken_over = |other: &&Record| {
        other.container != record.container && other.own().is_some() && other.made_for() == record.made_for()
    };
    let shares = |other: &&Record| other.shared_with() == Some(&record.container);
    let is_alive = |other: &&Record| kernel::is_alive(&other.holder);
    let taken_over = others.iter().find(has_taken_over);
    taken_over.or_else(|| others.iter().filter(shares).find(is_alive))
}

/// Returns true if a living container uses the links of `record`, and will take them over.
pub(crate) fn is_used(store: &Store, record: &Record) -> Result<bool> {
    Ok(record.own().is_some() && successor(record, &store.records_in(&record.holder.netns)?).is_some())
}

/// Hands the links of `record`, whose container has ended, over to a container that uses them too; returns true if there
/// is one, and the record is gone. If not, no container can join any more.
pub(crate) fn hand_over(context: &Context<'_>, record: &Record) -> Result<bool> {
    let Some(own) = record.own() else { return Ok(false) };
    let store = context.store;
    if !store.is_shared(&record.holder.netns)? {
        return Ok(false);
    }
    let locked = context.lock()?;
    locked.index_namespaces()?;
    let others = store.records_in(&record.holder.netns)?;
    // Another process may have handed them over.
    if store.record(&record.container)?.as_ref().map(|now| &now.holder) != Some(&record.holder) {
        return Ok(true);
    }
    match successor(record, &others) {
        Some(successor) => {
            log::info!("container {} takes over the links of {}", successor.container, record.container);
            let own = Own { made_for: Some(record.made_for()), ..own.clone() };
            locked.transfer(record, &Record { links: Links::Own(own), ..successor.clone() }, &others)?;
            Ok(true)
        }
        None if !record.is_pending() => {
            locked.write(&record.pending())?;
            Ok(false)
        }
        None => Ok(false),
    }
}

/// Returns the record of the links that the container of `record`, which has ended, was the last to share.
pub(crate) fn left_behind(store: &Store, record: &Record) -> Result<Option<Record>> {
    let Some(first) = record.shared_with() else { return Ok(None) };
    Ok(store.record(first)?.filter(|first| !kernel::is_alive(&first.holder)))
}

//! Another address for a container that runs, in place of one that another host has, too (`on_late_conflict`).
//!
//! The ledger is changed first, then the link. A kill in between leaves a link with an address in quarantine that the ledger
//! does not give it: [`settle`] finishes the change.

use std::net::IpAddr;

use crate::error::Result;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::PreviousAddresses;
use crate::kernel::{self, NetnsFile};
use crate::ledger::event::Event;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::{Attached, Record};
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_facts;
use crate::lifecycle::host_links;
use crate::lifecycle::report::report;
use crate::lifecycle::reserve;
use crate::net::link::Link;
use crate::net::route::DefaultRoutes;
use crate::netlink::Socket;
use crate::oci::annotations::Attachment;
use crate::oci::requested_address::RequestedAddress;
use crate::plan;

/// Gives the container of `record` another address in place of that of `conflict`. Returns its new record; `None` if it is to
/// keep that address: it asked for it, its network is not defined any more, or no other is known to be unclaimed.
pub(super) fn readdress(
    context: &mut Context<'_>,
    record: &Record,
    conflict: &Conflict,
) -> Result<Option<Record>> {
    let store = context.store;
    // What a rebuilt record asked for is not known.
    let Some(wanted) = wanted(context, record)?.filter(|_| !record.is_rebuilt()) else { return Ok(None) };
    let facts = host_facts::read(&wanted, DefaultRoutes::default(), &mut context.host_netlink)?;
    let affinity = affinity::load(store, record.identity.as_ref(), &record.container);
    let locked = context.lock()?;
    if store.record(&record.container)?.as_ref() != Some(record) {
        return Ok(None);
    }
    let replaced = match reserve::replace_late(&locked, record, &wanted, conflict, &facts) {
        Ok(replaced) => replaced,
        Err(error) => {
            log::info!("container {}: {error}: it keeps address {}", record.container, conflict.address);
            return Ok(None);
        }
    };
    drop(locked);
    settle(context, &replaced)?;
    affinity::save(store, &replaced, &affinity);
    announce::announce(&replaced, 0)?;
    let (Some(had), Some(has)) = (attached(record, conflict), attached(&replaced, conflict)) else {
        return Ok(None);
    };
    if has.host_link.is_some() {
        host_links::reconcile(context)?;
    }
    if let Some(to) = has.addresses.iter().find(|net| !had.addresses.contains(net)) {
        let (container, network) = (record.container.clone(), has.network.clone());
        report(store, &Event::Moved { container, network, from: conflict.address, to: to.addr() });
    }
    Ok(Some(replaced))
}

fn attached<'a>(record: &'a Record, conflict: &Conflict) -> Option<&'a Attached> {
    record.attachments().get(conflict.attachment)
}

/// Returns what the attachments of `record` want, as far as a change of an address needs it; `None` if a network is not
/// defined any more, or its parent is gone.
fn wanted(context: &mut Context<'_>, record: &Record) -> Result<Option<Vec<ResolvedAttachment>>> {
    let mut all = Vec::with_capacity(record.attachments().len());
    for attached in record.attachments() {
        let network = context.store.network_if_defined(&attached.network)?;
        let parent = context.host_netlink.link_by_index(attached.parent_index)?;
        let (Some(network), Some(parent)) = (network, parent) else { return Ok(None) };
        let ips = attached.requested.iter().map(|&address| RequestedAddress { address, prefix_len: None });
        all.push(ResolvedAttachment {
            request: Attachment { ips: ips.collect(), ..Attachment::plain(attached.network.clone()) },
            network: context.settings.complete(network),
            parent,
            ifname: attached.ifname.clone(),
            previous: PreviousAddresses::default(),
        });
    }
    Ok(Some(all))
}

/// Makes those links of `record` have the addresses of the record that have one in quarantine instead.
pub(super) fn settle(context: &Context<'_>, record: &Record) -> Result<()> {
    let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(()) };
    for (mark, attached) in record.marked() {
        let quarantined: Vec<_> = context.store.quarantined(attached.segment);
        let quarantined: Vec<_> = quarantined.into_iter().map(|(address, _)| address).collect();
        let is_ours = |link: &Link| kernel::bears(link, &mark);
        netns.inside(|| settle_link(attached, &quarantined, is_ours))?;
    }
    Ok(())
}

fn settle_link(attached: &Attached, quarantined: &[IpAddr], is_ours: impl Fn(&Link) -> bool) -> Result<()> {
    let mut inside = Socket::open()?;
    let Some(ifindex) = attached.ifindex else { return Ok(()) };
    if !inside.link_by_index(ifindex)?.is_some_and(|link| is_ours(&link)) {
        return Ok(());
    }
    let there = inside.addresses_of(ifindex)?;
    let mut stale = there.clone();
    stale.retain(|net| quarantined.contains(&net.addr()) && !attached.addresses.contains(net));
    if stale.is_empty() || attached.addresses.iter().all(|net| there.contains(net)) {
        return Ok(());
    }
    let table = attached.table.as_ref().map(|table| table.id);
    kernel::readdress(ifindex, &stale, table, &plan::readdress(attached), &mut inside)
}

//! Another address for a container that runs, in place of one that another host has, too (`on_late_conflict`).
//!
//! First the record gets the new address, and keeps the old one as a former one, with its lease. Then the link, the host's routes
//! and the affinity follow. Last the former address is given back. A change that was killed is finished by the next agent, or
//! undone with the container: a release deletes what the record lists.

use ipnet::IpNet;

use crate::error::{Error, Result};
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::previous::PreviousAddresses;
use crate::kernel::{self, NetnsFile};
use crate::ledger::attached::Attached;
use crate::ledger::event::Event;
use crate::ledger::quarantine::Conflict;
use crate::ledger::record::Record;
use crate::ledger::segment_hints::since_boot;
use crate::lifecycle::affinity;
use crate::lifecycle::announce;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_facts;
use crate::lifecycle::host_links;
use crate::lifecycle::report::report;
use crate::lifecycle::reserve;
use crate::net::mark::Mark;
use crate::net::route::DefaultRoutes;
use crate::netlink::Socket;
use crate::oci::annotations::Attachment;

/// Gives the container of `record` another address in place of that of `conflict`, in the ledger. Returns its new record; `None`
/// if it is to keep that address: its network is not defined any more, or no other is known to be unclaimed.
pub(super) fn begin(
    context: &mut Context<'_>,
    record: &Record,
    conflict: &Conflict,
) -> Result<Option<Record>> {
    let Some(wanted) = wanted(context, record)? else { return Ok(None) };
    let facts =
        host_facts::read(context.store, &wanted, DefaultRoutes::default(), &mut context.host_netlink)?;
    let locked = context.lock()?;
    if context.store.record(&record.container)?.as_ref() != Some(record) {
        return Ok(None);
    }
    let replaced = reserve::replace_late(&locked, record, &wanted, conflict, &facts);
    let keeps = |error: &Error| {
        log::info!("container {}: {error}: it keeps address {}", record.container, conflict.address);
    };
    Ok(replaced.inspect_err(keeps).ok())
}

/// Returns what the attachments of `record` want, as far as a change of an address needs it.
fn wanted(context: &mut Context<'_>, record: &Record) -> Result<Option<Vec<ResolvedAttachment>>> {
    let mut all = Vec::with_capacity(record.attachments().len());
    for attached in record.attachments() {
        let network = context.store.network_if_defined(&attached.network)?;
        let parent = context.host_netlink.link_by_index(attached.parent_index)?;
        let (Some(network), Some(parent)) = (network, parent) else { return Ok(None) };
        all.push(ResolvedAttachment {
            request: Attachment::plain(attached.network.clone()),
            network: context.settings.complete(network),
            parent,
            ifname: attached.ifname.clone(),
            previous: PreviousAddresses::default(),
        });
    }
    Ok(Some(all))
}

/// Returns true if `record` has a former address.
pub(super) fn is_begun(record: &Record) -> bool {
    record.attachments().iter().any(|attached| !attached.former.is_empty())
}

/// Carries out what [`begin`] has begun: the links of `record` get its addresses in place of the former ones, which are given
/// back. Returns the record without them.
///
/// # Errors
/// The record keeps its former addresses.
pub(super) fn finish(context: &mut Context<'_>, record: &Record) -> Result<Record> {
    let store = context.store;
    let affinity = affinity::load(store, record.identity.as_ref(), &record.container);
    if let Some((_, netns)) = NetnsFile::of(&record.holder)? {
        let begun = record.marked().filter(|(_, attached)| !attached.former.is_empty());
        begun.into_iter().try_for_each(|(mark, attached)| netns.inside(|| change(&mark, attached)))?;
    }
    // The host's routes to an address are deleted before its lease.
    if record.attachments().iter().any(|attached| attached.host_link.is_some()) {
        host_links::reconcile(context)?;
    }
    affinity::save(store, record, &affinity);
    announce::announce(store, record, 0)?;
    let Some(finished) = give_back_former(context, record)? else { return Ok(record.clone()) };
    for attached in record.attachments().iter().filter(|attached| !attached.former.is_empty()) {
        let (container, network) = (record.container.clone(), attached.network.clone());
        let from = attached.former.iter().map(IpNet::addr).collect();
        let to = attached.addresses.clone();
        report(store, &Event::Moved { container, network, from, to });
    }
    Ok(finished)
}

/// Gives back the former addresses of `record`, which its links have no more. Returns the record without them, unless it has changed
/// meanwhile.
pub(super) fn give_back_former(context: &Context<'_>, record: &Record) -> Result<Option<Record>> {
    let locked = context.lock()?;
    if context.store.record(&record.container)?.as_ref() != Some(record) {
        return Ok(None);
    }
    let mut finished = record.clone();
    finished.attachments_mut().iter_mut().for_each(|attached| attached.former.clear());
    locked.write(&finished)?;
    for attached in record.attachments() {
        attached.former.iter().for_each(|net| locked.give_back(attached.segment, net.addr().into()));
    }
    Ok(Some(finished))
}

/// Changes the link of `attached`, which has `mark`, in the namespace of this thread.
fn change(mark: &Mark, attached: &Attached) -> Result<()> {
    let mut inside = Socket::open()?;
    match kernel::marked_link(attached.ifindex, mark, &mut inside)? {
        Some(link) => kernel::readdress((link.ifindex, 0), attached, &[], since_boot(), &mut inside),
        None => Err(Error::input(format!("link {} is not the one that was made", attached.ifname))),
    }
}

//! Lifecycle of host access: the host's own link on the parent is made with the first container of a network
//! (`host_links.rs`) and deleted with the last. It has a route to each container.
//!
//! As with parents, all kernel work is done under the ledger's lock: the users of the link are read from the
//! ledger and must not change in between. `ifindex` is written last, when the link is complete. Without it,
//! or when the link was changed, the link is made anew.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam;
use crate::ipam::assign::ResolvedAttachment;
use crate::kernel;
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::record::Record;
use crate::ledger::{Locked, Store};
use crate::lifecycle::reserve;
use crate::net::link::Link;
use crate::net::name::NetworkName;
use crate::netlink::Socket;
use crate::plan::host::Present;

/// Returns an error if a link that is not ours has the name of the host's link of `network`.
pub(crate) fn refuse_foreign(network: &Network, host: &mut Socket) -> Result<()> {
    if network.file.host_access.is_none() {
        return Ok(());
    }
    let found = host.link(&host_link::name(&network.name))?;
    found
        .filter(|link| !host_link::is_of(&network.name, link))
        .map_or(Ok(()), |link| Err(foreign(&network.name, &link)))
}

fn foreign(network: &NetworkName, link: &Link) -> Error {
    let text = format!(
        "link {} is {}, not underlay's, for host_access of network {network}",
        link.name,
        link.describe()
    );
    Error::new(Kind::Taken, text).hint("rename it, or remove host_access from the network")
}

/// Returns an error if running containers need the host's link of a network on another parent than the
/// network has now.
pub(crate) fn refuse_elsewhere(
    store: &Store,
    wanted: &[ResolvedAttachment],
    host: &mut Socket,
) -> Result<()> {
    for ResolvedAttachment { network, parent, .. } in
        wanted.iter().filter(|wanted| wanted.network.file.host_access.is_some())
    {
        let Some(link) = known(store, &network.name)?.filter(|link| link.segment != parent.segment()) else {
            continue;
        };
        if !host.link(&link.name)?.is_some_and(|found| link.is(&found) && found.lower == Some(link.segment)) {
            continue;
        }
        let records = store.records()?.sound;
        let is_reached = |record: &Record| record.attachments().iter().any(|a| !link.routes_to(a).is_empty());
        let needs = |record: &&Record| is_reached(record) && kernel::is_alive(&record.holder);
        if let Some(user) = records.iter().find(needs) {
            let text = format!(
                "the host's link of network {} is on parent {}, where container {} needs it, not on {}",
                network.name, link.parent, user.container, parent.name
            );
            return Err(Error::new(Kind::Taken, text).hint(
                "a network with host_access has one parent at a time: make another network for the other",
            ));
        }
    }
    Ok(())
}

/// Returns the host's link as it is in the kernel, without its routes; `None` if it is missing.
pub(crate) fn found(link: &HostLink, host: &mut Socket) -> Result<Option<Present>> {
    let Some(found) = host.link(&link.name)? else { return Ok(None) };
    if !link.is(&found) {
        return Err(foreign(&link.network, &found));
    }
    let addresses = host.addresses_of(found.ifindex)?;
    Ok(Some(Present { link: found, addresses, routes: BTreeSet::new() }))
}

/// Deletes the host's routes to those addresses of `record` that the container still holds.
pub(crate) fn close(locked: &Locked<'_>, record: &Record, host: &mut Socket) -> Result<()> {
    let store = locked.store();
    // In doubt, an address may belong to a container that was not found: `record` had it only until it was
    // probed for.
    if record.host_link_networks().next().is_none() || store.is_in_doubt()? {
        return Ok(());
    }
    // Another process has released the record, and the id is used again.
    if store.record(&record.container)?.is_some_and(|now| now.holder != record.holder) {
        return Ok(());
    }
    for attached in record.attachments() {
        let Some(name) = &attached.host_link else { continue };
        let mut own: Vec<IpAddr> = Vec::new();
        for address in attached.addresses.iter().map(IpNet::addr) {
            if store.leased_to(attached.segment, address.into())?.as_ref() == Some(&record.container) {
                own.push(address);
            }
        }
        // By its mark: its record may be unreadable for now.
        // Nor on another parent, where the address may be another container's.
        let is_ours = |found: &Link| {
            !own.is_empty()
                && host_link::is_of(&attached.network, found)
                && found.lower == Some(attached.segment)
        };
        if let Some(found) = host.link(name)?.filter(is_ours) {
            kernel::delete_host_routes(name, found.ifindex, &own, host)?;
        }
    }
    Ok(())
}

/// Deletes the host links of `record` that no other container needs. One that cannot be deleted stays in the
/// ledger.
pub(crate) fn delete_unused_of(locked: &Locked<'_>, record: &Record, host: &mut Socket) -> Result<()> {
    record.host_link_networks().try_for_each(|network| delete_unused(locked, network, host))
}

/// Marks the host's link of `network` on `parent` as kept, with or without containers, if the definition
/// names all its addresses. [`reconcile`](super::host_links::reconcile) makes it. A link with allocated
/// addresses is made with the first container: allocated earlier, they could be addresses that a container
/// had before the reboot.
pub(crate) fn keep(locked: &Locked<'_>, network: &Network, parent: &Link) -> Result<()> {
    if !network.names_host_addresses() {
        return Ok(());
    }
    locked.make_segment(parent.segment())?;
    // Host facts matter only to allocated addresses.
    reserve::reserve_host_link(locked, network, parent, &ipam::reserve::HostFacts::default())?;
    match known(locked.store(), &network.name)? {
        Some(link) if !link.kept => locked.write_host_link(&HostLink { kept: true, ..link }),
        _ => Ok(()),
    }
}

/// Deletes the host's link of `network` if no container needs it, known or unknown. Releases its addresses if
/// the network does not exist any more. A link that cannot be deleted stays in the ledger.
pub(crate) fn delete_unused(locked: &Locked<'_>, network: &NetworkName, host: &mut Socket) -> Result<()> {
    let store = locked.store();
    let Some(link) = known(store, network)? else { return Ok(()) };
    if store.is_in_doubt()? || store.keeps_host_link(&link) || store.needs_host_link(network)? {
        return Ok(());
    }
    kernel::delete_host_link(&link, host)?;
    if !store.has_network(network)? {
        return locked.forget_host_link(&link);
    }
    if link.ifindex.is_none() {
        return Ok(());
    }
    locked.write_host_link(&HostLink { ifindex: None, ..link })
}

/// Returns the record of the host's link of `network`. An unreadable one counts as missing: the next `gc`
/// rebuilds it from the mark of the link.
pub(super) fn known(store: &Store, network: &NetworkName) -> Result<Option<HostLink>> {
    match store.host_link(network) {
        Err(error) if error.kind().is_of_one_file() => {
            log::warn!("{error}");
            Ok(None)
        }
        known => known,
    }
}

//! The story of the host's side: a link of its own on the parent, made with the first container of a network and
//! deleted with the last, and a route to each container by it.
//!
//! As with parents, all of that is done under the ledger's lock: who needs the link is read from the ledger, and must
//! not change meanwhile. That it has all that belongs to it is written down last (`ifindex`); until then, or when
//! somebody has changed it, it is made anew.

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
use crate::lifecycle::context::Context;
use crate::lifecycle::host_conflicts::{Host, HostProbes};
use crate::lifecycle::reserve;
use crate::net::driver::Kind as Driver;
use crate::net::link::Link;
use crate::net::name::NetworkName;
use crate::net::ways::Ways;
use crate::netlink::Socket;
use crate::plan::host::{HostOp, Present};

/// # Errors
/// When the host has a link of the name that its own link in `network` is to have, and that is somebody else's.
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

/// # Errors
/// When the host's link of a network is on another parent than the network has now, where running containers need it.
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
        let needs = |record: &&Record| is_reached(record) && kernel::lives(&record.holder);
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

/// Makes the host's links that `pending` is to be reached by, where they are missing, and the routes to it, except those
/// that would change where the host's packets go.
///
/// # Errors
/// When a link or route cannot be made; what was made is left for [`close`] and [`drop_unneeded`].
pub(crate) fn ensure(
    context: &mut Context<'_>,
    pending: &Record,
    present: &ipam::reserve::HostFacts,
    probes: HostProbes,
) -> Result<()> {
    if pending.attachments().iter().all(|attached| attached.host_link.is_none()) {
        return Ok(());
    }
    let locked = context.lock()?;
    let (store, host) = (context.store, &mut context.host_netlink);
    let (settings, netns) = (&context.settings, context.host_netns.get()?);
    let mut place = Host { settings, netns, present, probes };
    for attached in pending.attachments().iter().filter(|attached| attached.host_link.is_some()) {
        let link = store.host_link(&attached.network)?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("{} is gone", store.host_link_path(&attached.network).display()),
            )
        })?;
        match found(&link, host)?.filter(|found| found.is_whole(&link)) {
            Some(found) => {
                let routes = link.open_routes_to(attached, &present.ways);
                kernel::add_host_routes(&link.name, found.link.ifindex, &routes, host)?;
            }
            None => make(&locked, &link, pending, &mut place, host)?,
        }
    }
    Ok(())
}

/// Begins to probe for the addresses of those of the host's links that `pending` is to be reached by, and that are missing.
///
/// # Errors
/// When ledger or kernel cannot be read, or no probe can be sent.
pub(crate) fn begin_probes(
    context: &mut Context<'_>,
    pending: &Record,
    present: &ipam::reserve::HostFacts,
) -> Result<HostProbes> {
    let used: Vec<_> = pending.attachments().iter().filter(|attached| attached.host_link.is_some()).collect();
    if used.is_empty() {
        return Ok(HostProbes::new());
    }
    let (store, host) = (context.store, &mut context.host_netlink);
    let (settings, netns) = (&context.settings, context.host_netns.get()?);
    let mut place = Host { settings, netns, present, probes: HostProbes::new() };
    for attached in used {
        let Some(link) = known(store, &attached.network)? else { continue };
        if !found(&link, host)?.is_some_and(|found| found.is_whole(&link)) {
            place.begin(store, &link, host)?;
        }
    }
    Ok(place.probes)
}

/// What would be done on the host for a container that is going to be `record`, and to be reached by `link`.
///
/// # Errors
/// When somebody else's link has its name.
pub(crate) fn foresee(
    link: &HostLink,
    record: &Record,
    ways: &Ways,
    host: &mut Socket,
) -> Result<Vec<HostOp>> {
    let found = found(link, host)?.filter(|found| found.is_whole(link));
    let make = found.is_none().then(|| HostOp::MakeLink(Box::new(link.clone())));
    let routes = link.open_routes([record], ways);
    Ok(make
        .into_iter()
        .chain(routes.into_iter().map(|route| HostOp::AddRoute(link.name.clone(), route)))
        .collect())
}

/// The host's link as it is, but for its routes; `None` if it is missing.
pub(super) fn found(link: &HostLink, host: &mut Socket) -> Result<Option<Present>> {
    let Some(found) = host.link(&link.name)? else { return Ok(None) };
    if !link.is(&found) {
        return Err(foreign(&link.network, &found));
    }
    let addresses = host.addresses_of(found.ifindex)?;
    Ok(Some(Present::new(found, addresses.iter().map(IpNet::addr), &[])))
}

/// Makes the host's link, with routes to `first` and to all others that live.
fn make(
    locked: &Locked<'_>,
    link: &HostLink,
    first: &Record,
    place: &mut Host<'_>,
    host: &mut Socket,
) -> Result<()> {
    let made = make_link(locked, link, place, host)?;
    let (link, ways) = (&made, &place.present.ways);
    let add = |routes: &[_], host: &mut Socket| match made.ifindex {
        Some(ifindex) => kernel::add_host_routes(&link.name, ifindex, routes, host),
        None => Ok(()),
    };
    add(&link.open_routes([first], ways), host)?;
    let others = locked.store().records()?.sound;
    for other in
        others.iter().filter(|other| other.container != first.container && kernel::lives(&other.holder))
    {
        // What is wrong with the route to one shall not keep the next from starting.
        if let Err(error) = add(&link.open_routes([other], ways), host) {
            log::warn!("container {}: {error}", other.container);
        }
    }
    locked.write_host_link(&made)
}

/// Makes the host's link anew. It is written down what has become of it; not yet that it is whole.
pub(super) fn make_link(
    locked: &Locked<'_>,
    link: &HostLink,
    place: &mut Host<'_>,
    host: &mut Socket,
) -> Result<HostLink> {
    let unfinished = HostLink { ifindex: None, ..link.clone() };
    if unfinished != *link {
        locked.write_host_link(&unfinished)?;
    }
    kernel::delete_host_link(&unfinished, host)?;
    let unfinished = place.settle(locked, &unfinished, host)?;
    let made = kernel::make_host_link(&unfinished, place.netns, host)?;
    let mac = made.mac.filter(|_| link.driver.kind() == Driver::Macvlan);
    Ok(HostLink { ifindex: Some(made.ifindex), mac, ..unfinished })
}

/// Deletes the host's routes to the container of `record`, as far as its addresses are still its own.
///
/// # Errors
/// When one cannot be deleted.
pub(crate) fn close(locked: &Locked<'_>, record: &Record, host: &mut Socket) -> Result<()> {
    let store = locked.store();
    // In doubt an address may be that of a container that is not found, which another was given until it was probed for.
    if record.attachments().iter().all(|attached| attached.host_link.is_none()) || store.is_in_doubt()? {
        return Ok(());
    }
    // Somebody has given it back before, and the id is used again.
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
        let is_ours = |found: &Link| !own.is_empty() && host_link::is_of(&attached.network, found);
        if let Some(found) = host.link(name)?.filter(is_ours) {
            kernel::delete_host_routes(name, found.ifindex, &own, host)?;
        }
    }
    Ok(())
}

/// Deletes the host's links by which `record` was reached, as far as no other container needs them.
///
/// # Errors
/// When one cannot be deleted: it stays in the ledger.
pub(crate) fn drop_unneeded_of(locked: &Locked<'_>, record: &Record, host: &mut Socket) -> Result<()> {
    let used = record.attachments().iter().filter(|attached| attached.host_link.is_some());
    used.map(|attached| &attached.network).try_for_each(|network| drop_unneeded(locked, network, host))
}

/// Has the host's link of `network` on `parent` stay from now on, with or without containers, if the definition names
/// all its addresses: [`settle`] makes it. One whose addresses are picked comes with the first container: picked
/// before, they could be what a container had before the reboot.
///
/// # Errors
/// When an address is somebody else's, or the ledger cannot be written.
pub(crate) fn keep(locked: &Locked<'_>, network: &Network, parent: &Link) -> Result<()> {
    if !network.names_host_addresses() {
        return Ok(());
    }
    locked.make_segment(parent.segment())?;
    // What the host has and knows matters to those that are picked.
    reserve::reserve_host_link(locked, network, parent, &ipam::reserve::HostFacts::default())?;
    match known(locked.store(), &network.name)? {
        Some(link) if !link.kept => locked.write_host_link(&HostLink { kept: true, ..link }),
        _ => Ok(()),
    }
}

/// Deletes the host's link of `network` if no container needs it, and none may that nobody knows of. Its addresses are given
/// back if there is no such network any more.
///
/// # Errors
/// When it cannot be deleted: it stays in the ledger.
pub(crate) fn drop_unneeded(locked: &Locked<'_>, network: &NetworkName, host: &mut Socket) -> Result<()> {
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

/// Whether an attach failed for what a host's link can be the reason of: the kernel wants links of one kind on a parent.
pub(crate) fn is_in_the_way(error: &Error) -> bool {
    matches!(error.kind(), Kind::Kernel(nix::libc::EBUSY | nix::libc::EINVAL))
}

/// The host's links on the parents of `record` that are there, each with the containers that use it.
///
/// # Errors
/// When ledger or kernel cannot be read.
pub(crate) fn near(
    store: &Store,
    record: &Record,
    host: &mut Socket,
) -> Result<Vec<(HostLink, Vec<Record>)>> {
    let mut near = Vec::new();
    for network in store.host_links()? {
        let Some(link) = known(store, &network)? else { continue };
        let is_near = record.attachments().iter().any(|attached| attached.segment == link.segment);
        if is_near && host.link(&link.name)?.is_some_and(|found| link.is(&found)) {
            let mut users = store.records()?.sound;
            users.retain(|user| user.uses_host_link(&network));
            near.push((link, users));
        }
    }
    Ok(near)
}

/// What is written of the host's link of `network`; nothing, if that cannot be read: the next `gc` tells by the mark.
pub(super) fn known(store: &Store, network: &NetworkName) -> Result<Option<HostLink>> {
    match store.host_link(network) {
        Err(error) if error.kind().is_of_one_file() => {
            log::warn!("{error}");
            Ok(None)
        }
        known => known,
    }
}

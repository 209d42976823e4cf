//! The making of the host's own links: by an attach, for its container, and by `gc` and `boot`, for all that live.

use std::slice;

use crate::error::{Error, Kind, Result};
use crate::escape::shell::Line;
use crate::ipam::assign::ResolvedAttachment;
use crate::ipam::reserve::HostFacts;
use crate::kernel::{self, Probes};
use crate::ledger::attached::Attached;
use crate::ledger::host_link::HostLink;
use crate::ledger::record::Record;
use crate::ledger::{Locked, Records, Store};
use crate::lifecycle::conflicts::Probing;
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access::{delete_unused, found, known};
use crate::net::host_routing::HostRouting;
use crate::net::name::NetworkName;
use crate::netlink::Socket;
use crate::plan::host::{Changes, HostOp, Present, to_containers};

/// Conflict detection that is under way for a link that is going to be made.
pub(crate) struct Begun {
    link: HostLink,
    wanted: ResolvedAttachment,
    probes: Probes,
}

impl Begun {
    /// Begins to probe for the addresses of `link`, if its network has conflict detection. The probes are sent from the parent,
    /// together with those of the containers, so that they cost no extra time: a link beside would hear the host's own link, which may
    /// have them already.
    fn new(context: &mut Context<'_>, link: HostLink, facts: &HostFacts) -> Result<Option<Self>> {
        let Some(network) = context.store.network_if_defined(&link.network)? else { return Ok(None) };
        let network = context.settings.complete(network);
        let Some(parent) = context.host_netlink.link_by_index(link.parent_index)? else { return Ok(None) };
        let detection = network.detection_on(&parent).filter(|_| parent.is_connected());
        if detection.is_none() {
            return Ok(None);
        }
        let wanted = ResolvedAttachment::of_host(&network, &parent, Some(&link));
        let probing = Probing { context, wanted: slice::from_ref(&wanted), facts };
        let probes = probing.begin_on_parents(&[(0, &Attached { detection, ..link.attached() })])?;
        Ok(Some(Self { link, wanted, probes }))
    }

    /// Returns the link with addresses that no other host has.
    fn settled(mut self, context: &mut Context<'_>, facts: &HostFacts) -> Result<HostLink> {
        let mut probing = Probing { context, wanted: slice::from_ref(&self.wanted), facts };
        probing.settle(&mut self.link, &mut self.probes)?;
        Ok(self.link)
    }
}

/// Begins conflict detection for the missing host links of `pending`, in their order.
///
/// # Errors
/// When ledger or kernel cannot be read, or no probe can be sent.
pub(crate) fn begin(
    context: &mut Context<'_>,
    pending: &Record,
    facts: &HostFacts,
) -> Result<Vec<Option<Begun>>> {
    let begin = |network: &NetworkName| {
        let Some(link) = known(context.store, network)? else { return Ok(None) };
        match found(&link, &mut context.host_netlink)? {
            Some(found) if found.is_whole(&link) => Ok(None),
            _ => Begun::new(context, link, facts),
        }
    };
    pending.host_link_networks().map(begin).collect()
}

/// Makes the missing host links of `pending`, and the routes to it, except those that would redirect packets
/// of the host.
///
/// # Errors
/// What was made before the error is left for [`close`](super::host_access::close) and [`delete_unused`].
pub(crate) fn ensure(
    context: &mut Context<'_>,
    pending: &Record,
    facts: &HostFacts,
    begun: Vec<Option<Begun>>,
) -> Result<()> {
    let mut begun = pending.host_link_networks().zip(begun);
    begun.try_for_each(|(network, begun)| bring(context, network, Some(pending), facts, begun))
}

/// Makes every one of the host's links such as the containers need it that live; deletes the others.
///
/// # Errors
/// When one cannot be made so.
pub(crate) fn reconcile(context: &mut Context<'_>) -> Result<()> {
    let store = context.store;
    let networks = store.host_links()?;
    if networks.is_empty() {
        return Ok(());
    }
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    networks.iter().try_for_each(|network| delete_unused(&locked, network, host))?;
    let (on_host, routing) = (host.addresses()?.into_iter().collect(), host.host_routing()?);
    drop(locked);
    let facts = HostFacts { on_host, routing, ..HostFacts::default() };
    networks.iter().try_for_each(|network| bring(context, network, None, &facts, None))
}

/// Makes the host's link of `network` if it is not whole, with routes to all living containers. One that is whole gets
/// those to `first`; or, without one, exactly those to the living.
fn bring(
    context: &mut Context<'_>,
    network: &NetworkName,
    first: Option<&Record>,
    facts: &HostFacts,
    mut begun: Option<Begun>,
) -> Result<()> {
    let store = context.store;
    loop {
        // Before the lock: it may take some seconds.
        let settled = begun.take().map(|begun| begun.settled(context, facts)).transpose()?;
        let locked = context.lock()?;
        let Some(mut link) = known(store, network)? else {
            let gone = || format!("{} is gone", store.host_link_path(network).display());
            return first.map_or(Ok(()), |_| Err(Error::new(Kind::NotFound, gone())));
        };
        let host = &mut context.host_netlink;
        let changes = match first {
            Some(first) => Some(changes_for(&link, first, &facts.routing, host)?),
            None => {
                let Records { sound, unknown } = store.records()?;
                let (living, in_doubt) = (living(&sound), store.is_in_doubt()?);
                let is_needed = in_doubt || is_needed(store, &link, &living);
                let all_known = !in_doubt && unknown.is_empty();
                is_needed.then(|| changes(&link, &living, all_known, host)).transpose()?.flatten()
            }
        };
        let Some(changes) = changes else { return Ok(()) };
        if changes.make {
            // Another process may have chosen other addresses since the probes were sent.
            if settled.is_none_or(|settled| settled.addresses != link.addresses) {
                begun = Begun::new(context, link.clone(), facts)?;
                if begun.is_some() {
                    continue;
                }
            }
            link = make(&locked, context, link)?;
        }
        let (name, host) = (&link.name, &mut context.host_netlink);
        let Some(ifindex) = link.ifindex else { return Ok(()) };
        kernel::delete_host_routes(name, ifindex, &changes.delete, host)?;
        kernel::add_host_routes(name, ifindex, &changes.add, host)?;
        if !changes.make {
            return Ok(());
        }
        if let Some(first) = first {
            let records = store.records()?.sound;
            for other in living(&records).into_iter().filter(|other| other.container != first.container) {
                // A failed route to one container must not keep another from starting.
                let routes = link.open_routes([other], &facts.routing);
                if let Err(error) = kernel::add_host_routes(name, ifindex, &routes, host) {
                    log::warn!("container {}: {error}", other.container);
                }
            }
        }
        return locked.write_host_link(&link);
    }
}

/// Makes the host's link anew. Its record is written, but not yet as complete.
fn make(locked: &Locked<'_>, context: &mut Context<'_>, link: HostLink) -> Result<HostLink> {
    let is_finished = link.ifindex.is_some();
    let unfinished = HostLink { ifindex: None, ..link };
    if is_finished {
        locked.write_host_link(&unfinished)?;
    }
    let netns = context.host_netns.get()?;
    let made = kernel::make_host_link(&unfinished, netns, &mut context.host_netlink)?;
    let mac = made.mac.filter(|_| unfinished.driver.has_own_mac());
    Ok(HostLink { ifindex: Some(made.ifindex), mac, ..unfinished })
}

/// Returns what an attach of the container of `record` changes of `link`.
pub(crate) fn changes_for(
    link: &HostLink,
    record: &Record,
    routing: &HostRouting,
    host: &mut Socket,
) -> Result<Changes> {
    Ok(Changes::of(link, &link.open_routes([record], routing), found(link, host)?.as_ref()))
}

/// Returns the changes to `link` that the `living` containers need. Returns `None` if the link of that name
/// is not ours: it is left alone. Routes that no known container needs are kept unless all containers are
/// known.
fn changes(
    link: &HostLink,
    living: &[&Record],
    all_known: bool,
    host: &mut Socket,
) -> Result<Option<Changes>> {
    let mut present = match found(link, host) {
        Err(error) if error.kind() == Kind::Taken => {
            log::warn!("{error}");
            return Ok(None);
        }
        present => present?,
    };
    if let Some(Present { link, routes, .. }) = &mut present {
        *routes = to_containers(&host.routes_of(link.ifindex, None)?);
    }
    let wanted = link.open_routes(living.iter().copied(), &host.host_routing()?);
    let mut changes = Changes::of(link, &wanted, present.as_ref());
    if !all_known {
        changes.delete.clear();
    }
    Ok(Some(changes))
}

/// Returns those of `records` whose containers live.
pub(crate) fn living(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| kernel::is_alive(&record.holder)).collect()
}

/// Returns true if one of the `living` uses `link`, or it stays without.
pub(crate) fn is_needed(store: &Store, link: &HostLink, living: &[&Record]) -> bool {
    living.iter().any(|record| record.uses_host_link(&link.network)) || store.keeps_host_link(link)
}

/// Returns what [`reconcile`] will do once the dead containers among `records` are reclaimed, as equivalent
/// commands.
pub(crate) fn preview(
    store: &Store,
    records: &[Record],
    in_doubt: bool,
    host: &mut Socket,
) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    let living = living(records);
    // An unreadable record may need any link or route. Damaged ones do not count: they are repaired by then.
    let all_known = !in_doubt && !store.records()?.unknown.iter().any(|(_, kind)| kind.is_left_alone());
    for network in store.host_links()? {
        let Some(link) = known(store, &network)? else { continue };
        if in_doubt || is_needed(store, &link, &living) {
            let changes = changes(&link, &living, all_known, host)?.unwrap_or_default();
            steps.extend(changes.ops(&link).iter().map(ToString::to_string));
        } else if all_known {
            let found = host.link(&link.name)?.filter(|found| link.is(found));
            steps.extend(found.map(|_| HostOp::DeleteLink(link.name.clone()).to_string()));
            if !store.has_network(&network)? {
                let paths = store.paths_of_host_link(&link);
                steps.extend(paths.iter().map(|path| Line::of("rm").path(path).to_string()));
            }
        }
    }
    Ok(steps)
}

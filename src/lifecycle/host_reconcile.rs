//! Reconciliation of the host's own links: `gc` and `boot` make them as living containers need them, and
//! delete the others.

use crate::error::{Kind, Result};
use crate::escape::shell::Line;
use crate::ipam;
use crate::kernel;
use crate::ledger::host_link::HostLink;
use crate::ledger::record::Record;
use crate::ledger::{Locked, Records, Store};
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access::{delete_unused, found, known, make_link};
use crate::lifecycle::host_conflicts::{Heard, Host, HostProbes};
use crate::netlink::Socket;
use crate::plan::host::{Changes, HostOp, Present};

/// Returns what [`reconcile`] will do once the dead containers among `records` are reclaimed, as equivalent
/// commands.
pub(crate) fn preview(
    store: &Store,
    records: &[Record],
    in_doubt: bool,
    host: &mut Socket,
) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    let living: Vec<_> = records.iter().filter(|record| kernel::is_alive(&record.holder)).collect();
    // An unreadable record may need any link or route. Damaged ones do not count: they are repaired by then.
    let all_known = !in_doubt && !store.records()?.unknown.iter().any(|(_, kind)| kind.is_left_alone());
    for network in store.host_links()? {
        let Some(link) = known(store, &network)? else { continue };
        let is_used = living.iter().any(|record| record.uses_host_link(&network));
        if is_used || in_doubt || store.keeps_host_link(&link) {
            if let Some(changes) = changes(&link, living.iter().copied(), all_known, host)? {
                steps.extend(changes.ops(&link).iter().map(ToString::to_string));
            }
            continue;
        }
        if !all_known {
            continue;
        }
        if host.link(&link.name)?.is_some_and(|found| link.is(&found)) {
            steps.push(HostOp::DeleteLink(link.name.clone()).to_string());
        }
        if !store.has_network(&network)? {
            let paths = store.paths_of_host_link(&link);
            steps.extend(paths.iter().map(|path| Line::of("rm").path(path).to_string()));
        }
    }
    Ok(steps)
}

/// Returns the changes to `link` that the `living` containers need. Returns `None` if the link of that name
/// is not ours: it is left alone. Routes that no known container needs are kept unless all containers are
/// known.
fn changes<'a>(
    link: &HostLink,
    living: impl IntoIterator<Item = &'a Record>,
    all_known: bool,
    host: &mut Socket,
) -> Result<Option<Changes>> {
    let present = match found(link, host) {
        Err(error) if error.kind() == Kind::Taken => {
            log::warn!("{error}");
            return Ok(None);
        }
        present => present?,
    };
    let routes = present.as_ref().map(|present| host.routes_of(present.link.ifindex, None)).transpose()?;
    let present =
        present.map(|present| Present::new(present.link, present.addresses, &routes.unwrap_or_default()));
    let mut changes = Changes::of(link, &link.open_routes(living, &host.host_routing()?), present.as_ref());
    if !all_known {
        changes.delete.clear();
    }
    Ok(Some(changes))
}

/// Probes for the addresses of those of the host's links that [`reconcile`] will make, if no container ends until then.
///
/// # Errors
/// When ledger or kernel cannot be read, or no probe can be sent.
pub(crate) fn probe(context: &mut Context<'_>, records: &[Record]) -> Result<Heard> {
    let (store, host) = (context.store, &mut context.host_netlink);
    let present = ipam::reserve::HostFacts::default();
    let place = Host { settings: &context.settings, netns: context.host_netns.get()?, present: &present };
    let mut probes = HostProbes::default();
    for network in store.host_links()? {
        let Some(link) = known(store, &network)? else { continue };
        let is_used =
            records.iter().any(|record| record.uses_host_link(&network) && kernel::is_alive(&record.holder));
        let is_needed = is_used || store.keeps_host_link(&link);
        if is_needed
            && !found(&link, host).is_ok_and(|found| found.is_some_and(|found| found.is_whole(&link)))
        {
            place.begin(store, &link, &mut probes, host)?;
        }
    }
    probes.hear()
}

/// Makes every one of the host's links such as the containers need it that live.
///
/// # Errors
/// When one cannot be made so.
pub(crate) fn reconcile(locked: &Locked<'_>, context: &mut Context<'_>, mut heard: Heard) -> Result<()> {
    let (store, host) = (context.store, &mut context.host_netlink);
    let networks = store.host_links()?;
    if networks.is_empty() {
        return Ok(());
    }
    let (on_host, routing) = (host.addresses()?.into_iter().collect(), host.host_routing()?);
    let present = ipam::reserve::HostFacts { on_host, routing, ..Default::default() };
    let place = Host { settings: &context.settings, netns: context.host_netns.get()?, present: &present };
    for network in networks {
        delete_unused(locked, &network, host)?;
        let Some(mut link) = known(store, &network)? else { continue };
        let Records { sound, unknown } = store.records()?;
        let living: Vec<_> = sound.iter().filter(|record| kernel::is_alive(&record.holder)).collect();
        let is_used = living.iter().any(|record| record.uses_host_link(&network));
        if !is_used && !store.is_in_doubt()? && !store.keeps_host_link(&link) {
            continue;
        }
        let all_known = !store.is_in_doubt()? && unknown.is_empty();
        let Some(changes) = changes(&link, living.iter().copied(), all_known, host)? else { continue };
        if changes.make {
            link = make_link(locked, &link, &place, &mut heard, host)?;
        }
        if let Some(ifindex) = link.ifindex {
            kernel::delete_host_routes(&link.name, ifindex, &changes.delete, host)?;
            kernel::add_host_routes(&link.name, ifindex, &changes.add, host)?;
        }
        if changes.make {
            locked.write_host_link(&link)?;
        }
    }
    Ok(())
}

//! The host's own links, and the routes by them, in a check.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::diagnose::difference::{Difference, What};
use crate::error::Result;
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::record::Record;
use crate::ledger::{Locked, Store};
use crate::lifecycle::host_links::{is_needed, living};
use crate::net::host_routing::HostRouting;
use crate::net::link::Link;
use crate::netlink::Socket;
use crate::plan::host::to_containers;

const UNNEEDED: &str = "`underlay gc` deletes the host's link that no container needs";
const REMAKE: &str = "`underlay gc` makes it anew, as does the next attach";

/// What differs of the host's links, except the routes that containers need. `links` are all of the host's.
///
/// # Errors
/// When the ledger cannot be read, or the kernel does not tell.
pub(crate) fn links(locked: &Locked<'_>, links: &[Link], host: &mut Socket) -> Result<Vec<Difference>> {
    let store = locked.store();
    let written = store.host_links()?;
    let records = store.records()?;
    let living = living(&records.sound);
    let may_be_needed = !records.unknown.is_empty() || store.is_in_doubt()?;
    let mut differences = Vec::new();
    for network in &written {
        // A damaged file is a difference of its own.
        let Ok(Some(link)) = store.host_link(network) else { continue };
        let mut differ = |what, expected: Option<String>, found: Option<String>, hint: &str| {
            let difference = Difference::new(what, expected, found).at_parent(&link.name).hint(hint);
            differences.push(Difference { network: Some(network.clone()), ..difference });
        };
        for address in &link.addresses {
            if store.host_holding(link.segment, (*address).into())?.as_ref() != Some(network) {
                differ(What::Lease, Some(address.to_string()), None, "`underlay gc` writes leases anew");
            }
        }
        let found = links.iter().find(|found| found.name == link.name.as_str());
        if !may_be_needed && !is_needed(store, &link, &living) {
            if let Some(found) = found.filter(|found| link.is(found)) {
                differ(What::Link, None, Some(found.describe()), UNNEEDED);
            }
            if !store.has_network(network)? {
                let path = Some(store.host_link_path(network).display().to_string());
                differ(What::File, None, path, "`underlay gc` forgets networks that are gone");
            }
            continue;
        }
        let Some(found) = found else {
            differ(What::Link, Some(link.name.to_string()), None, REMAKE);
            continue;
        };
        if !link.is(found) {
            let hint = "rename that link, then restart a container of the network";
            differ(What::Mark, Some(link.mark()), found.alias.clone(), hint);
            continue;
        }
        let has: BTreeSet<IpAddr> = host.addresses_of(found.ifindex)?.iter().map(|net| net.addr()).collect();
        let wanted: BTreeSet<IpAddr> = link.addresses.iter().copied().collect();
        for missing in &wanted - &has {
            differ(What::Address, Some(missing.to_string()), None, REMAKE);
        }
        for more in &has - &wanted {
            differ(What::Address, None, Some(more.to_string()), REMAKE);
        }
        if !link.is_whole(found) {
            differ(What::Link, Some(whole(&link)), Some(described(found)), REMAKE);
        }
        if may_be_needed {
            continue;
        }
        let wanted = link.open_routes(living.iter().copied(), &host.host_routing()?);
        let wanted = wanted.into_iter().map(|route| route.to);
        for route in &to_containers(&host.routes_of(found.ifindex, None)?) - &wanted.collect() {
            let hint = "`underlay gc` deletes the routes to containers that are gone";
            differ(What::Route, None, Some(IpNet::from(route).to_string()), hint);
        }
    }
    for found in links {
        let Some(network) = found.alias.as_deref().and_then(host_link::network_of) else { continue };
        let Ok(name) = found.name.parse() else { continue };
        if !written.contains(&network) {
            let unknown = Difference::new(What::Link, None, Some(found.describe())).at_parent(&name);
            let unknown = unknown.hint("`underlay gc` writes down links that bear the mark");
            differences.push(Difference { network: Some(network), ..unknown });
        }
    }
    Ok(differences)
}

/// The host's links of networks, with the routes by them.
pub(crate) struct HostRoutes {
    by_link: Vec<(HostLink, BTreeSet<IpAddr>)>,
    routing: HostRouting,
}

impl HostRoutes {
    /// Reads those there are. A link that is unknown or missing is a difference of its own.
    ///
    /// # Errors
    /// When the ledger cannot be read, or the kernel does not tell.
    pub(crate) fn read(store: &Store, host: &mut Socket) -> Result<Self> {
        let links = host.links()?;
        let mut by_link = Vec::new();
        for network in store.host_links()? {
            let Ok(Some(known)) = store.host_link(&network) else { continue };
            let is_it = |link: &&Link| known.is(link) && link.name == known.name.as_str();
            let Some(found) = links.iter().find(is_it) else { continue };
            by_link.push((known, to_containers(&host.routes_of(found.ifindex, None)?)));
        }
        let routing = if by_link.is_empty() { HostRouting::default() } else { host.host_routing()? };
        Ok(Self { by_link, routing })
    }

    /// The routes that the container of `record` needs and the host does not have.
    pub(crate) fn missing(&self, record: &Record) -> Vec<Difference> {
        let mut differences = Vec::new();
        // A link has routes to attachments to its own network alone.
        for (attached, (link, routes)) in
            record.attachments().iter().flat_map(|attached| self.by_link.iter().map(move |by| (attached, by)))
        {
            let missing = link.open_routes_to(attached, &self.routing).into_iter().map(|route| route.to);
            for to in missing.filter(|to| !routes.contains(to)) {
                let missing = Difference::missing(What::Route, format!("{to} by {} of the host", link.name));
                let missing = missing.hint("`underlay gc` adds it again");
                differences.push(missing.of(&record.container).at(attached));
            }
        }
        differences
    }
}

fn whole(link: &HostLink) -> String {
    let ifindex =
        link.ifindex.map_or_else(|| "unfinished".to_owned(), |ifindex| format!("ifindex {ifindex}"));
    format!("{} on ifindex {} ({ifindex}, up)", link.driver, link.segment)
}

fn described(link: &Link) -> String {
    let driver = link.driver.map_or_else(|| link.describe(), |driver| driver.to_string());
    let state = if link.up { "up" } else { "down" };
    format!("{driver} on ifindex {} (ifindex {}, {state})", link.lower.unwrap_or_default(), link.ifindex)
}

//! The host's own links, and the routes by them, in a check.

use ipnet::IpNet;

use crate::diagnose::difference::{Difference, What};
use crate::error::Result;
use crate::kernel;
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::record::Record;
use crate::ledger::{Locked, Store};
use crate::net::host_routing::HostRouting;
use crate::net::link::Link;
use crate::net::route::Route;
use crate::netlink::Socket;

const UNNEEDED: &str = "`underlay gc` deletes the host's link that no container needs";
const REMAKE: &str = "`underlay gc` makes it anew, as does the next attach";

/// What differs of the host's links, except the routes that containers need. `links` are all of the host's.
///
/// # Errors
/// When the ledger cannot be read, or the kernel does not tell.
pub(crate) fn links(locked: &Locked<'_>, links: &[Link], host: &mut Socket) -> Result<Vec<Difference>> {
    let store = locked.store();
    let written = store.host_links()?;
    let mut differences = Vec::new();
    for network in &written {
        // A damaged file is a difference of its own.
        let Ok(Some(link)) = store.host_link(network) else { continue };
        let found = links.iter().find(|found| found.name == link.name.as_str());
        let of_link = |what, expected: Option<String>, found: Option<String>, hint: &str| Difference {
            network: Some(network.clone()),
            ..Difference::new(what, expected, found).at_parent(&link.name).hint(hint)
        };
        for address in &link.addresses {
            if store.host_holding(link.segment, (*address).into())?.as_ref() != Some(network) {
                let hint = "`underlay gc` writes leases anew";
                differences.push(of_link(What::Lease, Some(address.to_string()), None, hint));
            }
        }
        let records = store.records()?;
        let uses = |record: &&Record| record.uses_host_link(network) && kernel::is_alive(&record.holder);
        let living: Vec<_> = records.sound.iter().filter(uses).collect();
        let may_be_needed = !records.unknown.is_empty() || store.is_in_doubt()?;
        if living.is_empty() && !may_be_needed && !store.keeps_host_link(&link) {
            if let Some(found) = found.filter(|found| link.is(found)) {
                differences.push(of_link(What::Link, None, Some(found.describe()), UNNEEDED));
            }
            if !store.has_network(network)? {
                let path = Some(store.host_link_path(network).display().to_string());
                let hint = "`underlay gc` forgets networks that are gone";
                differences.push(of_link(What::File, None, path, hint));
            }
            continue;
        }
        let Some(found) = found else {
            differences.push(of_link(What::Link, Some(link.name.to_string()), None, REMAKE));
            continue;
        };
        if !link.is(found) {
            let hint = "rename that link, then restart a container of the network";
            differences.push(of_link(What::Mark, Some(link.mark()), found.alias.clone(), hint));
            continue;
        }
        let addresses: Vec<_> = host.addresses_of(found.ifindex)?.iter().map(IpNet::addr).collect();
        let missing = link.addresses.iter().filter(|address| !addresses.contains(address));
        differences
            .extend(missing.map(|address| of_link(What::Address, Some(address.to_string()), None, REMAKE)));
        let more = addresses.iter().filter(|address| !link.addresses.contains(address));
        differences
            .extend(more.map(|address| of_link(What::Address, None, Some(address.to_string()), REMAKE)));
        if !link.is_whole(found) {
            differences.push(of_link(What::Link, Some(whole(&link)), Some(described(found)), REMAKE));
        }
        let wanted = link.open_routes(living, &host.host_routing()?);
        if may_be_needed {
            continue;
        }
        for route in host.routes_of(found.ifindex, None)?.iter().filter(|route| is_of_host(route)) {
            if !wanted.iter().any(|wanted| wanted.to == route.to.addr()) {
                let hint = "`underlay gc` deletes the routes to containers that are gone";
                differences.push(of_link(What::Route, None, Some(route.to.to_string()), hint));
            }
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
    by_link: Vec<(HostLink, Vec<Route>)>,
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
            let mut routes = host.routes_of(found.ifindex, None)?;
            routes.retain(is_of_host);
            by_link.push((known, routes));
        }
        let routing = if by_link.is_empty() { HostRouting::default() } else { host.host_routing()? };
        Ok(Self { by_link, routing })
    }

    /// The routes that the container of `record` needs and the host does not have.
    pub(crate) fn missing(&self, record: &Record) -> Vec<Difference> {
        let mut differences = Vec::new();
        for attached in record.attachments().iter().filter(|attached| attached.host_link.is_some()) {
            let Some((link, routes)) = self.by_link.iter().find(|(link, _)| link.network == attached.network)
            else {
                continue;
            };
            for route in link.open_routes_to(attached, &self.routing) {
                if !routes.iter().any(|found| found.to.addr() == route.to) {
                    let expected = format!("{} by {} of the host", route.to, link.name);
                    let missing =
                        Difference::missing(What::Route, expected).hint("`underlay gc` adds it again");
                    differences.push(missing.of(&record.container).at(attached));
                }
            }
        }
        differences
    }
}

/// Whether it leads to one address, by the link alone.
fn is_of_host(route: &Route) -> bool {
    route.via.is_none() && route.to.prefix_len() == route.to.max_prefix_len()
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

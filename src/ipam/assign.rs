//! Names and routes of the attachments of a container.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ipam::previous::PreviousAddresses;
use crate::ledger::attached::Attached;
use crate::ledger::host_link::{self, HostLink};
use crate::net::ipv6::Advertised;
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::net::route::{DefaultRoutes, Route, Table};
use crate::net::subnet::Subnet;
use crate::oci::annotations::Attachment;
use crate::oci::requested_address::RequestedAddress;

/// An attachment request with its network and parent, before addresses are picked.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedAttachment {
    /// What the container asked for.
    pub request: Attachment,
    /// The network it names.
    pub network: Network,
    /// That network's parent on this host.
    pub parent: Link,
    /// The name that its link is going to have.
    pub ifname: IfName,
    /// What its identity had in this network before.
    pub previous: PreviousAddresses,
}

impl ResolvedAttachment {
    /// Returns the attachment of the host to `network`, on `parent`; `known` is what the ledger has of it.
    pub(crate) fn of_host(network: &Network, parent: &Link, known: Option<&HostLink>) -> Self {
        let named = network.file.host_access.iter().flat_map(|access| &access.addresses);
        let ips = named.map(|&address| RequestedAddress { address, prefix_len: None }).collect();
        let previous = known.map(|known| PreviousAddresses {
            addresses: known.addresses.clone(),
            mac: known.mac.filter(|_| known.driver == network.driver),
        });
        Self {
            request: Attachment { ips, ..Attachment::plain(network.name.clone()) },
            network: network.clone(),
            parent: parent.clone(),
            ifname: host_link::name(&network.name),
            previous: previous.unwrap_or_default(),
        }
    }

    /// Returns true if it asks for `address`, or had it before.
    pub(crate) fn names(&self, address: IpAddr) -> bool {
        self.previous.addresses.contains(&address) || self.request.ips.iter().any(|ip| ip.address == address)
    }

    /// Returns true if the host is to have a link of its own in the network.
    pub(crate) fn has_host_access(&self) -> bool {
        self.network.file.host_access.is_some()
    }
}

/// The names of the links of a container: as asked for, else `eth0`, `eth1`, … in the order listed, leaving
/// out the names in `present` and those asked for by other attachments.
///
/// # Errors
/// When a name that was asked for exists, or is asked for twice.
pub(crate) fn names<'a>(
    requests: impl Iterator<Item = &'a Attachment> + Clone,
    present: &BTreeSet<String>,
) -> Result<Vec<IfName>> {
    let mut used = present.clone();
    for ifname in requests.clone().filter_map(|request| request.ifname.as_ref()) {
        if present.contains(ifname.as_str()) {
            let text = format!("interface {ifname} exists in the container already");
            return Err(Error::new(Kind::Taken, text).hint("ask for another ifname, or leave it out"));
        }
        if !used.insert(ifname.to_string()) {
            return Err(Error::new(Kind::Taken, format!("interface name {ifname} is asked for twice"))
                .hint("give each attachment its own ifname"));
        }
    }
    let mut free = (0..).map(IfName::eth).filter(|name| !used.contains(name.as_str()));
    let name = |request: &Attachment| request.ifname.clone().map(IfName::from).or_else(|| free.next());
    // The iterator of free names does not end.
    Ok(requests.filter_map(name).collect())
}

/// Gives one attachment per family the default route: of those that can, the one with the highest `gw-priority`,
/// then one with a gateway of its own before one that waits for a router's advertisement, then the first listed. A
/// default route that is there already, as of podman's own bridge, counts as listed first with priority 0. Then each
/// attachment gets the routes of its network, and those it asks for; all once more in its own table, if it has one,
/// with the default route that it would give.
pub(crate) fn routes(wanted: &[ResolvedAttachment], attached: &mut [Attached], present: DefaultRoutes) {
    let families = [(IpNet::V4(Ipv4Net::default()), present.v4), (IpNet::V6(Ipv6Net::default()), present.v6)];
    for (family, present) in families {
        let candidates = wanted.iter().zip(attached.iter_mut()).filter_map(|(wanted, attached)| {
            let ResolvedAttachment { request, network, .. } = wanted;
            let is_wanted = request.default_route && !network.file.no_default_route;
            let route = gateway_route(network, attached, family);
            let can = route.is_some() || may_be_given(network, attached, family);
            (is_wanted && can && (!present || request.gw_priority > 0)).then_some((wanted, attached, route))
        });
        // Of equals the first: `max_by_key` returns the last.
        let best =
            candidates.rev().max_by_key(|(wanted, _, route)| (wanted.request.gw_priority, route.is_some()));
        let Some((wanted, attached, route)) = best else { continue };
        match route {
            Some(route) => attached.routes.push(route),
            None if family.addr().is_ipv4() => {
                attached.dhcp.iter_mut().for_each(|dhcp| dhcp.default_route = dhcp.routes);
            }
            None => {
                let (default_route, metric) = (true, wanted.network.file.metric);
                attached.advertised = Advertised { default_route, metric, ..attached.advertised };
            }
        }
    }
    // A route that leads nowhere belongs to no link: the first attachment that has it makes it.
    let mut nowhere: Vec<Route> = Vec::new();
    for (wanted, attached) in wanted.iter().zip(attached.iter_mut()) {
        let mut routes = network_routes(&wanted.network, attached);
        routes.extend(&wanted.request.routes);
        attached.table = table(wanted, attached, &routes);
        routes.retain(|route| route.is_unicast() || !nowhere.contains(route));
        nowhere.extend(routes.iter().filter(|route| !route.is_unicast()));
        attached.routes.extend(routes);
        // As the kernel lists them.
        attached.routes.sort_by_key(|route| route.to.addr().is_ipv6());
    }
}

/// The routes of an attachment with a table of its own, as if it were the only one: to its subnets, the default
/// routes, and `others`.
fn table(wanted: &ResolvedAttachment, attached: &Attached, others: &[Route]) -> Option<Table> {
    let id = wanted.request.table.or(wanted.network.file.table)?;
    let subnets = attached.addresses.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
    let subnets = subnets.map(|net| Route::new(net.trunc(), None));
    let families = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
    let defaults = families.into_iter().filter_map(|to| gateway_route(&wanted.network, attached, to));
    let mut routes: Vec<Route> = Vec::new();
    for route in subnets.chain(defaults).chain(others.iter().copied()) {
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    Some(Table { id, routes })
}

/// The routes of `network` that `attached` can have: their next hop must be reached by its addresses, or else it must
/// have one of their family. If packets are routed (ipvlan l3), also
/// routes to its other subnets, unless there is a default route: no router connects them.
fn network_routes(network: &Network, attached: &Attached) -> Vec<Route> {
    let reaches = |via: IpAddr| attached.addresses.iter().any(|net| net.trunc().contains(&via));
    let serves = |to: IpNet| attached.addresses.iter().any(|net| net.addr().is_ipv4() == to.addr().is_ipv4());
    let suits = |route: &&Route| match route.via {
        Some(via) if !route.onlink => reaches(via),
        _ => serves(route.to),
    };
    let mut routes: Vec<_> = network.file.routes.iter().filter(suits).copied().collect();
    if network.driver.is_routed() {
        for to in network.subnets.iter().map(Subnet::net) {
            let same_family = |net: IpNet| net.addr().is_ipv4() == to.addr().is_ipv4();
            let by_default = attached.routes.iter().any(|route| same_family(route.to));
            if serves(to) && !by_default && !reaches(to.addr()) {
                routes.push(Route::new(to, None));
            }
        }
    }
    routes
}

/// Returns true if an attachment without a gateway could take the default route of the family of `to` from a router, or from a
/// DHCP server.
fn may_be_given(network: &Network, attached: &Attached, to: IpNet) -> bool {
    let may_be = match to {
        IpNet::V4(_) => attached.dhcp.as_ref().is_some_and(|dhcp| dhcp.routes),
        // A routed network hears none either, but has a default route of its own if it leads out.
        IpNet::V6(_) => attached.has_ipv6(),
    };
    may_be && !network.file.internal && !network.on_dummy
}

/// The default route out of the network for the family of `to`.
fn gateway_route(network: &Network, attached: &Attached, to: IpNet) -> Option<Route> {
    // Packets on a dummy link reach no router.
    if network.file.internal || network.on_dummy {
        return None;
    }
    let metric = network.file.metric;
    let of_family = |address: &&IpNet| address.addr().is_ipv4() == to.addr().is_ipv4();
    let mut addresses = attached.addresses.iter().filter(of_family);
    if network.driver.is_routed() {
        return addresses.next().map(|_| Route { metric, ..Route::new(to, None) });
    }
    addresses.find_map(|address| {
        let subnet = network.subnet_of(address.addr())?;
        let onlink = subnet.has_onlink_gateway();
        Some(Route { metric, onlink, ..Route::new(to, Some(subnet.gateway()?)) })
    })
}

#[cfg(test)]
mod tests;

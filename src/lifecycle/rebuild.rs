//! Rebuilding a lost record of a container from the marks of its links.
//!
//! A proven mark says which container and process a link was made for, and with which MAC address. A process
//! inside the container may have given the link anything else. So a rebuilt record gets the addresses that
//! leases say it holds. Of the others it gets only those that its network could have assigned and that
//! nothing else holds. It gets no route on the host that is not there already.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::dhcp::Dhcp6;
use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Kind, Result};
use crate::kernel::{self, NetnsFile, Survey, SurveyedLink};
use crate::ledger::Store;
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::dhcp_link::{Dhcp6Link, DhcpLink};
use crate::ledger::holder::{Holder, ProcessHolder};
use crate::ledger::host_link::{self, HostLink};
use crate::ledger::record::{Links, MadeFor, Nsid, Own, Record, State, VERSION};
use crate::net::ipv6::Advertised;
use crate::net::lease_key::LeaseKey;
use crate::net::link::Link;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::mark::Mark;
use crate::net::name::{ContainerId, Identity, IfName, NetworkName};
use crate::netlink::Socket;

/// The most addresses and routes of a rebuilt record.
const MOST: usize = 4096;

/// Rebuilds records. What that is based on:
pub(crate) struct Rebuild<'a> {
    /// The remaining ledger.
    pub(crate) store: &'a Store,
    /// Defaults of networks.
    pub(crate) settings: &'a Settings,
    /// The addresses of the host.
    pub(crate) on_host: BTreeSet<IpAddr>,
    /// The processes and marked links of all namespaces.
    pub(crate) survey: &'a Survey,
    /// The links with proven marks.
    pub(crate) proven: &'a [&'a SurveyedLink],
    /// A netlink socket in the host's network namespace.
    pub(crate) host: &'a mut Socket,
}

impl Rebuild<'_> {
    /// Rebuilds the record of `id`; `others` are all known records. Returns `None` if it has no link with a proven mark,
    /// if the parents are gone, or if neither a process nor a path leads to its namespace.
    pub(crate) fn record(&mut self, id: &ContainerId, others: &[Record]) -> Result<Option<Record>> {
        let mut links = Vec::new();
        for &seen in self.proven.iter().filter(|seen| seen.alias.mark.container == *id) {
            match self.holder(seen, others) {
                Some((is_alive, holder)) => {
                    let Mark { start_time, pid, index, .. } = seen.alias.mark;
                    links.push(((is_alive, start_time, pid), index, seen, holder));
                }
                None => log::warn!("link {} with the alias {} is not trusted", seen.link.name, seen.alias),
            }
        }
        links.sort_by_key(|&(process, index, ..)| (Reverse(process), index));
        let Some((newest, _, first, holder)) = links.first().cloned() else { return Ok(None) };
        // If a container died and a new one has the same id, the record is that of the new one.
        links.retain(|(process, ..)| *process == newest);
        // A repeated attach has sealed the same mark twice: one of the links counts.
        links.dedup_by_key(|(_, index, ..)| *index);
        let made_for = MadeFor::of(&first.alias.mark);
        let is_its_own = (made_for.pid, made_for.start_time) == holder.stamp();
        let mut attachments = Vec::with_capacity(links.len());
        let mut size = 0;
        for (expected, (_, index, seen, _)) in links.into_iter().enumerate() {
            // The mark has the index of the attachment, which would be wrong behind a gap. No attach makes so many
            // addresses and routes, and the file would exceed its limit.
            size += seen.addresses.len() + seen.routes.len();
            if index != expected || size > MOST {
                break;
            }
            attachments.extend(self.attached(seen, index, others)?);
        }
        if attachments.is_empty() {
            return Ok(None);
        }
        let nsid = match NetnsFile::of(&holder)? {
            Some((_, netns)) => self.host.nsid(&netns)?.map(|id| Nsid { host: self.survey.host, id }),
            None => None,
        };
        let made_for = Some(made_for).filter(|_| !is_its_own);
        let own = Own { state: State::Attached, made_for, rebuilt: true, nsid, attachments };
        // The mark tells no identity: what is remembered of it stays as it is.
        Ok(Some(Record { container: id.clone(), identity: None, holder, links: Links::Own(own) }))
    }

    /// Returns the holder of the container of `seen`, and whether it is alive: the one that the link was made
    /// for, else the oldest process in its namespace, such as one of its pod. Returns `None` if there is neither
    /// and no path keeps the namespace.
    fn holder(&self, seen: &SurveyedLink, others: &[Record]) -> Option<(bool, Holder)> {
        let made_for = kernel::made_for(&seen.alias.mark, &seen.netns);
        if let Some(living) = made_for.as_ref().filter(|holder| kernel::is_alive(holder)) {
            let Some(process) = living.process() else { return Some((true, living.clone())) };
            match kernel::is_in(process) {
                Ok(is_here) => {
                    let is_anothers = others.iter().any(|other| other.holder.stamp() == living.stamp());
                    return (is_here && !is_anothers).then(|| (true, living.clone()));
                }
                // The process is just exiting.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => {
                    log::warn!("{error}");
                    return None;
                }
            }
        }
        match self.survey.first_process_in(seen.netns.inode) {
            Some((pid, start_time)) => {
                let (pid_namespace, netns) = (kernel::pid_namespace(), seen.netns.clone());
                Some((true, Holder::Process(ProcessHolder { pid, start_time, pid_namespace, netns })))
            }
            None => made_for.filter(|holder| holder.netns().path.is_some()).map(|holder| (false, holder)),
        }
    }

    fn attached(&mut self, seen: &SurveyedLink, index: usize, others: &[Record]) -> Result<Option<Attached>> {
        let Mark { container, network: name, .. } = &seen.alias.mark;
        let Some(parent) = self.host.link_by_index(seen.parent_index)? else { return Ok(None) };
        let (Ok(parent_name), Ok(ifname), Some(driver)) =
            (parent.name.parse(), seen.link.name.parse(), seen.link.driver)
        else {
            return Ok(None);
        };
        // An unreadable definition is an error: the record would lack addresses that the network could have assigned.
        let network = self.store.network_of_links(name)?.map(|network| self.settings.complete(network));
        let segment = parent.segment();
        let has = |claim: LeaseKey| -> Result<bool> {
            // If two containers have the address and both records are lost, nothing says which one holds it. Both
            // records keep it, so that no other container gets it; `repair` decides which one gets the lease.
            if others.iter().any(|other| !other.is_rebuilt() && other.holds(segment, claim)) {
                return Ok(false);
            }
            // A lease can be trusted: only root writes it.
            if let Some(of) = self.store.leased_to(segment, claim)? {
                return Ok(of == *container);
            }
            let of_host = claim.address().is_some_and(|address| self.on_host.contains(&address))
                || self.store.host_holding(segment, claim)?.is_some()
                || seen.link.mac == parent.mac && claim.address().is_none();
            // The seal covers the MAC address, so it needs no definition of the network.
            let could_give = |network| could_give(network, claim, container);
            Ok(!of_host && network.as_ref().map_or(claim.address().is_none(), could_give))
        };
        // Of a server: the link's client asks for it again.
        let by_dhcp = |address: IpAddr| {
            network.as_ref().is_some_and(|network| {
                let dhcp = network.file.dhcp.as_ref();
                let asks = dhcp.is_some_and(|dhcp| address.is_ipv4() || dhcp.dhcp6 != Dhcp6::No);
                asks && network.subnet_of(address).is_none()
            })
        };
        let mut addresses = Vec::new();
        for &address in &seen.addresses {
            if !by_dhcp(address.addr()) && has(address.addr().into())? {
                let subnet = network.as_ref().and_then(|network| network.subnet_of(address.addr()));
                // A process in the container may have changed the prefix length.
                addresses.push(subnet.and_then(|subnet| subnet.host(address.addr()).ok()).unwrap_or(address));
            }
        }
        let mac = match seen.link.mac {
            Some(mac) if driver.has_own_mac() => has(mac.into())?.then_some(mac),
            mac => mac,
        };
        let host_link = host_link(name, &mut addresses, self.host)?;
        let has = |is_v4| addresses.iter().any(|net| net.addr().is_ipv4() == is_v4);
        let dhcp = match network.as_ref().filter(|_| !has(true)) {
            Some(network) => self.dhcp(network, seen, index, mac, &parent)?,
            None => None,
        };
        let dhcp6 = network.as_ref().filter(|_| !has(false));
        let dhcp6 = dhcp6.and_then(|network| self.dhcp6(network, seen, index, &parent));
        Ok(Some(Attached {
            network: name.clone(),
            driver,
            parent: parent_name,
            parent_index: parent.ifindex,
            segment,
            ifname,
            ifindex: Some(seen.link.ifindex),
            mac,
            mtu: None,
            bclim: None,
            tuning: LinkOptions::default(),
            host_link,
            detection: network.as_ref().and_then(|network| network.detection_on(&parent)),
            asked: Asked::default(),
            carrier_ups: parent.carrier_ups,
            announcements: network.as_ref().map_or(0, Network::announced),
            // Takes effect only when a link is made.
            advertised: Advertised::default(),
            addresses,
            // Not known.
            picked: Vec::new(),
            former: Vec::new(),
            claimed: Vec::new(),
            dhcp,
            dhcp6,
            routes: seen.routes.clone(),
            table: seen.table.clone(),
        }))
    }
}

impl Rebuild<'_> {
    /// The DHCP client of a link whose lease is lost with its record. It asks for the address that the link has, and the server
    /// says whether it is the container's. Until it does, the address is on the link for as long as the lease was given.
    fn dhcp(
        &self,
        network: &Network,
        seen: &SurveyedLink,
        index: usize,
        mac: Option<MacAddr>,
        parent: &Link,
    ) -> Result<Option<DhcpLink>> {
        let identity = Identity::from(&seen.alias.mark.container);
        let link = DhcpLink::new(network, &identity, index, self.store.machine_key(parent), mac)?;
        let had = seen.addresses.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(net.addr()),
            IpNet::V6(_) => None,
        });
        let default_route =
            seen.routes.iter().any(|route| route.to.prefix_len() == 0 && route.to.addr().is_ipv4());
        Ok(link.map(|link| DhcpLink { previous: had, default_route: default_route && link.routes, ..link }))
    }

    /// The same for DHCPv6.
    fn dhcp6(
        &self,
        network: &Network,
        seen: &SurveyedLink,
        index: usize,
        parent: &Link,
    ) -> Option<Dhcp6Link> {
        let identity = Identity::from(&seen.alias.mark.container);
        let link = Dhcp6Link::new(network, &identity, index, self.store.machine_key(parent))?;
        let previous = seen.addresses.iter().find_map(|net| match net {
            IpNet::V6(net) => Some(net.addr()),
            IpNet::V4(_) => None,
        });
        Some(Dhcp6Link { previous, ..link })
    }
}

/// Returns true if `network` could have assigned `claim` to `container` by its definition: the address is in
/// a subnet, and is not reserved for anything else.
fn could_give(network: &Network, claim: LeaseKey, container: &ContainerId) -> bool {
    let reserved_for = network.reservations.holder(claim);
    let is_others = reserved_for.is_some_and(|identity| *identity != Identity::from(container));
    let is_free = |address: IpAddr| {
        let named =
            network.file.host_access.as_ref().is_some_and(|access| access.addresses.contains(&address));
        !named && network.subnet_of(address).is_some_and(|subnet| !subnet.is_reserved(address))
    };
    !is_others && claim.address().is_none_or(is_free)
}

/// Returns the name of the host's link of the network `name`, if the host has a route by it to one of
/// `addresses`. The container has added the addresses without a route itself: they are removed from
/// `addresses`, so that no route is made on its word.
fn host_link(name: &NetworkName, addresses: &mut Vec<IpNet>, host: &mut Socket) -> Result<Option<IfName>> {
    let ifname = host_link::name(name);
    let Some(link) = host.link(&ifname)?.filter(|link| host_link::is_of(name, link)) else { return Ok(None) };
    let own = host.addresses_of(link.ifindex)?;
    let routes = host.routes_of(link.ifindex, None)?;
    let is_reached = |net: &IpNet| own.iter().any(|own| own.addr().is_ipv4() == net.addr().is_ipv4());
    let has_route = |net: &IpNet| routes.iter().any(|route| route.to == IpNet::from(net.addr()));
    if !addresses.iter().any(has_route) {
        return Ok(None);
    }
    addresses.retain(|net| has_route(net) || !is_reached(net));
    Ok(Some(ifname))
}

/// Rebuilds the record of the host's link of `network` from `link`, which has its mark.
pub(crate) fn of_host(
    store: &Store,
    network: &NetworkName,
    link: &Link,
    host: &mut Socket,
) -> Result<Option<HostLink>> {
    let (Some(driver), Some(segment)) = (link.driver, link.lower) else { return Ok(None) };
    let Some(lower) = host.link_by_index(segment)? else { return Ok(None) };
    let Ok(parent) = lower.name.parse() else { return Ok(None) };
    let addresses = host.addresses_of(link.ifindex)?.iter().map(|net| net.addr()).collect();
    Ok(Some(HostLink {
        version: VERSION,
        network: network.clone(),
        name: host_link::name(network),
        driver,
        parent,
        parent_index: segment,
        segment,
        mtu: (link.mtu != lower.mtu).then_some(link.mtu),
        mac: link.mac.filter(|_| driver.has_own_mac()),
        addresses,
        // A link that boot has made must not be deleted with the last container.
        kept: store.network(network).is_ok_and(|network| network.names_host_addresses()),
        // The link was complete except for routes when it was marked. Made anew, it would lack routes to
        // containers that are not found.
        ifindex: Some(link.ifindex),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_network_could_have_given() {
        let text = br#"{"version": 1, "driver": "macvlan", "parent": "eth0", "host_access": "10.0.0.7",
            "routes": [{"to": "10.9.0.0/16", "via": "10.0.0.3"}],
            "reservations": {"db": {"addresses": ["10.0.0.5"], "mac": "02:00:00:00:00:05"}},
            "subnets": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.128/25",
                         "aux_addresses": {"printer": "10.0.0.9"}}]}"#;
        let network = Network::from_json(&"lan".parse().unwrap(), text).unwrap();
        let gives =
            |claim: &str, id: &str| could_give(&network, claim.parse().unwrap(), &id.parse().unwrap());
        for claim in ["10.0.0.20", "10.0.0.200", "02:00:00:00:00:09"] {
            assert!(gives(claim, "web"), "{claim}");
        }
        for claim in [
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.3",
            "10.0.0.5",
            "10.0.0.7",
            "10.0.0.9",
            "10.0.0.255",
            "10.1.0.20",
            "2001:db8::9",
            "02:00:00:00:00:05",
        ] {
            assert!(!gives(claim, "web"), "{claim}");
        }
        assert!(gives("10.0.0.5", "db") && gives("02:00:00:00:00:05", "db"));
    }
}

//! The host's own link of a network, by which the host and its containers reach each other: its record,
//! `host_links/NETWORK.json`, and the leases of its addresses.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::lease_link::leased_to_host;
use super::{Locked, Store, names_in, remove, write_state};
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::hash::fnv1a;
use crate::ledger::asked::Asked;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::net::driver::Driver;
use crate::net::host_routing::HostRouting;
use crate::net::ipv6::Advertised;
use crate::net::lease_key::LeaseKey;
use crate::net::link::Link;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::mark;
use crate::net::name::{ContainerId, IfName, NetworkName};

/// The prefix of the alias of a host's link; the network's name follows.
const MARK: &str = "underlay:host:";

/// The record of the host's link of a network: `host_links/NETWORK.json`. The link exists while containers
/// use it. Its addresses are leased until the network is removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostLink {
    /// The format; [`crate::ledger::record::VERSION`].
    pub version: u32,
    pub network: NetworkName,
    pub name: IfName,
    /// The same as that of the containers' links.
    pub driver: Driver,
    /// The parent's name when it was made.
    pub parent: IfName,
    /// The parent's ifindex when it was made.
    pub parent_index: u32,
    /// The ifindex of the layer-2 segment on which its addresses are leased.
    pub segment: u32,
    /// Its MTU, if not the parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Its MAC address, once it was made: it keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its addresses, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// True if it stays without containers, as long as its network wants that: boot has made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kept: bool,
    /// Its ifindex, once it is complete with the routes to all containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
}

/// A route of the host to a container, by the host's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostRoute {
    /// The container's address.
    pub to: IpAddr,
    /// The source address of packets to the container.
    pub source: IpAddr,
}

impl HostLink {
    /// Returns the alias that marks it as ours (`IFLA_IFALIAS`).
    pub(crate) fn mark(&self) -> String {
        mark(&self.network)
    }

    /// See [`is_of`].
    pub(crate) fn is(&self, link: &Link) -> bool {
        is_of(&self.network, link)
    }

    /// Returns it as an attachment of the host, with addresses that were probed for before. Router advertisements are for
    /// the parent.
    pub(crate) fn attached(&self) -> Attached {
        Attached {
            network: self.network.clone(),
            driver: self.driver,
            parent: self.parent.clone(),
            parent_index: self.parent_index,
            segment: self.segment,
            ifname: self.name.clone(),
            ifindex: self.ifindex,
            mac: self.mac,
            mtu: self.mtu,
            bclim: None,
            tuning: LinkOptions::default(),
            host_link: None,
            detection: None,
            asked: Asked::default(),
            carrier_ups: 0,
            announcements: 1,
            advertised: Advertised::default(),
            addresses: self.addresses.iter().copied().map(IpNet::from).collect(),
            picked: Vec::new(),
            former: Vec::new(),
            claimed: Vec::new(),
            dhcp: None,
            dhcp6: None,
            routes: Vec::new(),
            table: None,
        }
    }

    /// Returns true if `link` is the one that was made, is complete and was not changed.
    pub(crate) fn is_whole(&self, link: &Link) -> bool {
        self.is(link)
            && self.ifindex == Some(link.ifindex)
            && link.up
            && link.driver == Some(self.driver)
            && link.lower == Some(self.segment)
    }

    /// Returns the routes to the addresses of `attached`, if that is an attachment to this network.
    pub(crate) fn routes_to(&self, attached: &Attached) -> Vec<HostRoute> {
        // A link on the previous parent of the network cannot be reached by a link on this one.
        let is_reached = attached.host_link.as_ref() == Some(&self.name) && attached.segment == self.segment;
        if !is_reached || attached.network != self.network {
            return Vec::new();
        }
        let route = |to: IpAddr| {
            let source = self.addresses.iter().find(|source| source.is_ipv4() == to.is_ipv4())?;
            Some(HostRoute { to, source: *source })
        };
        attached.addresses.iter().filter_map(|address| route(address.addr())).collect()
    }

    /// Returns the routes to the addresses of `attached` that leave the host's `routing` as it is.
    pub(crate) fn open_routes_to(&self, attached: &Attached, routing: &HostRouting) -> Vec<HostRoute> {
        let on = [attached.parent_index, attached.segment];
        let subnet = |to: IpAddr| attached.addresses.iter().find(|net| net.addr() == to).map(IpNet::trunc);
        let is_open =
            |to: IpAddr| subnet(to).is_some_and(|subnet| routing.obstacle(to, subnet, on).is_none());
        let mut routes = self.routes_to(attached);
        routes.retain(|route| is_open(route.to));
        routes
    }

    /// Returns the open routes to the addresses of `records` in this network.
    pub(crate) fn open_routes<'a>(
        &self,
        records: impl IntoIterator<Item = &'a Record>,
        routing: &HostRouting,
    ) -> Vec<HostRoute> {
        let attached = records.into_iter().flat_map(|record| record.attachments());
        attached.flat_map(|attached| self.open_routes_to(attached, routing)).collect()
    }

    /// Returns true if its addresses are what `network` wants now: the ones it names, else one in a subnet
    /// for each of its families.
    pub(crate) fn suits(&self, network: &Network) -> bool {
        let Some(access) = &network.file.host_access else { return false };
        [true, false].into_iter().all(|is_v4| {
            let has = self.addresses.iter().find(|address| address.is_ipv4() == is_v4);
            match (has, access.of_family(is_v4)) {
                (Some(&has), Some(wanted)) => has == wanted,
                (Some(&has), None) => network.subnet_of(has).is_some_and(|subnet| !subnet.is_reserved(has)),
                (None, _) => !network.subnets.iter().any(|subnet| subnet.net().addr().is_ipv4() == is_v4),
            }
        })
    }
}

impl Record {
    /// Returns the networks by whose host's link the host has routes to this container.
    pub(crate) fn host_link_networks(&self) -> impl Iterator<Item = &NetworkName> {
        let used = self.attachments().iter().filter(|attached| attached.host_link.is_some());
        used.map(|attached| &attached.network)
    }

    /// Returns true if the host has routes to this container by its link of `network`.
    pub(crate) fn uses_host_link(&self, network: &NetworkName) -> bool {
        self.host_link_networks().any(|used| used == network)
    }
}

impl Store {
    /// Returns the record of the host's link of `network`, if there is one.
    pub(crate) fn host_link(&self, network: &NetworkName) -> Result<Option<HostLink>> {
        let path = self.host_link_path(network);
        let Some(link) = self.read_state::<HostLink>(&path)? else { return Ok(None) };
        if link.network != *network || link.name != name(network) {
            let text =
                format!("{} is the record of {} in network {}", path.display(), link.name, link.network);
            return Err(Error::new(Kind::Damaged, text).hint(super::REBUILD));
        }
        Ok(Some(link))
    }

    /// Returns the networks with a record of a host's link.
    pub(crate) fn host_links(&self) -> Result<Vec<NetworkName>> {
        names_in(&self.host_links_dir())
    }

    /// Returns true if a container uses the host's link of `network`.
    pub(crate) fn needs_host_link(&self, network: &NetworkName) -> Result<bool> {
        for id in names_in::<ContainerId>(&self.containers_dir())? {
            match self.record(&id) {
                Ok(Some(record)) if record.uses_host_link(network) => return Ok(true),
                Ok(_) => {}
                // An unreadable record may refer to the link: keep it.
                Err(error) if error.kind().is_of_one_file() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Returns true if `link` stays without containers: it is kept, and matches the definition of its
    /// network.
    pub(crate) fn keeps_host_link(&self, link: &HostLink) -> bool {
        link.kept && self.may_be(&link.network, |network| link.suits(network))
    }

    /// Returns the network in which the host holds `claim` on `segment`, by the lease and the record of its
    /// link.
    pub(crate) fn host_holding(&self, segment: u32, claim: LeaseKey) -> Result<Option<NetworkName>> {
        let Some(network) = leased_to_host(&self.lease_path(segment, claim))? else { return Ok(None) };
        match self.host_link(&network) {
            Ok(Some(link))
                if link.segment == segment
                    && claim.address().is_some_and(|address| link.addresses.contains(&address)) =>
            {
                Ok(Some(network))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind().is_of_one_file() => Ok(Some(network)),
            Err(error) => Err(error),
        }
    }

    /// Returns the paths of the record of `link` and its leases.
    pub(crate) fn paths_of_host_link(&self, link: &HostLink) -> Vec<PathBuf> {
        let leases = link.addresses.iter().map(|&address| self.lease_path(link.segment, address.into()));
        leases.chain([self.host_link_path(&link.network)]).collect()
    }

    pub(crate) fn host_links_dir(&self) -> PathBuf {
        self.state_dir.join("host_links")
    }

    pub(crate) fn host_link_path(&self, network: &NetworkName) -> PathBuf {
        self.host_links_dir().join(format!("{network}.json"))
    }
}

impl Locked<'_> {
    pub(crate) fn write_host_link(&self, link: &HostLink) -> Result<()> {
        write_state(&self.store.host_link_path(&link.network), link)
    }

    /// Releases the addresses of the host's link, then removes its record.
    pub(crate) fn forget_host_link(&self, link: &HostLink) -> Result<()> {
        self.release_host(link, |_| true)?;
        remove(&self.store.host_link_path(&link.network))
    }

    /// Removes the leases of those addresses of `link` for which `given_back` is true.
    pub(crate) fn release_host(&self, link: &HostLink, given_back: impl Fn(&IpAddr) -> bool) -> Result<()> {
        for &address in link.addresses.iter().filter(|address| given_back(address)) {
            let path = self.store.lease_path(link.segment, address.into());
            if leased_to_host(&path)?.is_some_and(|network| network == link.network) {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Returns the name of the host's link of `network`: `ulh-NETWORK`, or with a hash if that is too long.
pub(crate) fn name(network: &NetworkName) -> IfName {
    let text = network.as_str();
    let short =
        if text.len() <= 11 { format!("ulh-{text}") } else { format!("ulh-{:011x}", fnv1a(text) >> 20) };
    // Each character of a network name is allowed in an interface name, and 15 bytes are not too long.
    short.parse().unwrap_or_else(|_| IfName::eth(0))
}

/// Returns the alias that marks the host's link of `network`.
pub(crate) fn mark(network: &NetworkName) -> String {
    format!("{MARK}{network}")
}

/// Returns true if `link` is the host's link of `network` by kind and mark, or by kind and the mark's group if it was
/// never marked.
pub(crate) fn is_of(network: &NetworkName, link: &Link) -> bool {
    let mark = mark(network);
    let known = link.alias.as_ref().map_or_else(|| link.group == mark::group(&mark), |alias| *alias == mark);
    known && matches!(link.kind.as_deref(), Some("macvlan" | "ipvlan"))
}

/// Returns the network whose host's link has this alias.
pub(crate) fn network_of(alias: &str) -> Option<NetworkName> {
    alias.strip_prefix(MARK)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_suits_a_definition() {
        let suits = |addresses: &[&str], access: &str| {
            let text = format!(
                r#"{{"version": 1, "driver": "macvlan", "host_access": {access}, "subnets": [
                    {{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}}, {{"subnet": "2001:db8::/64"}}]}}"#
            );
            let network = Network::from_json(&"lan".parse().unwrap(), text.as_bytes()).unwrap();
            let link = HostLink {
                version: 1,
                network: network.name.clone(),
                name: name(&network.name),
                driver: network.driver,
                parent: network.parent.clone(),
                parent_index: 2,
                segment: 2,
                mtu: None,
                mac: None,
                addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
                kept: false,
                ifindex: None,
            };
            link.suits(&network)
        };
        assert!(suits(&["10.0.0.9", "2001:db8::9"], "true"));
        assert!(suits(&["10.0.0.9", "2001:db8::9"], r#""10.0.0.9""#));
        assert!(!suits(&["10.0.0.9", "2001:db8::9"], r#""10.0.0.8""#), "another is named");
        assert!(!suits(&["10.0.0.9"], "true"), "one of each family");
        assert!(!suits(&["10.0.0.1", "2001:db8::9"], "true"), "the gateway's");
        assert!(!suits(&["10.1.0.9", "2001:db8::9"], "true"), "of no subnet");
        assert!(!suits(&["10.0.0.9", "2001:db8::9"], "false"), "none is wanted");
    }

    #[test]
    fn names_and_marks() {
        let network = |text: &str| text.parse::<NetworkName>().unwrap();
        assert_eq!(name(&network("pub_net")).as_str(), "ulh-pub_net");
        assert_eq!(name(&network("abcdefghijk")).as_str(), "ulh-abcdefghijk");
        assert_eq!(name(&network("abcdefghijkl")).as_str().len(), 15);
        assert_ne!(name(&network("abcdefghijkl")), name(&network("abcdefghijkm")));
        assert_ne!(name(&network("x")), crate::net::parent::dummy_name(&network("h-x")), "no dummy's name");
        assert_eq!(network_of(&mark(&network("lan"))), Some(network("lan")));
        assert!(mark(&network("lan")).parse::<crate::net::mark::Mark>().is_err(), "no container's mark");
        assert_eq!(network_of("underlay:parent"), None);
        assert!(mark(&network(&"n".repeat(128))).len() < 255, "the kernel keeps all of it");
    }
}

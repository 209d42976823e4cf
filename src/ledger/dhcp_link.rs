//! The IPv4 address of a link that a DHCP server gives: a part of the record.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::dhcp::{ClientIdSource, Use};
use crate::config::network::Network;
use crate::dhcp::client_id::{ClientId, Duid, Iaid};
use crate::dhcp::domain_name::DomainName;
use crate::dhcp::times::FOR_EVER;
use crate::dhcp::v4::lease::Lease;
use crate::dhcp::v4::request::Config;
use crate::error::Result;
use crate::ledger::record::Attached;
use crate::net::driver::{Kind, MacvlanMode};
use crate::net::mac::MacAddr;
use crate::net::name::Identity;
use crate::net::route::Route;
use crate::net::value::is_default;

/// What the client of a link asks for, and what it has. It is all that the agent needs to go on, also when the network is not
/// defined any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DhcpLink {
    pub client_id: ClientId,
    /// The name that the container tells the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<DomainName>,
    pub vendor_class: String,
    /// The servers that are allowed; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Ipv4Addr>,
    /// The address that the identity had before, which it would like again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Ipv4Addr>,
    /// Whether it takes the default route of the lease: another attachment may give it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub default_route: bool,
    /// The metric of that; without it the kernel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// Whether it takes the other routes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub routes: bool,
    /// Whether it takes the MTU.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mtu: bool,
    /// The lease; none as long as no server has given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

impl DhcpLink {
    /// The client of link number `index` of a container with `identity` in `network`, without a lease. The link has the MAC address
    /// `mac`, if that is known. `key` is the machine's secret. `None` if the network has no DHCP.
    ///
    /// # Errors
    /// When the network's client id is not usable.
    pub(crate) fn new(
        network: &Network,
        identity: &Identity,
        index: usize,
        key: [u8; 16],
        mac: Option<MacAddr>,
    ) -> Result<Option<Self>> {
        let Some(dhcp) = &network.file.dhcp else { return Ok(None) };
        let by_identity =
            || ClientId::identity(&Duid::derived(key, identity), Iaid::of(&network.name, index));
        let client_id = match &dhcp.client_id {
            ClientIdSource::Identity => by_identity(),
            ClientIdSource::Mac => mac.map_or_else(by_identity, ClientId::mac),
            ClientIdSource::Text(text) => ClientId::chosen(text)?,
        };
        Ok(Some(Self {
            client_id,
            host_name: dhcp.hostname.clone(),
            vendor_class: dhcp.vendor_class().to_owned(),
            servers: dhcp.servers.clone(),
            previous: None,
            default_route: false,
            metric: network.file.metric,
            routes: dhcp.takes(Use::Routes),
            mtu: dhcp.takes(Use::Mtu) && network.file.mtu.is_none(),
            lease: None,
        }))
    }

    /// The address of the lease with its prefix length.
    pub(crate) fn address(&self) -> Option<IpNet> {
        self.lease.as_ref().map(|lease| IpNet::V4(lease.address))
    }

    /// For how many seconds from `now` on the address is valid; `None` if for ever, or if there is none.
    pub(crate) fn valid_for(&self, now: Duration) -> Option<u32> {
        let left = self.lease.as_ref()?.times.seconds_left(now);
        (left != FOR_EVER).then_some(left)
    }

    /// The routes of the lease that the link gets.
    pub(crate) fn routes(&self) -> Vec<Route> {
        let routes = self.lease.iter().flat_map(|lease| &lease.routes);
        let wanted =
            routes.filter(|route| if route.to.prefix_len() == 0 { self.default_route } else { self.routes });
        wanted
            .map(|&route| Route { metric: self.metric.filter(|_| route.to.prefix_len() == 0), ..route })
            .collect()
    }

    /// The MTU of the lease, if the link takes it and it is below `most`, that of the parent.
    pub(crate) fn mtu(&self, most: u32) -> Option<u32> {
        let given = self.lease.as_ref().and_then(|lease| lease.mtu).filter(|_| self.mtu);
        given.map(u32::from).filter(|&mtu| mtu < most)
    }
}

impl Attached {
    /// What the client of its link tells servers, by the MAC address `mac`. `of_host` are the addresses that it must not take.
    pub(crate) fn dhcp_config(&self, dhcp: &DhcpLink, mac: MacAddr, of_host: Vec<Ipv4Addr>) -> Config {
        let lease = dhcp.lease.as_ref();
        Config {
            mac,
            client_id: dhcp.client_id.clone(),
            host_name: dhcp.host_name.clone(),
            fqdn: None,
            vendor_class: Some(dhcp.vendor_class.clone()),
            servers: dhcp.servers.clone(),
            address: lease.map(|lease| lease.address.addr()).or(dhcp.previous),
            server: lease.map(|lease| lease.server),
            // Frames to its MAC address go to the parent as long as it has no address.
            broadcast: self.driver.kind() == Kind::Ipvlan,
            rapid_commit: true,
            taken: if self.shares_mac() { of_host } else { Vec::new() },
        }
    }

    /// Whether the host has the link's MAC address too, so that servers may take the one for the other.
    fn shares_mac(&self) -> bool {
        let passthru = crate::net::driver::Driver::Macvlan { mode: MacvlanMode::Passthru };
        self.driver.kind() == Kind::Ipvlan || self.driver == passthru
    }

    /// Its address by DHCP with the prefix length, if it has one.
    pub(crate) fn leased_address(&self) -> Option<IpNet> {
        self.dhcp.as_ref().and_then(DhcpLink::address)
    }

    /// Forgets the lease, and keeps the address in the ledger.
    pub(crate) fn forget_lease(&mut self) {
        self.dhcp.iter_mut().for_each(|dhcp| dhcp.lease = None);
    }

    /// Gives it `lease` in place of the one that it has, if any; without one it loses the address and its routes.
    pub(crate) fn set_lease(&mut self, lease: Option<Lease>) {
        let Some(dhcp) = &mut self.dhcp else { return };
        let (address, routes) = (dhcp.address(), dhcp.routes());
        dhcp.lease = lease;
        if let Some(address) = dhcp.address() {
            dhcp.previous = match address {
                IpNet::V4(net) => Some(net.addr()),
                IpNet::V6(_) => dhcp.previous,
            };
        }
        let (new_address, new_routes) = (dhcp.address(), dhcp.routes());
        self.addresses.retain(|net| Some(*net) != address);
        self.routes.retain(|route| !routes.contains(route));
        // IPv4 comes first, as the kernel lists them.
        self.addresses.splice(0..0, new_address);
        self.routes.splice(0..0, new_routes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::record::Record;

    const RECORD: &str = r#"{
        "version": 2, "container": "web", "state": "attached",
        "holder": {"pid": 7, "start_time": 8, "netns": {"device": 4, "inode": 5}},
        "attachments": [
            {"network": "lan", "driver": {"kind": "macvlan", "mode": "bridge"}, "parent": "eth0", "parent_index": 2,
             "segment": 2, "ifname": "eth0", "mac": "02:00:00:00:00:09",
             "dhcp": {"client_id": "01020000000009", "vendor_class": "underlay", "default_route": true, "metric": 7,
                      "routes": true, "mtu": true},
             "addresses": ["2001:db8::9/64"], "routes": [{"to": "::/0", "via": "2001:db8::1"}]}
        ]}"#;

    fn lease(address: &str, mtu: u16) -> Lease {
        let text = format!(
            r#"{{"server": "10.0.0.1", "mac": "02:00:00:00:00:09", "client_id": "01020000000009", "address": "{address}/24",
                "routes": [{{"to": "0.0.0.0/0", "via": "10.0.0.1"}}, {{"to": "10.9.0.0/16", "via": "10.0.0.2"}}],
                "mtu": {mtu}, "times": {{"obtained": 1000, "limits": {{"t1": 31000, "t2": 53500, "expiry": 61000}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn attached() -> Attached {
        let record: Record = serde_json::from_str(RECORD).unwrap();
        record.attachments()[0].clone()
    }

    fn texts<T: ToString>(all: &[T]) -> Vec<String> {
        all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_lease_comes_changes_and_goes() {
        let mut attached = attached();
        let before = attached.clone();
        attached.set_lease(Some(lease("10.0.0.9", 1400)));
        assert_eq!(texts(&attached.addresses), ["10.0.0.9/24", "2001:db8::9/64"]);
        let routes = ["default via 10.0.0.1 metric 7", "10.9.0.0/16 via 10.0.0.2", "default via 2001:db8::1"];
        assert_eq!(texts(&attached.routes), routes);
        attached.set_lease(Some(lease("10.0.0.8", 1400)));
        assert_eq!(texts(&attached.addresses), ["10.0.0.8/24", "2001:db8::9/64"]);
        assert_eq!(texts(&attached.routes), routes);
        let text = serde_json::to_string(&attached).unwrap();
        assert_eq!(serde_json::from_str::<Attached>(&text).unwrap(), attached);
        attached.set_lease(None);
        assert_eq!((&attached.addresses, &attached.routes), (&before.addresses, &before.routes));
        assert_eq!(
            attached.dhcp.unwrap().previous,
            Some("10.0.0.8".parse().unwrap()),
            "it asks for it again"
        );
    }

    #[test]
    fn what_is_taken_of_a_lease() {
        let mut attached = attached();
        attached.set_lease(Some(lease("10.0.0.9", 1400)));
        let dhcp = attached.dhcp.clone().unwrap();
        let with = |default_route, routes| DhcpLink { default_route, routes, ..dhcp.clone() };
        for (dhcp, expected) in [
            (with(false, true), vec!["10.9.0.0/16 via 10.0.0.2"]),
            (with(true, false), vec!["default via 10.0.0.1 metric 7"]),
            (with(false, false), vec![]),
        ] {
            assert_eq!(texts(&dhcp.routes()), expected);
        }
        assert_eq!((dhcp.mtu(1500), dhcp.mtu(1400), dhcp.mtu(1300)), (Some(1400), None, None));
        assert_eq!(DhcpLink { mtu: false, ..dhcp.clone() }.mtu(1500), None);
        assert_eq!(dhcp.valid_for(Duration::from_secs(11)), Some(50));
        let ipvlan: Attached = Attached {
            driver: serde_json::from_str(r#"{"kind": "ipvlan", "mode": "l2", "flag": "bridge"}"#).unwrap(),
            ..attached.clone()
        };
        let of_host: Vec<Ipv4Addr> = vec!["10.0.0.2".parse().unwrap()];
        let mac = attached.mac.unwrap();
        let config = |attached: &Attached| attached.dhcp_config(&dhcp, mac, of_host.clone());
        assert_eq!((config(&attached).broadcast, config(&attached).taken), (false, vec![]));
        assert_eq!((config(&ipvlan).broadcast, config(&ipvlan).taken), (true, of_host.clone()));
        assert_eq!(config(&attached).address, Some("10.0.0.9".parse().unwrap()));
    }
}

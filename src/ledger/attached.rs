//! A link of a container: what it has, and what is leased for it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::conflict_detection::Detection;
use crate::dhcp::client::Client;
use crate::dhcp::domain_name::{DomainName, Fqdn};
use crate::dhcp::lease::{Family, Lease};
use crate::dhcp::v4::request::Config;
use crate::dhcp::{v4, v6};
use crate::ledger::asked::Asked;
use crate::ledger::dhcp_link::{Dhcp6Link, DhcpLink};
use crate::net::driver::{Driver, Kind};
use crate::net::ipv6::Advertised;
use crate::net::lease_key::LeaseKey;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::name::{IfName, NetworkName};
use crate::net::route::{Route, Table};
use crate::net::value::is_default;

/// One link of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub network: NetworkName,
    pub driver: Driver,
    /// The parent's name when it was made.
    pub parent: IfName,
    /// The parent's ifindex when it was made.
    pub parent_index: u32,
    /// The ifindex that names the layer-2 segment: nearly always that of the parent.
    pub segment: u32,
    /// Its name in the container.
    pub ifname: IfName,
    /// Its ifindex in the container, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    /// Its MAC address: its own, or the parent's, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its MTU, if not the parent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Its limit for unqueued broadcasts, if not the kernel's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bclim: Option<i32>,
    /// Its other options.
    #[serde(flatten)]
    pub tuning: LinkOptions,
    /// The host's link of the network, by which the host is to have a route to each of its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_link: Option<IfName>,
    /// The conflict detection of its addresses, if it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Detection>,
    /// Whether the LAN was asked for its addresses, if conflict detection is on.
    #[serde(default, skip_serializing_if = "Asked::is_yes")]
    pub asked: Asked,
    /// How often its parent had been connected when the LAN was asked: afterwards it may be another LAN.
    #[serde(default, skip_serializing_if = "is_default")]
    pub carrier_ups: u32,
    /// The number of announcements of its addresses.
    #[serde(default, skip_serializing_if = "is_default")]
    pub announcements: u32,
    /// What it accepts from router advertisements, if it has IPv6.
    #[serde(default, skip_serializing_if = "is_default")]
    pub advertised: Advertised,
    /// How it gets an IPv4 address from a DHCP server, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<DhcpLink>,
    /// How it gets an IPv6 address from a DHCPv6 server, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp6: Option<Dhcp6Link>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
    /// Those of them that underlay chose: not asked for, nor reserved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub picked: Vec<IpAddr>,
    /// Addresses that it had and that its link may have still: their leases stay as long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub former: Vec<IpNet>,
    /// Addresses that servers offer it, and that it does not use yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claimed: Vec<IpAddr>,
    /// Its routes besides those the addresses make.
    pub routes: Vec<Route>,
    /// Its own routing table, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
}

impl Attached {
    /// Returns true if its link has IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        let by_router = self.advertised.slaac.is_some() || self.dhcp6.is_some();
        by_router || self.addresses.iter().any(|net| net.addr().is_ipv6())
    }

    /// Returns true if `address` is one of its addresses.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.addr() == address)
    }

    /// Returns true if the attach probes for its addresses.
    pub(crate) fn is_probed(&self) -> bool {
        self.detection.is_some() && self.asked == Asked::Yes
    }

    /// Removes its routes, also those from router advertisements.
    pub(crate) fn clear_routes(&mut self) {
        self.routes.clear();
        self.advertised.default_route = false;
    }

    /// Returns its MAC address, if it must be unique on the segment.
    pub(crate) fn own_mac(&self) -> Option<MacAddr> {
        self.mac.filter(|_| self.driver.has_own_mac())
    }

    /// Returns the keys of its leases.
    pub(crate) fn claims(&self) -> impl Iterator<Item = LeaseKey> {
        let addresses = self.addresses.iter().chain(&self.former).map(IpNet::addr);
        let addresses = addresses.chain(self.claimed.iter().copied());
        addresses.map(LeaseKey::from).chain(self.own_mac().map(LeaseKey::from))
    }

    /// What the client of its link tells servers, by the MAC address `mac`.
    pub(crate) fn dhcp_config(&self, dhcp: &DhcpLink, mac: MacAddr) -> Config {
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
            broadcast: self.heard_below().is_some(),
            // A lease at once could be that of what has the same MAC address.
            rapid_commit: !self.shares_mac(),
            taken: Vec::new(),
        }
    }

    /// The link below it where what DHCP servers send to its MAC address arrives as long as it has no address.
    pub(crate) fn heard_below(&self) -> Option<u32> {
        let below = self.driver.link_below(self.parent_index, self.segment);
        Some(below).filter(|_| self.driver.kind() == Kind::Ipvlan)
    }

    /// Whether the host has the link's MAC address, too.
    pub(crate) fn shares_mac(&self) -> bool {
        !self.driver.has_own_mac()
    }

    /// The client of `family` of its link, which has the MAC address `mac`: it goes on with the lease, or asks for one from
    /// `start` until `until`. `None` if there is none.
    pub(crate) fn dhcp_client(
        &self,
        family: Family,
        mac: MacAddr,
        (start, until): (Duration, Option<Duration>),
        random: u64,
    ) -> Option<Client> {
        Some(match family {
            Family::V4 => {
                let dhcp = self.dhcp.as_ref()?;
                let config = self.dhcp_config(dhcp, mac);
                Client::V4(match &dhcp.lease {
                    Some(lease) => v4::client::Client::resume(config, lease.clone(), random),
                    None => v4::client::Client::new(config, start, until),
                })
            }
            Family::V6 => {
                let dhcp = self.dhcp6.as_ref()?;
                let fqdn = |name: &DomainName| Fqdn { name: name.clone(), server_updates: true };
                let config = v6::request::Config {
                    duid: dhcp.duid.clone(),
                    iaid: dhcp.iaid,
                    fqdn: dhcp.host_name.as_ref().map(fqdn),
                    address: dhcp.previous,
                    server: None,
                    rapid_commit: true,
                };
                Client::V6(match &dhcp.lease {
                    Some(lease) => v6::client::Client::resume(config, lease.clone(), random),
                    None => v6::client::Client::new(config, start, until),
                })
            }
        })
    }

    /// Returns true if it gets an IPv4 address by DHCP, and has none.
    pub(crate) fn is_asking(&self) -> bool {
        self.dhcp.as_ref().is_some_and(|dhcp| dhcp.lease.is_none())
    }

    /// Notes `why` it has no lease of `family`, if it has none.
    pub(crate) fn note_trouble(&mut self, family: Family, why: impl ToString) {
        if self.dhcp_lease(family).is_some() {
            return;
        }
        let trouble = match family {
            Family::V4 => self.dhcp.as_mut().map(|dhcp| &mut dhcp.trouble),
            Family::V6 => self.dhcp6.as_mut().map(|dhcp| &mut dhcp.trouble),
        };
        trouble.into_iter().for_each(|trouble| *trouble = Some(why.to_string()));
    }

    /// The families in which it has a client.
    pub(crate) fn dhcp_families(&self) -> impl Iterator<Item = Family> {
        let v6 = self.dhcp6.as_ref().map(|_| Family::V6);
        self.dhcp.as_ref().map(|_| Family::V4).into_iter().chain(v6)
    }

    /// Its leases.
    pub(crate) fn dhcp_leases(&self) -> impl Iterator<Item = Lease> {
        Family::ALL.into_iter().filter_map(|family| self.dhcp_lease(family))
    }

    /// Whether `address` is that of a lease that is over at `now`: the kernel has taken it away.
    pub(crate) fn has_expired(&self, address: IpNet, now: Duration) -> bool {
        self.dhcp_leases().any(|lease| lease.address() == address && lease.times().is_over(now))
    }

    /// Those whose name servers the container is told.
    pub(crate) fn told_leases(&self) -> impl Iterator<Item = Lease> {
        self.dhcp_leases().filter(|lease| match lease {
            Lease::V4(_) => self.dhcp.as_ref().is_some_and(|dhcp| dhcp.dns),
            Lease::V6(_) => self.dhcp6.as_ref().is_some_and(|dhcp| dhcp.dns),
        })
    }

    /// Its lease of `family`, if it has one.
    pub(crate) fn dhcp_lease(&self, family: Family) -> Option<Lease> {
        match family {
            Family::V4 => self.dhcp.as_ref()?.lease.clone().map(Lease::V4),
            Family::V6 => self.dhcp6.as_ref()?.lease.clone().map(Lease::V6),
        }
    }

    /// Forgets the leases, and keeps the addresses in the ledger.
    pub(crate) fn forget_leases(&mut self) {
        self.dhcp.iter_mut().for_each(|dhcp| dhcp.lease = None);
        self.dhcp6.iter_mut().for_each(|dhcp| dhcp.lease = None);
    }

    /// Gives it `lease` in place of the one of its family that it has, if any.
    pub(crate) fn take_lease(&mut self, lease: Lease) {
        self.lose_lease(lease.family());
        let address = lease.address();
        self.claimed.retain(|claimed| *claimed != address.addr());
        match (lease, &mut self.dhcp, &mut self.dhcp6) {
            (Lease::V4(lease), Some(dhcp), _) => {
                (dhcp.previous, dhcp.lease) = (Some(lease.address.addr()), Some(lease));
                dhcp.trouble = None;
                // IPv4 comes first, as the kernel lists them.
                self.routes.splice(0..0, dhcp.routes());
                self.addresses.insert(0, address);
            }
            (Lease::V6(lease), _, Some(dhcp)) => {
                (dhcp.previous, dhcp.lease) = (Some(lease.address), Some(lease));
                dhcp.trouble = None;
                self.addresses.push(address);
            }
            _ => {}
        }
    }

    /// Takes its lease of `family` away, with address and routes.
    pub(crate) fn lose_lease(&mut self, family: Family) {
        let address = self.dhcp_lease(family).map(|lease| lease.address());
        self.addresses.retain(|net| Some(*net) != address);
        match (family, &mut self.dhcp, &mut self.dhcp6) {
            (Family::V4, Some(dhcp), _) => {
                let routes = dhcp.routes();
                self.routes.retain(|route| !routes.contains(route));
                dhcp.lease = None;
            }
            (Family::V6, _, Some(dhcp)) => dhcp.lease = None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::times::Lifetime;
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

    fn lease(address: &str, mtu: u16) -> v4::lease::Lease {
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
        attached.take_lease(Lease::V4(lease("10.0.0.9", 1400)));
        assert_eq!(texts(&attached.addresses), ["10.0.0.9/24", "2001:db8::9/64"]);
        let routes = ["default via 10.0.0.1 metric 7", "10.9.0.0/16 via 10.0.0.2", "default via 2001:db8::1"];
        assert_eq!(texts(&attached.routes), routes);
        attached.take_lease(Lease::V4(lease("10.0.0.8", 1400)));
        assert_eq!(texts(&attached.addresses), ["10.0.0.8/24", "2001:db8::9/64"]);
        assert_eq!(texts(&attached.routes), routes);
        let text = serde_json::to_string(&attached).unwrap();
        assert_eq!(serde_json::from_str::<Attached>(&text).unwrap(), attached);
        attached.lose_lease(Family::V4);
        assert_eq!((&attached.addresses, &attached.routes), (&before.addresses, &before.routes));
        assert_eq!(
            attached.dhcp.unwrap().previous,
            Some("10.0.0.8".parse().unwrap()),
            "it asks for it again"
        );
    }

    #[test]
    fn leases_of_both_families() {
        let lease6 = |address: &str| -> Lease {
            let text = format!(
                r#"{{"server": "0003000102", "client": "000401", "iaid": 7, "address": "{address}", "preferred": 30,
                    "times": {{"obtained": 1000}}}}"#
            );
            Lease::V6(serde_json::from_str(&text).unwrap())
        };
        let mut attached = attached();
        attached.take_lease(lease6("2001:db8::5"));
        assert_eq!(attached.dhcp_leases().count(), 0, "it has no client that could keep it");
        attached.addresses.clear();
        attached.dhcp6 =
            serde_json::from_str(r#"{"duid": "000401", "iaid": 7, "host_name": "web"}"#).unwrap();
        assert!(attached.has_ipv6() && attached.dhcp_families().eq(Family::ALL));
        attached.take_lease(lease6("2001:db8::5"));
        attached.take_lease(Lease::V4(lease("10.0.0.9", 1400)));
        assert_eq!(texts(&attached.addresses), ["10.0.0.9/24", "2001:db8::5/128"]);
        let text = serde_json::to_string(&attached).unwrap();
        assert_eq!(serde_json::from_str::<Attached>(&text).unwrap(), attached);
        attached.take_lease(lease6("2001:db8::6"));
        attached.lose_lease(Family::V4);
        assert_eq!(texts(&attached.addresses), ["2001:db8::6/128"]);
        let client = |attached: &Attached, family| {
            attached.dhcp_client(family, attached.mac.unwrap(), (Duration::ZERO, None), 0)
        };
        let deadline = client(&attached, Family::V6).unwrap().deadline();
        assert_eq!(deadline, None, "it has the lease for ever");
        attached.forget_leases();
        assert_eq!(
            (attached.dhcp_leases().count(), texts(&attached.addresses)),
            (0, vec!["2001:db8::6/128".into()])
        );
        assert_eq!(client(&attached, Family::V6).unwrap().deadline(), Some(Duration::ZERO), "it asks");
        attached.dhcp6 = None;
        assert!(client(&attached, Family::V6).is_none());
    }

    #[test]
    fn what_is_taken_of_a_lease() {
        let mut attached = attached();
        attached.take_lease(Lease::V4(lease("10.0.0.9", 1400)));
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
        let lifetime = attached.dhcp_leases().next().unwrap().lifetime(Duration::from_secs(11));
        assert_eq!(lifetime, Some(Lifetime { preferred: 50, valid: 50 }));
        let ipvlan: Attached = Attached {
            driver: serde_json::from_str(r#"{"kind": "ipvlan", "mode": "l2", "flag": "bridge"}"#).unwrap(),
            ..attached.clone()
        };
        let config = |attached: &Attached| attached.dhcp_config(&dhcp, attached.mac.unwrap());
        assert_eq!((config(&attached).broadcast, config(&attached).rapid_commit), (false, true));
        assert_eq!((config(&ipvlan).broadcast, config(&ipvlan).rapid_commit), (true, false));
        assert_eq!(config(&attached).address, Some("10.0.0.9".parse().unwrap()));
    }
}

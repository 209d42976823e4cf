//! The addresses of a link that DHCP servers give: a part of the record.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::config::dhcp::{ClientIdSource, Dhcp6, Use};
use crate::config::network::Network;
use crate::dhcp::client_id::{ClientId, Duid, Iaid};
use crate::dhcp::domain_name::DomainName;
use crate::dhcp::v4::lease::Lease;
use crate::dhcp::v6;
use crate::error::Result;
use crate::net::mac::MacAddr;
use crate::net::name::Identity;
use crate::net::route::Route;
use crate::net::value::is_default;

/// What the DHCPv4 client of a link asks for, and what it has. It is all that the agent needs to go on, also when the network is not
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
    /// Whether its name servers are told to the container.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns: bool,
    /// Why it has no lease, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
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
            dns: dhcp.takes(Use::Dns),
            trouble: None,
            lease: None,
        }))
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

/// The same of the DHCPv6 client. Routes are told by routers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dhcp6Link {
    pub duid: Duid,
    pub iaid: Iaid,
    /// The name that the container tells the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<DomainName>,
    /// The address that the identity had before, which it would like again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Ipv6Addr>,
    /// Whether its name servers are told to the container.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dns: bool,
    /// Why it has no lease, as far as is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The lease; none as long as no server has given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<v6::lease::Lease>,
}

impl Dhcp6Link {
    /// As [`DhcpLink::new`]; `None` if the network has no DHCPv6.
    pub(crate) fn new(network: &Network, identity: &Identity, index: usize, key: [u8; 16]) -> Option<Self> {
        let dhcp = network.file.dhcp.as_ref().filter(|dhcp| dhcp.dhcp6 != Dhcp6::No)?;
        Some(Self {
            duid: Duid::derived(key, identity),
            iaid: Iaid::of(&network.name, index),
            host_name: dhcp.hostname.clone(),
            previous: None,
            dns: dhcp.takes(Use::Dns),
            trouble: None,
            lease: None,
        })
    }
}

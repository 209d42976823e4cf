//! The format of network files and of networks in annotations, before the parts are checked against each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::conflict_detection::Detection;
use crate::config::dhcp::Dhcp;
use crate::config::host_access::{self, HostAccess};
use crate::config::pattern::Pattern;
use crate::config::reservation::Reservation;
use crate::error::{Error, Result};
use crate::json;
use crate::net::driver::{IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::net::ipv6::Ipv6;
use crate::net::link_options::{LinkOptions, Sysctl, SysctlValue};
use crate::net::mac::MacAddr;
use crate::net::name::{IfName, NetworkName};
use crate::net::route::{Route, TableId};
use crate::net::subnet::{self, AddressRange, Subnet};
use crate::net::vlan::{VlanId, VlanProtocol, VlanRanges};

/// The version of the network file format that this program reads and writes.
pub(crate) const VERSION: u32 = 1;

/// A network as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkFile {
    /// The format; [`VERSION`].
    pub version: u32,
    /// The name; if given, it is that of the file or annotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NetworkName>,
    pub driver: Kind,
    /// The link that links of containers are made on; without it a dummy link of the network's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<IfName>,
    /// The VLAN of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    /// The VLANs that a container may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<VlanRanges>,
    /// How the frames of these VLANs are tagged; 802.1Q by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_protocol: Option<VlanProtocol>,
    /// The mode of a macvlan network; bridge by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macvlan_mode: Option<MacvlanMode>,
    /// The mode of an ipvlan network; l2 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipvlan_mode: Option<IpvlanMode>,
    /// The flag of an ipvlan network; bridge by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipvlan_flag: Option<IpvlanFlag>,
    /// The MTU in bytes; the parent's by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// How many receivers get a broadcast at once, without a queue (`IFLA_MACVLAN_BC_CUTOFF`, kernel 6.4; -1: all).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bclim: Option<i32>,
    /// The length of the transmit queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txqueuelen: Option<u32>,
    /// The length of the broadcast queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bcqueuelen: Option<u32>,
    /// In mode source: the hosts whose frames come in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_macs: Vec<MacAddr>,
    /// Sysctls of the links.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub sysctls: BTreeMap<Sysctl, SysctlValue>,
    /// How conflicts are detected before an address is used; without it as the settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict_detection: Option<Detection>,
    /// How long an address counts as unclaimed after no host has answered for it, in seconds; without it as the settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_ahead: Option<u64>,
    /// How often addresses are announced; without it as the settings say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announcements: Option<u32>,
    /// Whether containers get no default route, because the network is isolated.
    #[serde(default)]
    pub internal: bool,
    /// Whether containers get no default route, because another network gives it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_default_route: bool,
    /// The table of the routes of each link, for packets from its addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// The metric of default routes; without it the kernel's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// The IPv6 of the links besides addresses of the subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
    /// Addresses come from a DHCP server, except those of the subnets that containers ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<Dhcp>,
    #[serde(default)]
    pub subnets: Vec<SubnetFile>,
    /// Routes besides the default route. Containers get those whose next hop their subnets reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Whether the host can talk to the containers, by a link of its own.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "host_access::read")]
    pub host_access: Option<HostAccess>,
    /// The annotations that a container must have to use the network: patterns by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub required_annotations: BTreeMap<String, Pattern>,
    /// What is reserved, by identity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub reservations: BTreeMap<String, Reservation>,
    /// The operator's notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub labels: BTreeMap<String, String>,
}

impl NetworkFile {
    /// A network of `driver` of which nothing else is said.
    pub(crate) fn new(driver: Kind) -> Self {
        Self { version: VERSION, driver, ..Self::default() }
    }

    pub(crate) fn link_options(&self) -> LinkOptions {
        LinkOptions {
            txqueuelen: self.txqueuelen,
            bcqueuelen: self.bcqueuelen,
            source_macs: self.source_macs.clone(),
            sysctls: self.sysctls.clone(),
        }
    }
}

/// A subnet as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubnetFile {
    /// The prefix, without host bits.
    #[serde(deserialize_with = "net")]
    pub subnet: IpNet,
    /// The next hop of the default route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Whether the gateway is on the link, though not in the subnet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// The range that addresses are allocated from: CIDR or FIRST-LAST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// Addresses that are never allocated, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

fn net<'de, D: Deserializer<'de>>(input: D) -> std::result::Result<IpNet, D::Error> {
    subnet::parse_net(&String::deserialize(input)?).map_err(D::Error::custom)
}

impl SubnetFile {
    /// Checks the parts of the subnet against each other.
    ///
    /// # Errors
    /// When they disagree.
    pub(crate) fn check(&self) -> Result<Subnet> {
        let range: Option<AddressRange> = self.ip_range.as_deref().map(str::parse).transpose()?;
        let net = self.subnet;
        if self.onlink {
            let missing = || Error::input(format!("subnet {net} has an onlink gateway, and no gateway"));
            let gateway = Some(self.gateway.ok_or_else(missing)?);
            Route { onlink: true, ..Route::new(net.trunc(), gateway) }.check(|_| true)?;
        }
        Subnet::new(net, self.gateway, self.onlink, range, self.aux_addresses.clone())
    }
}

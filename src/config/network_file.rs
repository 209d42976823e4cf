//! The format of network files and inline annotations: a network as it is written, before its parts are checked
//! against each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::config::conflict_detection::Detection;
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
use crate::net::subnet::{AddressRange, Subnet};
use crate::net::vlan::{VlanId, VlanProtocol, VlanRanges};

/// The version of the network file format this program reads and writes.
pub(crate) const VERSION: u32 = 1;

/// A network as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NetworkFile {
    /// The format; [`VERSION`].
    pub version: u32,
    /// The name, which must be that of the file or annotation it stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NetworkName>,
    /// macvlan or ipvlan.
    pub driver: Kind,
    /// The parent link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<IfName>,
    /// The VLAN of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanId>,
    /// The VLANs that a container may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlans: Option<VlanRanges>,
    /// How the frames of these VLANs are tagged; 802.1Q without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan_protocol: Option<VlanProtocol>,
    /// Mode of a macvlan network; bridge without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macvlan_mode: Option<MacvlanMode>,
    /// Mode of an ipvlan network; l2 without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipvlan_mode: Option<IpvlanMode>,
    /// Flag of an ipvlan network; bridge without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipvlan_flag: Option<IpvlanFlag>,
    /// MTU in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Receivers of a broadcast that are served without a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bclim: Option<i32>,
    /// Frames that wait to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txqueuelen: Option<u32>,
    /// Broadcasts that wait to be handed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bcqueuelen: Option<u32>,
    /// In mode source: whose frames come in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_macs: Vec<MacAddr>,
    /// Sysctls of the links.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub sysctls: BTreeMap<Sysctl, SysctlValue>,
    /// How addresses are probed for before they are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict_detection: Option<Detection>,
    /// How often addresses are announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub announcements: Option<u32>,
    /// No default route: no way out.
    #[serde(default)]
    pub internal: bool,
    /// No default route: another network gives it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_default_route: bool,
    /// The table of the routes of each link alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// Metric of default routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// IPv6 besides addresses of the subnets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6>,
    /// The subnets.
    #[serde(default)]
    pub subnets: Vec<SubnetFile>,
    /// Routes besides the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// The host has a link of its own to talk to the containers.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "host_access::read")]
    pub host_access: Option<HostAccess>,
    /// Patterns of annotations a container must have, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub required_annotations: BTreeMap<String, Pattern>,
    /// What is kept for one identity each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub reservations: BTreeMap<String, Reservation>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub labels: BTreeMap<String, String>,
}

impl NetworkFile {
    /// A network of `driver` of which nothing else is said.
    pub(crate) fn new(driver: Kind) -> Self {
        Self { version: VERSION, driver, ..Self::default() }
    }

    /// What it says of the links besides.
    pub(crate) fn tuning(&self) -> LinkOptions {
        LinkOptions {
            txqueuelen: self.txqueuelen,
            bcqueuelen: self.bcqueuelen,
            source_macs: self.source_macs.clone(),
            sysctls: self.sysctls.clone(),
        }
    }
}

/// A subnet as it is written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubnetFile {
    /// CIDR without host bits.
    pub subnet: IpNet,
    /// The router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Whether the router is on the link, though not in the subnet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub onlink: bool,
    /// CIDR or FIRST-LAST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// Addresses never handed out, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "json::distinct")]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

impl SubnetFile {
    /// Checks the parts of the subnet against each other.
    ///
    /// # Errors
    /// When they disagree.
    pub(crate) fn check(&self) -> Result<Subnet> {
        let range: Option<AddressRange> = self.ip_range.as_deref().map(str::parse).transpose()?;
        let aux = self.aux_addresses.clone();
        if !self.onlink {
            return Subnet::new(self.subnet, self.gateway, range, aux);
        }
        let Some(gateway) = self.gateway else {
            return Err(Error::input(format!(
                "subnet {} has an onlink gateway, and no gateway",
                self.subnet
            )));
        };
        Route { onlink: true, ..Route::new(self.subnet.trunc(), Some(gateway)) }.check(|_| true)?;
        Ok(Subnet::new(self.subnet, None, range, aux)?.with_onlink_gateway(gateway))
    }
}

impl From<&Subnet> for SubnetFile {
    fn from(subnet: &Subnet) -> Self {
        Self {
            subnet: subnet.net(),
            gateway: subnet.gateway(),
            onlink: subnet.has_onlink_gateway(),
            ip_range: subnet.range().map(|range| range.to_string()),
            aux_addresses: subnet.aux_addresses().clone(),
        }
    }
}

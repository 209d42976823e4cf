//! The definition of a network: what a file under `networks/` or an inline annotation says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::driver::{Driver, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::error::{Error, Result};
use crate::json;
use crate::name::{IfName, NetworkName};
use crate::parent::{self, Recipe};
use crate::record::Route;
use crate::subnet::{AddressRange, Subnet};

/// The version of the network file format this program reads and writes.
pub const VERSION: u32 = 1;

/// A network: its driver, the parent link its containers hang on, and the subnets they live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The name containers ask for.
    pub name: NetworkName,
    /// Which links are made, in which mode.
    pub driver: Driver,
    /// The host's link that gives its segment to the containers.
    pub parent: IfName,
    /// Whether no parent was named, so that it is a dummy link of the network's own.
    pub on_dummy: bool,
    /// The MTU of the links in bytes; without it the parent's.
    pub mtu: Option<u32>,
    /// How many receivers of a broadcast are served at once, without a queue (`IFLA_MACVLAN_BC_CUTOFF`, kernel
    /// 6.4; -1: all).
    pub bclim: Option<i32>,
    /// Whether containers get no default route, because this is no way out.
    pub internal: bool,
    /// Whether containers get no default route, because another network shall give it.
    pub no_default_route: bool,
    /// The metric of default routes; without it the kernel's.
    pub metric: Option<u32>,
    /// In the order they are used.
    pub subnets: Vec<Subnet>,
    /// Routes of containers whose subnet reaches the next hop.
    pub routes: Vec<Route>,
    /// The operator's notes.
    pub labels: BTreeMap<String, String>,
}

/// A network as it is written, before its parts are checked against each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
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
    /// No default route: no way out.
    #[serde(default)]
    pub internal: bool,
    /// No default route: another network gives it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_default_route: bool,
    /// Metric of default routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    /// The subnets.
    #[serde(default)]
    pub subnets: Vec<SubnetFile>,
    /// Routes besides the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Notes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A subnet as it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetFile {
    /// CIDR without host bits.
    pub subnet: IpNet,
    /// The router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// CIDR or FIRST-LAST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// Addresses never handed out, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

impl Network {
    /// Reads the definition of the network `name` from JSON text.
    ///
    /// # Errors
    /// Names the key that is wrong; another version than [`VERSION`] is refused before anything else is looked at.
    pub fn from_json(name: &NetworkName, text: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = json::object(text)?;
        if version != VERSION {
            return Err(Error::input(format!("version {version} is not known"))
                .hint(format!("this underlay reads version {VERSION}")));
        }
        let file: NetworkFile = json::object(text)?;
        Self::new(name, file)
    }

    /// Checks the parts of `file` against each other.
    ///
    /// # Errors
    /// When they disagree, or the file says another name.
    pub fn new(name: &NetworkName, file: NetworkFile) -> Result<Self> {
        if let Some(other) = file.name.as_ref().filter(|other| *other != name) {
            return Err(Error::input(format!("name: the network is called {name} here, not {other}")));
        }
        let driver = driver(&file)?;
        if let Some(mtu) = file.mtu.filter(|mtu| !(68..=65535).contains(mtu)) {
            return Err(Error::input(format!("mtu: {mtu} is not between 68 and 65535")));
        }
        if file.bclim.is_some() && driver.kind() == Kind::Ipvlan {
            return Err(no_option_of("bclim", Kind::Ipvlan));
        }
        let on_dummy = file.parent.is_none();
        let parent = file.parent.unwrap_or_else(|| parent::dummy_name(name));
        let mut subnets = Vec::with_capacity(file.subnets.len());
        for subnet in &file.subnets {
            let subnet = subnet.check().map_err(|error| error.within("subnets"))?;
            subnets.push(subnet.with_next_hops(file.routes.iter().filter_map(|route| route.via)));
        }
        refuse_overlaps(&subnets)?;
        let network = Self {
            name: name.clone(),
            driver,
            parent,
            on_dummy,
            mtu: file.mtu,
            bclim: file.bclim,
            internal: file.internal,
            no_default_route: file.no_default_route,
            metric: file.metric,
            subnets,
            routes: file.routes,
            labels: file.labels,
        };
        network.routes.iter().try_for_each(|route| network.check_route(route))?;
        Ok(network)
    }

    /// How the parent is made where it is missing; `None` if that is not for us to do.
    ///
    /// # Errors
    /// When its name is nearly that of a VLAN.
    pub fn recipe(&self) -> Result<Option<Recipe>> {
        if self.on_dummy { Ok(Some(Recipe::Dummy)) } else { Recipe::of_name(&self.parent) }
    }

    fn check_route(&self, route: &Route) -> Result<()> {
        let to = route.to;
        let refuse = |why: String| Err(Error::input(format!("routes: route to {to} {why}")));
        if to != to.trunc() {
            return refuse(format!("has host bits set, {} has not", to.trunc()));
        }
        if to.prefix_len() == 0 {
            return refuse("is a default route: give the subnet a gateway instead".to_owned());
        }
        match route.via {
            Some(via) if via.is_ipv4() != to.addr().is_ipv4() => {
                refuse(format!("leads to {via}, of the other family"))
            }
            Some(via) if self.subnet_of(via).is_none() => {
                refuse(format!("leads to {via}, which is in none of the subnets"))
            }
            Some(_) => Ok(()),
            None => refuse("has no next hop: write DESTINATION,GATEWAY".to_owned()),
        }
    }

    /// The definition as it is written to a file, nothing left to defaults.
    pub fn to_file(&self) -> NetworkFile {
        let (macvlan_mode, ipvlan_mode, ipvlan_flag) = match self.driver {
            Driver::Macvlan { mode } => (Some(mode), None, None),
            Driver::Ipvlan { mode, flag } => (None, Some(mode), Some(flag)),
        };
        NetworkFile {
            version: VERSION,
            name: Some(self.name.clone()),
            driver: self.driver.kind(),
            parent: (!self.on_dummy).then(|| self.parent.clone()),
            macvlan_mode,
            ipvlan_mode,
            ipvlan_flag,
            mtu: self.mtu,
            bclim: self.bclim,
            internal: self.internal,
            no_default_route: self.no_default_route,
            metric: self.metric,
            subnets: self.subnets.iter().map(SubnetFile::from).collect(),
            routes: self.routes.clone(),
            labels: self.labels.clone(),
        }
    }

    /// The subnet that `address` lies in.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net().contains(&address))
    }
}

/// The driver with its mode; a mode of the other driver is a mistake, not a surplus.
fn driver(file: &NetworkFile) -> Result<Driver> {
    let refuse = |key: &str, driver: Kind| Err(no_option_of(key, driver));
    match file.driver {
        Kind::Macvlan if file.ipvlan_mode.is_some() => refuse("ipvlan_mode", file.driver),
        Kind::Macvlan if file.ipvlan_flag.is_some() => refuse("ipvlan_flag", file.driver),
        Kind::Ipvlan if file.macvlan_mode.is_some() => refuse("macvlan_mode", file.driver),
        // The kernel's own defaults are vepa and l3, which nobody expects.
        Kind::Macvlan => Ok(Driver::Macvlan { mode: file.macvlan_mode.unwrap_or(MacvlanMode::Bridge) }),
        Kind::Ipvlan => Ok(Driver::Ipvlan {
            mode: file.ipvlan_mode.unwrap_or(IpvlanMode::L2),
            flag: file.ipvlan_flag.unwrap_or(IpvlanFlag::Bridge),
        }),
    }
}

fn no_option_of(key: &str, driver: Kind) -> Error {
    Error::input(format!("{key}: is no option of driver {driver}")).hint("remove it, or change the driver")
}

fn refuse_overlaps(subnets: &[Subnet]) -> Result<()> {
    for (at, one) in subnets.iter().enumerate() {
        for other in subnets.iter().skip(at + 1) {
            if one.net().contains(&other.net()) || other.net().contains(&one.net()) {
                return Err(Error::input(format!("subnets: {} and {} overlap", one.net(), other.net()))
                    .hint("one network cannot hold the same address twice"));
            }
        }
    }
    Ok(())
}

impl SubnetFile {
    fn check(&self) -> Result<Subnet> {
        let range: Option<AddressRange> = self.ip_range.as_deref().map(str::parse).transpose()?;
        Subnet::new(self.subnet, self.gateway, range, self.aux_addresses.clone())
    }
}

impl From<&Subnet> for SubnetFile {
    fn from(subnet: &Subnet) -> Self {
        Self {
            subnet: subnet.net(),
            gateway: subnet.gateway(),
            ip_range: subnet.range().map(|range| range.to_string()),
            aux_addresses: subnet.aux_addresses().clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Network> {
        Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
    }

    #[test]
    fn a_full_definition_round_trips() {
        let network = read(
            r#"{"version": 1, "name": "lan", "driver": "ipvlan", "parent": "eth0", "ipvlan_mode": "l3s",
                "ipvlan_flag": "private", "mtu": 1400, "internal": true, "metric": 7,
                "no_default_route": true, "labels": {"a": "b"},
                "routes": [{"to": "10.9.0.0/16", "via": "10.0.0.2", "metric": 5}], "subnets": [
                {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.128/25"},
                {"subnet": "2001:db8::/64", "aux_addresses": {"printer": "2001:db8::9"}}]}"#,
        )
        .unwrap();
        assert_eq!(network.driver, Driver::Ipvlan { mode: IpvlanMode::L3s, flag: IpvlanFlag::Private });
        assert_eq!((network.mtu, network.internal, network.subnets.len()), (Some(1400), true, 2));
        let text = serde_json::to_string(&network.to_file()).unwrap();
        assert_eq!(read(&text).unwrap(), network);
    }

    #[test]
    fn defaults_are_dockers() {
        let network = read(r#"{"version": 1, "driver": "macvlan", "parent": "eth0"}"#).unwrap();
        assert_eq!(network.driver, Driver::Macvlan { mode: MacvlanMode::Bridge });
        let network = read(r#"{"version": 1, "driver": "ipvlan", "parent": "eth0"}"#).unwrap();
        assert_eq!(network.driver, Driver::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge });
        assert!(!network.internal && network.mtu.is_none() && network.subnets.is_empty());
    }

    #[test]
    fn mistakes_name_their_key() {
        for (text, message) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            (r#"{"driver": "macvlan"}"#, "missing field `version` at line 1 column 21"),
            (r#"{"version": 2, "news": 1}"#, "version 2 is not known"),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "mtuu": 5}"#,
                "mtuu: unknown field `mtuu`, expected one of `version`, `name`, `driver`, `parent`, \
                 `macvlan_mode`, `ipvlan_mode`, `ipvlan_flag`, `mtu`, `bclim`, \
                 `internal`, `no_default_route`, `metric`, `subnets`, `routes`, `labels` at line 1 column 60",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "mtu": "big"}"#,
                "mtu: invalid type: string \"big\", expected u32 at line 1 column 66",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10/8"}]}"#,
                "subnets[0].subnet: invalid IP address syntax at line 1 column 83",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "a/b"}"#,
                "parent: interface name \"a/b\" is not usable at line 1 column 52",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "name": "wan"}"#,
                "name: the network is called lan here, not wan",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "ipvlan_mode": "l2"}"#,
                "ipvlan_mode: is no option of driver macvlan",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "mtu": 67}"#,
                "mtu: 67 is not between 68 and 65535",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0",
                    "subnets": [{"subnet": "10.0.0.0/8"}, {"subnet": "10.1.0.0/16"}]}"#,
                "subnets: 10.0.0.0/8 and 10.1.0.0/16 overlap",
            ),
            (
                r#"{"version": 1, "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.0.0.1/8"}]}"#,
                "subnets: subnet 10.0.0.1/8 has host bits set",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}

//! The definition of a network: what a file under `networks/` or an inline annotation says.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::driver::{Driver, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::error::{Error, Result};
use crate::json;
use crate::name::{IfName, NetworkName};
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
    /// The MTU of the links in bytes; without it the parent's.
    pub mtu: Option<u32>,
    /// Whether containers get no default route.
    pub internal: bool,
    /// In the order they are used.
    pub subnets: Vec<Subnet>,
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
    /// No default route.
    #[serde(default)]
    pub internal: bool,
    /// The subnets.
    #[serde(default)]
    pub subnets: Vec<SubnetFile>,
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
        let parent = file.parent.ok_or_else(|| {
            Error::input("parent: a network needs a parent link")
                .hint("name one of the links `ip link` shows")
        })?;
        let mut subnets = Vec::with_capacity(file.subnets.len());
        for subnet in &file.subnets {
            subnets.push(subnet.check().map_err(|error| error.within("subnets"))?);
        }
        refuse_overlaps(&subnets)?;
        Ok(Self { name: name.clone(), driver, parent, mtu: file.mtu, internal: file.internal, subnets })
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
            parent: Some(self.parent.clone()),
            macvlan_mode,
            ipvlan_mode,
            ipvlan_flag,
            mtu: self.mtu,
            internal: self.internal,
            subnets: self.subnets.iter().map(SubnetFile::from).collect(),
        }
    }

    /// The subnet that `address` lies in.
    pub fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net().contains(&address))
    }
}

/// The driver with its mode; a mode of the other driver is a mistake, not a surplus.
fn driver(file: &NetworkFile) -> Result<Driver> {
    let refuse = |key: &str, driver: Kind| {
        Err(Error::input(format!("{key}: is no option of driver {driver}"))
            .hint("remove it, or change the driver"))
    };
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
        Subnet::new(self.subnet, self.gateway, range)
    }
}

impl From<&Subnet> for SubnetFile {
    fn from(subnet: &Subnet) -> Self {
        Self {
            subnet: subnet.net(),
            gateway: subnet.gateway(),
            ip_range: subnet.range().map(|range| range.to_string()),
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
                "ipvlan_flag": "private", "mtu": 1400, "internal": true, "subnets": [
                {"subnet": "10.0.0.0/24", "gateway": "10.0.0.1", "ip_range": "10.0.0.128/25"},
                {"subnet": "2001:db8::/64"}]}"#,
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
                 `macvlan_mode`, `ipvlan_mode`, `ipvlan_flag`, `mtu`, `internal`, `subnets` at line 1 column 60",
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

//! The definition of a network: what a file under `networks/` or an inline annotation says.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::config::conflict_detection::{self, Detection};
use crate::config::host_access::HostAccess;
use crate::config::network_file::{NetworkFile, SubnetFile, VERSION};
use crate::config::pattern::Pattern;
use crate::config::reservation::Reservations;
use crate::error::{Error, Result};
use crate::json;
use crate::net::driver::{Driver, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::net::ipv6::Ipv6;
use crate::net::link::{Link, set_mtu};
use crate::net::link_options::LinkOptions;
use crate::net::name::{IfName, NetworkName};
use crate::net::parent::{self, ParentSpec};
use crate::net::route::{Route, TableId};
use crate::net::subnet::Subnet;
use crate::net::trunk::Trunk;
use crate::net::vlan::VlanId;

/// No network has more subnets, nor more routes, nor a subnet more aux addresses: they are compared with each other.
pub(crate) const MOST: usize = 256;

/// A network: its driver, the parent link its containers hang on, and the subnets they live in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// The name containers ask for.
    pub name: NetworkName,
    /// Which links are made, in which mode.
    pub driver: Driver,
    /// The host's link that gives its segment to the containers; of a network of many VLANs the one that carries them,
    /// until a VLAN is chosen.
    pub parent: IfName,
    /// The VLANs of a link, if the definition speaks of them apart from the parent's name.
    pub trunk: Option<Trunk>,
    /// Whether no parent was named, so that it is a dummy link of the network's own.
    pub on_dummy: bool,
    /// The MTU of the links in bytes; without it the parent's.
    pub mtu: Option<u32>,
    /// How many receivers of a broadcast are served at once, without a queue (`IFLA_MACVLAN_BC_CUTOFF`, kernel
    /// 6.4; -1: all).
    pub bclim: Option<i32>,
    /// What the links are given besides.
    pub tuning: LinkOptions,
    /// How addresses are probed for before they are used; without it as the settings say.
    pub conflict_detection: Option<Detection>,
    /// How often the addresses of containers are announced; without it as the settings say.
    pub announcements: Option<u32>,
    /// Whether containers get no default route, because this is no way out.
    pub internal: bool,
    /// Whether containers get no default route, because another network shall give it.
    pub no_default_route: bool,
    /// The table of the routes of each link alone, for packets from its addresses.
    pub table: Option<TableId>,
    /// The metric of default routes; without it the kernel's.
    pub metric: Option<u32>,
    /// In the order they are used.
    pub subnets: Vec<Subnet>,
    /// Routes of containers whose subnet reaches the next hop.
    pub routes: Vec<Route>,
    /// Whether the host can talk to the containers, by a link of its own.
    pub host_access: Option<HostAccess>,
    /// What annotations a container must have to use the network, by key.
    pub required_annotations: BTreeMap<String, Pattern>,
    /// What is kept for one identity each.
    pub reservations: Reservations,
    /// What links have of IPv6 besides their addresses of the subnets.
    pub ipv6: Option<Ipv6>,
    /// The operator's notes.
    pub labels: BTreeMap<String, String>,
}

impl Network {
    /// Reads the definition of the network `name` from JSON text.
    ///
    /// # Errors
    /// Names the key that is wrong; another version than [`VERSION`] is refused before anything else is looked at.
    pub(crate) fn from_json(name: &NetworkName, text: &[u8]) -> Result<Self> {
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
    pub(crate) fn new(name: &NetworkName, file: NetworkFile) -> Result<Self> {
        if let Some(other) = file.name.as_ref().filter(|other| *other != name) {
            return Err(Error::input(format!("name: the network is called {name} here, not {other}")));
        }
        let driver = driver(&file)?;
        let aux = file.subnets.iter().map(|subnet| subnet.aux_addresses.len()).max().unwrap_or_default();
        for (key, count) in
            [("subnets", file.subnets.len()), ("routes", file.routes.len()), ("aux_addresses", aux)]
        {
            if count > MOST {
                return Err(Error::input(format!("{key}: {count} are too many, {MOST} are possible")));
            }
        }
        if let Some(mtu) = file.mtu.filter(|mtu| !(68..=65535).contains(mtu)) {
            return Err(Error::input(format!("mtu: {mtu} is not between 68 and 65535")));
        }
        if file.bclim.is_some() && driver.kind() == Kind::Ipvlan {
            return Err(no_option_of("bclim", Kind::Ipvlan));
        }
        let tuning = file.tuning();
        tuning.check(driver)?;
        let on_dummy = file.parent.is_none();
        let trunk = Trunk::new(file.parent.as_ref(), file.vlan_protocol, file.vlan, file.vlans)?;
        let parent = trunk.as_ref().map(Trunk::parent).or(file.parent);
        let parent = parent.unwrap_or_else(|| parent::dummy_name(name));
        let mut subnets = Vec::with_capacity(file.subnets.len());
        for subnet in &file.subnets {
            let subnet = subnet.check().map_err(|error| error.within("subnets"))?;
            subnets.push(subnet.with_next_hops(file.routes.iter().filter_map(|route| route.via)));
        }
        refuse_overlaps(&subnets)?;
        let reservations = Reservations::new(&file.reservations, driver, &subnets)
            .map_err(|error| error.within("reservations"))?;
        let network = Self {
            name: name.clone(),
            driver,
            parent,
            trunk,
            on_dummy,
            mtu: file.mtu,
            bclim: file.bclim,
            tuning,
            conflict_detection: file.conflict_detection,
            announcements: file.announcements,
            internal: file.internal,
            ipv6: file.ipv6,
            no_default_route: file.no_default_route,
            table: file.table,
            metric: file.metric,
            subnets,
            routes: file.routes,
            host_access: file.host_access,
            required_annotations: file.required_annotations,
            reservations,
            labels: file.labels,
        };
        network.check_routes(&network.routes)?;
        conflict_detection::check_announcements(network.announcements.unwrap_or_default())?;
        if let Some(detection) = network.conflict_detection {
            detection.check(network.driver, network.on_dummy)?;
        }
        if let Some(ipv6) = network.ipv6 {
            ipv6.check(network.driver, &network.subnets)?;
        }
        if let Some(access) = &network.host_access {
            access.check(network.driver, &network.subnets)?;
            let mut reserved = network.reservations.addresses();
            if let Some((address, identity)) =
                reserved.find(|(address, _)| access.addresses.contains(address))
            {
                return Err(Error::input(format!(
                    "host_access address {address} is reserved for {identity}"
                ))
                .hint("name another address for one of them"));
            }
        }
        Ok(network)
    }

    /// How the parent is made where it is missing; `None` if that is not for us to do.
    ///
    /// # Errors
    /// When its name is nearly that of a VLAN.
    pub(crate) fn recipe(&self) -> Result<Option<ParentSpec>> {
        match self.trunk.as_ref().and_then(Trunk::recipe) {
            None if self.on_dummy => Ok(Some(ParentSpec::Dummy)),
            None => ParentSpec::of_name(&self.parent),
            vlan => Ok(vlan),
        }
    }

    /// Whether it has VLANs only for containers that ask for one.
    pub(crate) fn is_of_many_vlans(&self) -> bool {
        self.trunk.as_ref().is_some_and(|trunk| trunk.vlan.is_none())
    }

    /// The network as it is for a container that asks for the VLAN `asked`: its parent is the link of that VLAN.
    ///
    /// # Errors
    /// When it has no such VLAN, or only those that must be asked for.
    pub(crate) fn on_vlan(self, asked: Option<VlanId>) -> Result<Self> {
        let name = &self.name;
        let Some(trunk) = self.trunk else {
            return match asked {
                None => Ok(self),
                Some(id) => Err(Error::input(format!("network {name} has no VLANs, so not {id} either"))
                    .hint("leave vlan out, or have vlans added to the network's definition")),
            };
        };
        let trunk = trunk.on_vlan(asked, name)?;
        Ok(Self { parent: trunk.parent(), trunk: Some(trunk), ..self })
    }

    /// Whether it can have `link` as its parent.
    ///
    /// # Errors
    /// When `link` is no parent, or the MTU is above the one it has.
    pub(crate) fn check_parent(&self, link: &Link) -> Result<()> {
        link.check_parent()?;
        let Some(mtu) = self.mtu.filter(|&mtu| mtu > link.mtu) else { return Ok(()) };
        let (name, most) = (&link.name, link.mtu);
        let what = format!("mtu {mtu} of network {} is above the {most} of parent {name}", self.name);
        let raise = set_mtu(name, mtu);
        Err(Error::input(what).hint(format!("use at most {most}, or raise it with `{raise}`")))
    }

    /// Whether the host has access by addresses that are all named, and so the same after a reboot.
    pub(crate) fn names_host_addresses(&self) -> bool {
        self.host_access.as_ref().is_some_and(|access| access.names_all(&self.subnets))
    }

    /// How conflicts are detected where the parent is this one; `None` if they are not, because nobody wants it or
    /// nobody could answer.
    pub(crate) fn detection_on(&self, parent: &Link) -> Option<Detection> {
        let is_lan = !self.on_dummy && parent.kind.as_deref() != Some("dummy") && parent.up;
        let wanted = self.conflict_detection.filter(|&detection| detection != Detection::Off);
        wanted.filter(|_| is_lan && !self.driver.is_routed())
    }

    /// How often the addresses of containers are announced.
    pub(crate) fn announced(&self) -> u32 {
        self.announcements.filter(|_| !self.driver.is_routed()).unwrap_or_default()
    }

    /// Whether each of `routes`, the network's or a container's own, is sound and has its next hop in a subnet.
    ///
    /// # Errors
    /// Names the one that is not.
    pub(crate) fn check_routes(&self, routes: &[Route]) -> Result<()> {
        if routes.len() > MOST {
            return Err(Error::input(format!("routes: {} are too many, {MOST} are possible", routes.len())));
        }
        let reaches = |via| self.subnet_of(via).is_some();
        let checked = routes.iter().try_for_each(|route| route.check(reaches));
        checked.map_err(|error| error.within("routes"))
    }

    /// The definition as it is written to a file, nothing left to defaults.
    pub(crate) fn to_file(&self) -> NetworkFile {
        let (macvlan_mode, ipvlan_mode, ipvlan_flag) = match self.driver {
            Driver::Macvlan { mode } => (Some(mode), None, None),
            Driver::Ipvlan { mode, flag } => (None, Some(mode), Some(flag)),
        };
        NetworkFile {
            version: VERSION,
            name: Some(self.name.clone()),
            driver: self.driver.kind(),
            parent: match &self.trunk {
                Some(trunk) => Some(trunk.base.clone()),
                None => (!self.on_dummy).then(|| self.parent.clone()),
            },
            vlan: self.trunk.as_ref().and_then(|trunk| trunk.vlan),
            vlans: self.trunk.as_ref().and_then(|trunk| trunk.vlans.clone()),
            vlan_protocol: self
                .trunk
                .as_ref()
                .map(|trunk| trunk.protocol)
                .filter(|protocol| !protocol.is_default()),
            macvlan_mode,
            ipvlan_mode,
            ipvlan_flag,
            mtu: self.mtu,
            bclim: self.bclim,
            txqueuelen: self.tuning.txqueuelen,
            bcqueuelen: self.tuning.bcqueuelen,
            source_macs: self.tuning.source_macs.clone(),
            sysctls: self.tuning.sysctls.clone(),
            conflict_detection: self.conflict_detection,
            announcements: self.announcements,
            internal: self.internal,
            no_default_route: self.no_default_route,
            table: self.table,
            ipv6: self.ipv6,
            metric: self.metric,
            subnets: self.subnets.iter().map(SubnetFile::from).collect(),
            routes: self.routes.clone(),
            host_access: self.host_access.clone(),
            required_annotations: self.required_annotations.clone(),
            reservations: self.reservations.to_file(),
            labels: self.labels.clone(),
        }
    }

    /// Whether a container with these annotations may use the network: each one required is there, and matches.
    ///
    /// # Errors
    /// Says that it may not. What is required is not said: whoever is refused would only have to claim it.
    pub(crate) fn admit(&self, annotations: &BTreeMap<String, String>) -> Result<()> {
        let fits = |(key, pattern): (_, &Pattern)| annotations.get(key).is_some_and(|v| pattern.matches(v));
        if self.required_annotations.iter().all(fits) {
            return Ok(());
        }
        Err(Error::input(format!("required_annotations: network {} is not for this container", self.name))
            .hint("its definition says which annotations a container must have"))
    }

    /// The subnet that `address` lies in.
    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
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

#[cfg(test)]
mod tests;

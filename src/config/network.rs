//! A network: the definition in a file below `networks/` or in an annotation, after it was checked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config::conflict_detection::{self, Detection};
use crate::config::dhcp::Dhcp6;
use crate::config::network_file::{NetworkFile, VERSION};
use crate::config::pattern::Pattern;
use crate::config::reservation::Reservations;
use crate::error::{Error, Result};
use crate::json;
use crate::net::driver::{Driver, IpvlanFlag, IpvlanMode, Kind, MacvlanMode};
use crate::net::ipv6::{IPV6_MTU, Ipv6};
use crate::net::link::{Link, set_mtu};
use crate::net::name::{IfName, NetworkName};
use crate::net::parent::{self, ParentSpec};
use crate::net::route::Route;
use crate::net::subnet::Subnet;
use crate::net::trunk::Trunk;
use crate::net::value::at_most;
use crate::net::vlan::{VlanId, VlanProtocol};

/// The most subnets and routes of a network, and aux addresses of a subnet: they are compared with each other.
pub(crate) const MOST: usize = 256;

/// A network whose definition was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub name: NetworkName,
    pub driver: Driver,
    /// The link of the host that links of containers are made on. In a network of many VLANs it is the one that carries
    /// them, until a VLAN is chosen.
    pub parent: IfName,
    /// The VLANs of a link, if the definition has keys for them.
    pub trunk: Option<Trunk>,
    /// Whether the definition names no parent, so that it is a dummy link of the network's own.
    pub on_dummy: bool,
    /// In the order they are used.
    pub subnets: Vec<Subnet>,
    pub reservations: Reservations,
    /// The definition as it is written, with nothing left to defaults. Of a key that is also a field above, that field
    /// counts.
    pub file: NetworkFile,
}

impl Network {
    /// Reads the definition of the network `name` from JSON text.
    ///
    /// # Errors
    /// Names the key that is wrong. A version other than [`VERSION`] is refused first.
    pub(crate) fn from_json(name: &NetworkName, text: &[u8]) -> Result<Self> {
        Self::new(name, json::of_version(text, VERSION)?)
    }

    /// Checks the parts of `file` against each other.
    ///
    /// # Errors
    /// When they disagree, or the file has another name.
    pub(crate) fn new(name: &NetworkName, mut file: NetworkFile) -> Result<Self> {
        if let Some(other) = file.name.replace(name.clone()).filter(|other| other != name) {
            return Err(Error::input(format!("name: the network is called {name} here, not {other}")));
        }
        let driver = driver(&mut file)?;
        let aux = file.subnets.iter().map(|subnet| subnet.aux_addresses.len()).max().unwrap_or_default();
        at_most("subnets", file.subnets.len(), MOST)?;
        at_most("routes", file.routes.len(), MOST)?;
        at_most("aux_addresses", aux, MOST)?;
        if let Some(mtu) = file.mtu.filter(|mtu| !(68..=65535).contains(mtu)) {
            return Err(Error::input(format!("mtu: {mtu} is not between 68 and 65535")));
        }
        file.link_options().check(driver)?;
        let trunk = Trunk::new(file.parent.as_ref(), file.vlan_protocol, file.vlan, file.vlans.clone())?;
        file.vlan_protocol = file.vlan_protocol.filter(|protocol| *protocol != VlanProtocol::Dot1q);
        let on_dummy = file.parent.is_none();
        let parent = trunk.as_ref().map(Trunk::parent).or(file.parent.clone());
        let parent = parent.unwrap_or_else(|| parent::dummy_name(name));
        let next_hops = file.routes.iter().filter_map(|route| route.via);
        let mut subnets = Vec::with_capacity(file.subnets.len());
        for written in &mut file.subnets {
            let subnet = written.check().map_err(|error| error.within("subnets"))?;
            written.ip_range = subnet.range().map(|range| range.to_string());
            subnets.push(subnet.with_next_hops(next_hops.clone()));
        }
        refuse_overlaps(&subnets)?;
        refuse_empty(&subnets)?;
        let reservations = Reservations::new(&file.reservations, driver, &subnets)?;
        let network =
            Self { name: name.clone(), driver, parent, trunk, on_dummy, subnets, reservations, file };
        let Self { file, subnets, reservations, .. } = &network;
        network.check_routes(&file.routes)?;
        network.check_mtu()?;
        conflict_detection::check_announcements(file.announcements.unwrap_or_default())?;
        conflict_detection::check_probe_ahead(file.probe_ahead.unwrap_or_default())?;
        file.conflict_detection.map_or(Ok(()), |detection| detection.check(driver, on_dummy))?;
        file.ipv6.map_or(Ok(()), |ipv6| ipv6.check(driver, subnets))?;
        let access = file.host_access.as_ref();
        let dhcp = file.dhcp.as_ref();
        dhcp.map_or(Ok(()), |dhcp| dhcp.check(driver, on_dummy, subnets, access.is_some(), file.ipv6))?;
        access.map_or(Ok(()), |access| access.check(driver, subnets, reservations))?;
        Ok(network)
    }

    /// How a missing parent is made; `None` if underlay does not make it.
    ///
    /// # Errors
    /// When its name is almost that of a VLAN.
    pub(crate) fn recipe(&self) -> Result<Option<ParentSpec>> {
        match self.trunk.as_ref().and_then(Trunk::recipe) {
            None if self.on_dummy => Ok(Some(ParentSpec::Dummy)),
            None => ParentSpec::of_name(&self.parent),
            vlan => Ok(vlan),
        }
    }

    /// Whether a container must ask for a VLAN.
    pub(crate) fn is_of_many_vlans(&self) -> bool {
        self.trunk.as_ref().is_some_and(|trunk| trunk.vlan.is_none())
    }

    /// The network for a container that asks for the VLAN `asked`: its parent is the link of that VLAN.
    ///
    /// # Errors
    /// When it has no such VLAN, or only VLANs that must be asked for.
    pub(crate) fn on_vlan(self, asked: Option<VlanId>) -> Result<Self> {
        let name = &self.name;
        match (self.trunk, asked) {
            (None, None) => Ok(Self { trunk: None, ..self }),
            (None, Some(id)) => Err(Error::input(format!("network {name} has no VLAN {id}"))
                .hint("leave vlan out, or have vlans added to the network's definition")),
            (Some(trunk), asked) => {
                let trunk = trunk.on_vlan(asked, name)?;
                Ok(Self { parent: trunk.parent(), trunk: Some(trunk), ..self })
            }
        }
    }

    /// Whether it can have `link` as its parent.
    ///
    /// # Errors
    /// When `link` cannot be a parent, or has a smaller MTU than the network.
    pub(crate) fn check_parent(&self, link: &Link) -> Result<()> {
        link.check_parent()?;
        let Some(mtu) = self.file.mtu.filter(|&mtu| mtu > link.mtu) else { return Ok(()) };
        let (name, most) = (&link.name, link.mtu);
        let what = format!("mtu {mtu} of network {} is above the {most} of parent {name}", self.name);
        let raise = set_mtu(name, mtu);
        Err(Error::input(what).hint(format!("use at most {most}, or raise it with `{raise}`")))
    }

    /// Whether the definition names all addresses of the host's link, so that they are the same after a reboot.
    pub(crate) fn names_host_addresses(&self) -> bool {
        let mut families = self.subnets.iter().map(|subnet| subnet.net().addr().is_ipv4());
        let access = self.file.host_access.as_ref();
        access.is_some_and(|access| families.all(|is_v4| access.of_family(is_v4).is_some()))
    }

    /// How conflicts are detected on `parent`; `None` if the setting is off, or there are no hosts that could answer. Whether
    /// they can be asked now, [`Link::is_connected`] tells.
    pub(crate) fn detection_on(&self, parent: &Link) -> Option<Detection> {
        let is_lan = !self.on_dummy && parent.kind.as_deref() != Some("dummy");
        let wanted = self.file.conflict_detection.filter(|&detection| detection != Detection::Off);
        wanted.filter(|_| is_lan && !self.driver.is_routed())
    }

    /// How long an address counts as unclaimed after no host has answered for it, in seconds.
    pub(crate) fn probe_ahead(&self) -> u64 {
        self.file.probe_ahead.unwrap_or_default()
    }

    /// How often the addresses of containers are announced.
    pub(crate) fn announced(&self) -> u32 {
        self.file.announcements.filter(|_| !self.driver.is_routed()).unwrap_or_default()
    }

    /// Whether each of `routes`, the network's or a container's own, is sound and has its next hop in a subnet.
    ///
    /// # Errors
    /// Names the route that does not.
    pub(crate) fn check_routes(&self, routes: &[Route]) -> Result<()> {
        at_most("routes", routes.len(), MOST)?;
        let reaches = |via| self.subnet_of(via).is_some();
        let is_own = |route: &&Route| self.subnets.iter().any(|subnet| subnet.net() == route.to);
        if let Some(route) = routes.iter().find(is_own) {
            return Err(Error::input(format!(
                "routes: route to {} is to the network's own subnet",
                route.to
            ))
            .hint("leave it out: the addresses of the link bring that route"));
        }
        let checked = routes.iter().try_for_each(|route| route.check(reaches));
        checked.map_err(|error| error.within("routes"))
    }

    /// The kernel takes IPv6 from a link with a smaller MTU (RFC 8200, 5).
    fn check_mtu(&self) -> Result<()> {
        let file = &self.file;
        let has_v6 = self.subnets.iter().any(|subnet| subnet.net().addr().is_ipv6())
            || file.ipv6.is_some_and(|ipv6| ipv6 != Ipv6::Off)
            || file.dhcp.as_ref().is_some_and(|dhcp| dhcp.dhcp6 != Dhcp6::No);
        match file.mtu.filter(|&mtu| has_v6 && mtu < IPV6_MTU) {
            Some(mtu) => Err(Error::input(format!("mtu: {mtu} is below {IPV6_MTU}, which IPv6 needs"))
                .hint(format!("use at least {IPV6_MTU}, or leave IPv6 out"))),
            None => Ok(()),
        }
    }

    /// Whether a container with these annotations may use the network: it has each required one, and that matches.
    ///
    /// # Errors
    /// Does not say what is required, because the container would only have to claim it.
    pub(crate) fn admit(&self, annotations: &BTreeMap<String, String>) -> Result<()> {
        let fits = |(key, pattern): (_, &Pattern)| annotations.get(key).is_some_and(|v| pattern.matches(v));
        if self.file.required_annotations.iter().all(fits) {
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

/// The driver with its mode, which is written to `file` too.
///
/// # Errors
/// When there is an option of the other driver.
fn driver(file: &mut NetworkFile) -> Result<Driver> {
    let refuse = |key: &str, driver: Kind| {
        let text = format!("{key}: is not an option of driver {driver}");
        Err(Error::input(text).hint("remove it, or change the driver"))
    };
    match file.driver {
        Kind::Macvlan if file.ipvlan_mode.is_some() => refuse("ipvlan_mode", file.driver),
        Kind::Macvlan if file.ipvlan_flag.is_some() => refuse("ipvlan_flag", file.driver),
        Kind::Ipvlan if file.macvlan_mode.is_some() => refuse("macvlan_mode", file.driver),
        Kind::Ipvlan if file.bclim.is_some() => refuse("bclim", file.driver),
        // The kernel's own defaults are vepa and l3, which are rarely wanted.
        Kind::Macvlan => Ok(Driver::Macvlan { mode: *file.macvlan_mode.get_or_insert(MacvlanMode::Bridge) }),
        Kind::Ipvlan => Ok(Driver::Ipvlan {
            mode: *file.ipvlan_mode.get_or_insert(IpvlanMode::L2),
            flag: *file.ipvlan_flag.get_or_insert(IpvlanFlag::Bridge),
        }),
    }
}

/// Refuses subnets and ranges that have no address for a container.
fn refuse_empty(subnets: &[Subnet]) -> Result<()> {
    match subnets.iter().find(|subnet| subnet.candidates(None).next().is_none()) {
        Some(subnet) => {
            let pool = subnet.pool_name();
            Err(Error::input(format!("subnets: {pool} has no address for a container"))
                .hint("all of them are the gateway, next hops or aux addresses, or are no host addresses: give it more"))
        }
        None => Ok(()),
    }
}

fn refuse_overlaps(subnets: &[Subnet]) -> Result<()> {
    let subnets: Vec<_> = subnets.iter().map(Subnet::net).collect();
    for (at, one) in subnets.iter().enumerate() {
        for other in subnets.iter().skip(at + 1) {
            if one.contains(other) || other.contains(one) {
                return Err(Error::input(format!("subnets: {one} and {other} overlap"))
                    .hint("one network cannot hold the same address twice"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

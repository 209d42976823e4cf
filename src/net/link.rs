//! A network link as the kernel describes it, and whether it can be a parent.

use crate::error::{Error, Result};
use crate::escape::shell::Line;
use crate::net::driver::Driver;
use crate::net::link_options::LinkOptions;
use crate::net::mac::MacAddr;
use crate::net::mark;
use crate::net::vlan::VlanProtocol;

/// A link as RTM_GETLINK describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub ifindex: u32,
    /// Its name (`IFLA_IFNAME`). The kernel may have any, so it is not an `IfName`.
    pub name: String,
    /// Its driver (`IFLA_INFO_KIND`); none for hardware.
    pub kind: Option<String>,
    /// Its driver with its mode (`IFLA_INFO_DATA`), if it is macvlan or ipvlan.
    pub driver: Option<Driver>,
    /// Its limit for unqueued broadcasts (`IFLA_MACVLAN_BC_CUTOFF`). Kernels since 6.4 tell it, if it is not the default.
    pub bclim: Option<i32>,
    /// Its further options, without sysctls, as far as rtnetlink tells.
    pub tuning: LinkOptions,
    /// The kind of the link that it is a port of (`IFLA_INFO_SLAVE_KIND`): bridge, bond, team, …
    pub slave_kind: Option<String>,
    /// The link below it in the same namespace (`IFLA_LINK` without `IFLA_LINK_NETNSID`).
    pub lower: Option<u32>,
    /// The link below it in another namespace (`IFLA_LINK` with `IFLA_LINK_NETNSID`): the host's, for a container's.
    pub elsewhere: Option<LinkNetns>,
    pub mac: Option<MacAddr>,
    pub mtu: u32,
    /// Its VLAN id (`IFLA_VLAN_ID`), if it is a VLAN.
    pub vlan_id: Option<u16>,
    /// How the frames of that VLAN are tagged (`IFLA_VLAN_PROTOCOL`).
    pub vlan_protocol: Option<VlanProtocol>,
    /// Whether it is set up (`IFF_UP`).
    pub up: bool,
    /// Whether it is connected (`IFLA_CARRIER`).
    pub carrier: bool,
    /// How often it was connected (`IFLA_CARRIER_UP_COUNT`).
    pub carrier_ups: u32,
    /// The port by which it sends and receives (`IFLA_BOND_ACTIVE_SLAVE`), if it is a bond that has one.
    pub active_port: Option<u32>,
    /// Its alias (`IFLA_IFALIAS`), which holds our mark.
    pub alias: Option<String>,
    /// Its device group (`IFLA_GROUP`); 0 by default.
    pub group: u32,
    pub loopback: bool,
    /// Whether it carries Ethernet frames (`ARPHRD_ETHER`).
    pub ethernet: bool,
}

/// A link of another namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkNetns {
    /// Its number there.
    pub ifindex: u32,
    /// The number that the namespace of the request has for that one.
    pub nsid: i32,
}

impl Link {
    /// Returns true if frames can go out and come in by it.
    pub(crate) fn is_connected(&self) -> bool {
        self.up && self.carrier
    }

    /// The number of the link whose layer-2 segment this one is on. The kernel makes links on a macvlan or ipvlan link
    /// on the link below that one.
    pub(crate) fn segment(&self) -> u32 {
        match self.kind.as_deref() {
            Some("macvlan" | "macvtap" | "ipvlan" | "ipvtap") => self.lower.unwrap_or(self.ifindex),
            _ => self.ifindex,
        }
    }

    /// The kind of the link, for messages.
    pub(crate) fn describe(&self) -> String {
        match (&self.kind, self.vlan_id) {
            (_, Some(id)) => {
                let tagged = self.vlan_protocol.filter(|protocol| *protocol != VlanProtocol::Dot1q);
                let protocol = tagged.map(|protocol| format!("{protocol} ")).unwrap_or_default();
                format!("{protocol}VLAN {id} of link number {}", self.lower.unwrap_or_default())
            }
            (Some(kind), None) => format!("a {kind} link"),
            (None, None) => "a hardware link".to_owned(),
        }
    }

    /// Whether underlay has made it as a parent.
    pub(crate) fn is_made_parent(&self) -> bool {
        self.alias.as_deref() == Some(mark::PARENT)
    }

    /// Whether it can be a parent, as far as the link itself tells.
    ///
    /// # Errors
    /// The reasons for which the kernel would answer EINVAL or EBUSY.
    pub(crate) fn check_parent(&self) -> Result<()> {
        let name = &self.name;
        if self.loopback {
            return Err(Error::input(format!("parent {name} is a loopback link")).hint("use a link to a LAN"));
        }
        if !self.ethernet {
            return Err(Error::input(format!("parent {name} does not carry Ethernet frames"))
                .hint("use an Ethernet link, a bond, a bridge or a VLAN"));
        }
        if let Some(master @ ("bridge" | "bond" | "team" | "openvswitch")) = self.slave_kind.as_deref() {
            return Err(Error::input(format!("parent {name} is a port of a {master}"))
                .hint(format!("use the {master} itself as parent")));
        }
        Ok(())
    }
}

/// The command that gives the link `name` the MTU `mtu`.
pub(crate) fn set_mtu(name: &str, mtu: u32) -> Line {
    Line::of("ip link set").named("dev", name).text("mtu").word(mtu)
}

/// A link as hardware has it, for tests.
#[cfg(test)]
pub(crate) fn eth0() -> Link {
    Link {
        ifindex: 2,
        name: "eth0".to_owned(),
        mtu: 1500,
        up: true,
        carrier: true,
        ethernet: true,
        ..Link::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments() {
        assert_eq!(eth0().segment(), 2);
        assert_eq!(Link { kind: Some("vlan".to_owned()), lower: Some(1), ..eth0() }.segment(), 2);
        assert_eq!(Link { kind: Some("macvlan".to_owned()), lower: Some(1), ..eth0() }.segment(), 1);
        assert_eq!(Link { kind: Some("macvlan".to_owned()), ..eth0() }.segment(), 2);
    }

    #[test]
    fn parents() {
        let check = |link: Link| link.check_parent().map_err(|error| error.to_string());
        assert_eq!(check(eth0()), Ok(()));
        assert_eq!(check(Link { slave_kind: Some("vrf".to_owned()), ..eth0() }), Ok(()));
        for (link, message) in [
            (Link { loopback: true, ..eth0() }, "parent eth0 is a loopback link"),
            (Link { ethernet: false, ..eth0() }, "parent eth0 does not carry Ethernet frames"),
            (Link { slave_kind: Some("bridge".to_owned()), ..eth0() }, "parent eth0 is a port of a bridge"),
        ] {
            assert_eq!(check(link), Err(message.to_owned()));
        }
    }
}

//! Parents that underlay makes itself: VLAN sub-interfaces and dummy links.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::hash::fnv1a;
use crate::net::link::Link;
use crate::net::mark;
use crate::net::name::{IfName, NetworkName};
use crate::net::value::is_default;
use crate::net::vlan::VlanProtocol;

/// The MTU of a dummy link (`ETH_DATA_LEN`).
const ETHERNET_MTU: u32 = 1500;

/// The prefix of the id of an 802.1ad VLAN in a link's name.
const DOT1AD: &str = "ad";

/// How a missing parent is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum ParentSpec {
    /// A VLAN sub-interface.
    Vlan {
        /// The link that carries the tagged frames.
        base: IfName,
        /// The VLAN id, 1 to 4094 (IEEE 802.1Q, 9.6: 0 and 4095 are reserved).
        id: u16,
        #[serde(default, skip_serializing_if = "is_default")]
        protocol: VlanProtocol,
    },
    /// A dummy link, for containers of this host alone.
    Dummy,
}

impl ParentSpec {
    /// The VLAN that the name of a parent stands for: `eth0.50` is VLAN 50 of `eth0`, `eth0.10.20` VLAN 20 of `eth0.10`,
    /// `eth0.ad10` the 802.1ad VLAN 10 of `eth0`. `None` for other names.
    ///
    /// # Errors
    /// When the number behind the last dot is not a VLAN id.
    pub(crate) fn of_name(name: &IfName) -> Result<Option<Self>> {
        let Some((base, id)) = name.as_str().rsplit_once('.') else { return Ok(None) };
        let (id, protocol) = match id.strip_prefix(DOT1AD) {
            Some(id) => (id, VlanProtocol::Dot1ad),
            None => (id, VlanProtocol::Dot1q),
        };
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let Ok(base) = base.parse::<IfName>() else { return Ok(None) };
        match id.parse() {
            // One name for one VLAN: the kernel would refuse eth0.010 beside eth0.10.
            Ok(number) if (1..=4094).contains(&number) && !id.starts_with('0') => {
                Ok(Some(Self::Vlan { base, id: number, protocol }))
            }
            _ => Err(Error::input(format!("parent {name}: {id} is not a VLAN id"))
                .hint("use 1 to 4094, without leading zeros: eth0.50 is VLAN 50 of eth0")),
        }
    }

    /// How a link like `link` is made, if underlay makes such; `base` is the link below it.
    pub(crate) fn of_link(link: &Link, base: Option<&Link>) -> Option<Self> {
        match (link.kind.as_deref()?, link.vlan_id) {
            ("dummy", _) => Some(Self::Dummy),
            ("vlan", Some(id)) => {
                Some(Self::Vlan { base: base?.name.parse().ok()?, id, protocol: link.vlan_protocol? })
            }
            _ => None,
        }
    }

    /// The link below the parent.
    pub(crate) fn base(&self) -> Option<&IfName> {
        match self {
            Self::Vlan { base, .. } => Some(base),
            Self::Dummy => None,
        }
    }

    /// `IFLA_INFO_KIND`, and id and protocol of a VLAN.
    fn kind(&self) -> (&'static str, Option<u16>, Option<VlanProtocol>) {
        match self {
            Self::Vlan { id, protocol, .. } => ("vlan", Some(*id), Some(*protocol)),
            Self::Dummy => ("dummy", None, None),
        }
    }

    fn is_kind_of(&self, link: &Link) -> bool {
        let (kind, vlan_id, vlan_protocol) = self.kind();
        link.kind.as_deref() == Some(kind) && (link.vlan_id, link.vlan_protocol) == (vlan_id, vlan_protocol)
    }

    /// The link `name` as it is made on `base`; it has no number yet.
    pub(crate) fn link(&self, name: &IfName, base: Option<&Link>) -> Link {
        let (kind, vlan_id, vlan_protocol) = self.kind();
        Link {
            name: name.to_string(),
            kind: Some(kind.to_owned()),
            lower: base.map(|base| base.ifindex),
            mac: base.and_then(|base| base.mac),
            mtu: base.map_or(ETHERNET_MTU, |base| base.mtu),
            vlan_id,
            vlan_protocol,
            up: true,
            alias: Some(mark::PARENT.to_owned()),
            ethernet: true,
            ..Link::default()
        }
    }

    /// Whether the existing link `link` is this parent; `base` is the link below it.
    ///
    /// # Errors
    /// Says what it is instead.
    pub(crate) fn verify(&self, link: &Link, base: Option<&Link>) -> Result<()> {
        let is_in_place = match self {
            Self::Vlan { .. } => base.is_some_and(|base| link.lower == Some(base.ifindex)),
            Self::Dummy => link.is_made_parent(),
        };
        if is_in_place && self.is_kind_of(link) {
            return Ok(());
        }
        Err(Error::new(Kind::Taken, format!("parent {} is {}, not {self}", link.name, link.describe()))
            .hint("rename it, or name another parent"))
    }
}

impl fmt::Display for ParentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vlan { base, id, protocol: VlanProtocol::Dot1q } => write!(f, "VLAN {id} of {base}"),
            Self::Vlan { base, id, protocol } => write!(f, "{protocol} VLAN {id} of {base}"),
            Self::Dummy => f.write_str("underlay's dummy link"),
        }
    }
}

/// A parent that underlay has made: `parents/NAME.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeParent {
    /// The format; [`crate::ledger::record::VERSION`].
    pub version: u32,
    pub name: IfName,
    pub recipe: ParentSpec,
    /// Its temporary name, which it has until it is marked.
    pub born_as: IfName,
    /// Its number on the host, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
}

impl MadeParent {
    /// Whether `link` is this very link, by number, kind and mark.
    pub(crate) fn is(&self, link: &Link) -> bool {
        self.ifindex.is_none_or(|ifindex| ifindex == link.ifindex)
            && self.recipe.is_kind_of(link)
            && link.is_made_parent()
    }

    /// Whether `link` is this one as a killed process left it: with the temporary name, and without a mark. Only the
    /// ledger and its kind tell that it is ours, so all of that must agree.
    pub(crate) fn has_left(&self, link: &Link) -> bool {
        let is_born = self.born_as != self.name && link.name == self.born_as.as_str();
        is_born && link.alias.is_none() && self.recipe.is_kind_of(link)
    }
}

/// The name of a VLAN: `eth0.50`, with 802.1ad `eth0.ad50`, as [`ParentSpec::of_name`] reads it. First in full, then as the
/// link has it: if that is longer than the kernel's 15 characters, a hash replaces all except the id. It does not begin
/// with `ul-`, so that `allowed_parents` can permit dummy links alone.
pub(crate) fn vlan_name(base: &IfName, protocol: VlanProtocol, id: u16) -> (String, IfName) {
    let prefix = if protocol == VlanProtocol::Dot1ad { DOT1AD } else { "" };
    let full = format!("{base}.{prefix}{id}");
    let hashed = || format!("vl-{:07x}-{id}", fnv1a(&full) >> 36);
    // An id has four digits at most, so the hashed name is short enough.
    let name = full.parse().or_else(|_| hashed().parse()).unwrap_or_else(|_| base.clone());
    (full, name)
}

/// The name of the dummy link of a network without a parent: `ul-NETWORK`, or a hash where that is too long.
pub(crate) fn dummy_name(network: &NetworkName) -> IfName {
    let name = network.as_str();
    let short =
        if name.len() <= 12 { format!("ul-{name}") } else { format!("ul-{:012x}", fnv1a(name) >> 16) };
    // Each character of a network name is allowed in an interface name, and 15 are not too many.
    short.parse().unwrap_or_else(|_| IfName::eth(0))
}

#[cfg(test)]
mod tests;

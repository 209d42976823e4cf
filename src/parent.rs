//! Parents that underlay makes itself: VLAN sub-interfaces and dummy links.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::hash::fnv1a;
use crate::link::Link;
use crate::name::{IfName, NetworkName};
use crate::tuning::Tuning;
use crate::vlan::VlanProtocol;

/// The alias that marks a parent as made by underlay (`IFLA_IFALIAS`).
pub const MARK: &str = "underlay:parent";

/// What a dummy link has (`ETH_DATA_LEN`).
const ETHERNET_MTU: u32 = 1500;

/// What stands before the id of an 802.1ad VLAN in a link's name.
const DOT1AD: &str = "ad";

/// How a parent that is not there is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Recipe {
    /// A VLAN sub-interface.
    Vlan {
        /// The link that carries the tagged frames.
        base: IfName,
        /// The VLAN id, 1 to 4094 (IEEE 802.1Q, 9.6: 0 and 4095 are reserved).
        id: u16,
        /// How its frames are tagged.
        #[serde(default, skip_serializing_if = "VlanProtocol::is_default")]
        protocol: VlanProtocol,
    },
    /// A link to nowhere, for containers of this host alone.
    Dummy,
}

impl Recipe {
    /// What the name of a parent says: `eth0.50` is VLAN 50 of `eth0`, `eth0.10.20` VLAN 20 of `eth0.10`,
    /// `eth0.ad10` the 802.1ad VLAN 10 of `eth0`; other names say nothing.
    ///
    /// # Errors
    /// When the number behind the last dot is no VLAN id.
    pub fn of_name(name: &IfName) -> Result<Option<Self>> {
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
            _ => Err(Error::input(format!("parent {name}: {id} is no VLAN id"))
                .hint("use 1 to 4094, without leading zeros: eth0.50 is VLAN 50 of eth0")),
        }
    }

    /// What makes a link like `link`, if underlay makes such; `base` is the link below it.
    pub fn of_link(link: &Link, base: Option<&Link>) -> Option<Self> {
        match (link.kind.as_deref()?, link.vlan_id) {
            ("dummy", _) => Some(Self::Dummy),
            ("vlan", Some(id)) => {
                Some(Self::Vlan { base: base?.name.parse().ok()?, id, protocol: link.vlan_protocol? })
            }
            _ => None,
        }
    }

    /// The link below the one this makes.
    pub fn base(&self) -> Option<&IfName> {
        match self {
            Self::Vlan { base, .. } => Some(base),
            Self::Dummy => None,
        }
    }

    /// The link `name` as this makes it on `base`; it has no number yet.
    pub fn link(&self, name: &IfName, base: Option<&Link>) -> Link {
        let (kind, vlan_id, vlan_protocol) = match self {
            Self::Vlan { id, protocol, .. } => ("vlan", Some(*id), Some(*protocol)),
            Self::Dummy => ("dummy", None, None),
        };
        Link {
            ifindex: 0,
            name: name.to_string(),
            kind: Some(kind.to_owned()),
            driver: None,
            bclim: None,
            tuning: Tuning::default(),
            slave_kind: None,
            lower: base.map(|base| base.ifindex),
            elsewhere: None,
            mac: base.and_then(|base| base.mac),
            mtu: base.map_or(ETHERNET_MTU, |base| base.mtu),
            vlan_id,
            vlan_protocol,
            up: true,
            alias: Some(MARK.to_owned()),
            group: 0,
            loopback: false,
            ethernet: true,
        }
    }

    /// Whether `link`, which is there, is what this makes; `base` is the link below it.
    ///
    /// # Errors
    /// Says what it is instead.
    pub fn verify(&self, link: &Link, base: Option<&Link>) -> Result<()> {
        let is = match self {
            Self::Vlan { id, protocol, .. } => {
                (link.vlan_id, link.vlan_protocol) == (Some(*id), Some(*protocol))
                    && base.is_some_and(|base| link.lower == Some(base.ifindex))
            }
            Self::Dummy => link.kind.as_deref() == Some("dummy") && link.is_made_parent(),
        };
        if is {
            return Ok(());
        }
        Err(Error::new(Kind::Taken, format!("parent {} is {}, not {self}", link.name, link.describe()))
            .hint("rename it, or name another parent"))
    }
}

impl fmt::Display for Recipe {
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
pub struct MadeParent {
    /// The format; [`crate::record::VERSION`].
    pub version: u32,
    /// Its name.
    pub name: IfName,
    /// What it is.
    pub recipe: Recipe,
    /// The name it bears until it is marked, should it never come to that.
    pub born_as: IfName,
    /// Its number on the host, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
}

impl MadeParent {
    /// Whether `link` is this very link: number, kind and mark all say so.
    pub fn is(&self, link: &Link) -> bool {
        self.ifindex.is_none_or(|ifindex| ifindex == link.ifindex)
            && self.is_of_kind(link)
            && link.is_made_parent()
    }

    /// Whether `link` is what a killed process has left of it, half made: under the name it is born with, without a mark
    /// yet. As nothing but the ledger and its kind tell whose it is, all of that must agree.
    pub fn has_left(&self, link: &Link) -> bool {
        let is_same_vlan = match self.recipe {
            Recipe::Vlan { id, protocol, .. } => {
                (link.vlan_id, link.vlan_protocol) == (Some(id), Some(protocol))
            }
            Recipe::Dummy => true,
        };
        let is_born = self.born_as != self.name && link.name == self.born_as.as_str();
        is_born && link.alias.is_none() && self.is_of_kind(link) && is_same_vlan
    }

    fn is_of_kind(&self, link: &Link) -> bool {
        let kind = match self.recipe {
            Recipe::Vlan { .. } => "vlan",
            Recipe::Dummy => "dummy",
        };
        link.kind.as_deref() == Some(kind)
    }
}

/// The name of a VLAN: `eth0.50`, with 802.1ad `eth0.ad50`, as [`Recipe::of_name`] reads it. First in full; then, where
/// that is longer than the kernel's 15 characters, with a hash in place of all but the id. Not `ul-`: whoever may name
/// dummies may not name these.
pub fn vlan_name(base: &IfName, protocol: VlanProtocol, id: u16) -> (String, IfName) {
    let prefix = if protocol == VlanProtocol::Dot1ad { DOT1AD } else { "" };
    let full = format!("{base}.{prefix}{id}");
    let hashed = || format!("vl-{:07x}-{id}", fnv1a(&full) >> 36);
    // An id has four digits at most, so what is made of the hash is short enough.
    let name = full.parse().or_else(|_| hashed().parse()).unwrap_or_else(|_| base.clone());
    (full, name)
}

/// The name of the dummy link of a network without a parent: `ul-NETWORK`, or a hash where that is too long.
pub fn dummy_name(network: &NetworkName) -> IfName {
    let name = network.as_str();
    let short =
        if name.len() <= 12 { format!("ul-{name}") } else { format!("ul-{:012x}", fnv1a(name) >> 16) };
    // Network names have no character that interface names lack, and 15 are not too many.
    short.parse().unwrap_or_else(|_| IfName::eth(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(name: &str) -> Result<Option<Recipe>> {
        Recipe::of_name(&name.parse().unwrap())
    }

    #[test]
    fn names_say_what_is_made() {
        let tagged =
            |base: &str, id, protocol| Some(Recipe::Vlan { base: base.parse().unwrap(), id, protocol });
        let vlan = |base: &str, id| tagged(base, id, VlanProtocol::Dot1q);
        assert_eq!(recipe("eth0.50").unwrap(), vlan("eth0", 50));
        assert_eq!(recipe("eth0.10.20").unwrap(), vlan("eth0.10", 20));
        assert_eq!(recipe("e.4094").unwrap(), vlan("e", 4094));
        assert_eq!(recipe("eth0.ad10").unwrap(), tagged("eth0", 10, VlanProtocol::Dot1ad));
        assert_eq!(recipe("eth0.ad10.20").unwrap(), vlan("eth0.ad10", 20));
        for name in ["eth0.ad", "eth0", "lan.a", "eth0.", ".5", "eth0.5a", "br-lan"] {
            assert_eq!(recipe(name).unwrap(), None, "{name}");
        }
        for name in ["eth0.ad0", "eth0.0", "eth0.4095", "eth0.010", "eth0.99999999", "eth0.00"] {
            assert!(recipe(name).is_err(), "{name}");
        }
    }

    fn base() -> Link {
        Link { ifindex: 3, name: "eth0".to_owned(), ..crate::link::eth0() }
    }

    /// VLAN 50 of the link number 3, as somebody has made it by hand.
    fn vlan(protocol: VlanProtocol) -> Link {
        let recipe = Recipe::Vlan { base: "eth0".parse().unwrap(), id: 50, protocol };
        Link { ifindex: 7, alias: None, ..recipe.link(&"eth0.50".parse().unwrap(), Some(&base())) }
    }

    #[test]
    fn a_vlan_that_is_there() {
        let (q, ad) = (VlanProtocol::Dot1q, VlanProtocol::Dot1ad);
        let other = Link { ifindex: 4, ..base() };
        let verify = |name: &str, link: &Link, base: Option<&Link>| {
            let verified = recipe(name).unwrap().unwrap().verify(link, base);
            verified.map_err(|error| (error.kind(), error.to_string()))
        };
        let refused =
            |link: &str, recipe: &str| Err((Kind::Taken, format!("parent eth0.50 is {link}, not {recipe}")));
        let here = base();
        for (name, link, base, expected) in [
            ("eth0.50", vlan(q), Some(&here), Ok(())),
            ("eth0.ad50", vlan(ad), Some(&here), Ok(())),
            (
                "eth0.50",
                vlan(ad),
                Some(&here),
                refused("802.1ad VLAN 50 of link number 3", "VLAN 50 of eth0"),
            ),
            (
                "eth0.ad50",
                vlan(q),
                Some(&here),
                refused("VLAN 50 of link number 3", "802.1ad VLAN 50 of eth0"),
            ),
            ("eth0.51", vlan(q), Some(&here), refused("VLAN 50 of link number 3", "VLAN 51 of eth0")),
            ("eth0.50", vlan(q), Some(&other), refused("VLAN 50 of link number 3", "VLAN 50 of eth0")),
            ("eth0.50", vlan(q), None, refused("VLAN 50 of link number 3", "VLAN 50 of eth0")),
            // Its base is in another namespace, where that number is another link's.
            (
                "eth0.50",
                Link {
                    lower: None,
                    elsewhere: Some(crate::link::Elsewhere { ifindex: 3, nsid: 0 }),
                    ..vlan(q)
                },
                Some(&here),
                refused("VLAN 50 of link number 0", "VLAN 50 of eth0"),
            ),
            // The mark alone says nothing of what it is.
            (
                "eth0.50",
                Link {
                    kind: Some("veth".to_owned()),
                    vlan_id: None,
                    vlan_protocol: None,
                    alias: Some(MARK.to_owned()),
                    ..vlan(q)
                },
                Some(&here),
                refused("a veth link", "VLAN 50 of eth0"),
            ),
        ] {
            assert_eq!(verify(name, &link, base), expected, "{name} {link:?}");
        }
    }

    /// A dummy link of that name is used only if we have made it: it goes when nobody needs it.
    #[test]
    fn a_dummy_that_is_there() {
        let ours = Recipe::Dummy.link(&"ul-lan".parse().unwrap(), None);
        assert_eq!(Recipe::Dummy.verify(&ours, None), Ok(()));
        for (link, found) in [
            (Link { alias: None, ..ours.clone() }, "a dummy link"),
            (Link { alias: Some("mine".to_owned()), ..ours.clone() }, "a dummy link"),
            (Link { kind: Some("veth".to_owned()), ..ours.clone() }, "a veth link"),
            (Link { kind: None, ..ours.clone() }, "a hardware link"),
        ] {
            let error = Recipe::Dummy.verify(&link, None).unwrap_err();
            assert_eq!(error.to_string(), format!("parent ul-lan is {found}, not underlay's dummy link"));
        }
    }

    #[test]
    fn what_makes_a_link_like_it() {
        let of =
            |link: &Link, base: Option<&Link>| Recipe::of_link(link, base).map(|recipe| recipe.to_string());
        let here = base();
        assert_eq!(of(&vlan(VlanProtocol::Dot1q), Some(&here)).as_deref(), Some("VLAN 50 of eth0"));
        assert_eq!(of(&vlan(VlanProtocol::Dot1ad), Some(&here)).as_deref(), Some("802.1ad VLAN 50 of eth0"));
        assert_eq!(of(&vlan(VlanProtocol::Dot1q), None), None);
        let dummy = Recipe::Dummy.link(&"ul-lan".parse().unwrap(), None);
        assert_eq!(of(&dummy, None).as_deref(), Some("underlay's dummy link"));
        for link in [here.clone(), Link { kind: Some("veth".to_owned()), ..here.clone() }] {
            assert_eq!(of(&link, Some(&here)), None);
        }
    }

    /// Number, kind and mark: whoever makes a link of that name again may copy the mark, not the number.
    #[test]
    fn the_very_link_that_was_made() {
        let made = |name: &str, recipe: Recipe, ifindex| MadeParent {
            version: 1,
            name: name.parse().unwrap(),
            recipe,
            born_as: IfName::temporary(1),
            ifindex,
        };
        let tagged = recipe("eth0.50").unwrap().unwrap();
        let ours = Link { alias: Some(MARK.to_owned()), ..vlan(VlanProtocol::Dot1q) };
        let known = made("eth0.50", tagged.clone(), Some(7));
        assert!(known.is(&ours));
        assert!(made("eth0.50", tagged, None).is(&ours), "a killed process had no time to note the number");
        for other in [
            Link { ifindex: 8, ..ours.clone() },
            Link { alias: None, ..ours.clone() },
            Link { alias: Some("underlay:host:lan".to_owned()), ..ours.clone() },
            Link { kind: Some("dummy".to_owned()), ..ours.clone() },
            Link { kind: None, ..ours.clone() },
        ] {
            assert!(!known.is(&other), "{other:?}");
        }
        let dummy = Link { ifindex: 7, ..Recipe::Dummy.link(&"ul-lan".parse().unwrap(), None) };
        assert!(made("ul-lan", Recipe::Dummy, Some(7)).is(&dummy));
        assert!(!made("ul-lan", Recipe::Dummy, Some(7)).is(&ours) && !known.is(&dummy));
    }

    #[test]
    fn as_it_would_be_made() {
        let name = "eth0.50".parse().unwrap();
        let base = Link { mtu: 9000, mac: Some("02:00:00:00:00:01".parse().unwrap()), ..base() };
        let link = recipe("eth0.50").unwrap().unwrap().link(&name, Some(&base));
        assert_eq!((link.mtu, link.mac, link.lower, link.vlan_id), (9000, base.mac, Some(3), Some(50)));
        assert!(link.up && link.ethernet && link.is_made_parent());
        assert_eq!(Recipe::Dummy.link(&name, None).mtu, 1500);
    }

    #[test]
    fn names_of_vlans() {
        let name = |base: &str, protocol, id| vlan_name(&base.parse().unwrap(), protocol, id);
        for (base, protocol, id, expected) in [
            ("eth0", VlanProtocol::Dot1q, 50, "eth0.50"),
            ("eth0", VlanProtocol::Dot1ad, 50, "eth0.ad50"),
            ("enp195s0f0", VlanProtocol::Dot1q, 4094, "enp195s0f0.4094"),
        ] {
            let (full, name) = name(base, protocol, id);
            assert_eq!((full.as_str(), name.as_str()), (expected, expected));
            assert_eq!(
                recipe(expected).unwrap(),
                Some(Recipe::Vlan { base: base.parse().unwrap(), id, protocol })
            );
        }
        let names = [
            name("enp195s0f1np1", VlanProtocol::Dot1q, 1234),
            name("enp195s0f1np1", VlanProtocol::Dot1ad, 1234),
            name("enp195s0f1np2", VlanProtocol::Dot1q, 1234),
        ];
        let short: std::collections::BTreeSet<_> = names.iter().map(|(_, short)| short.as_str()).collect();
        assert_eq!(short.len(), 3, "one name for each VLAN");
        assert!(short.iter().all(|name| name.len() <= 15 && name.ends_with("-1234")), "{short:?}");
        assert_eq!(names[1].0, "enp195s0f1np1.ad1234");
    }

    #[test]
    fn dummies_have_names_of_their_own() {
        let name = |network: &str| dummy_name(&network.parse().unwrap()).to_string();
        assert_eq!(name("pub_net"), "ul-pub_net");
        assert_eq!(name("abcdefghijkl"), "ul-abcdefghijkl");
        assert_eq!(name("abcdefghijklm").len(), 15);
        assert_ne!(name("abcdefghijklm"), name("abcdefghijkln"));
    }

    #[test]
    fn what_a_killed_process_has_left() {
        let parent = |recipe: Recipe| MadeParent {
            version: 1,
            name: "eth0.50".parse().unwrap(),
            recipe,
            born_as: IfName::temporary(208),
            ifindex: None,
        };
        let vlan = parent(recipe("eth0.50").unwrap().unwrap());
        let left = Link { alias: None, ..vlan.recipe.link(&vlan.born_as, None) };
        assert!(vlan.has_left(&left));
        for other in [
            Link { name: "eth0.50".to_owned(), ..left.clone() },
            Link { name: "ul~209".to_owned(), ..left.clone() },
            Link { alias: Some(MARK.to_owned()), ..left.clone() },
            Link { alias: Some("mine".to_owned()), ..left.clone() },
            Link { vlan_id: Some(51), ..left.clone() },
            Link { vlan_protocol: Some(VlanProtocol::Dot1ad), ..left.clone() },
            Link { kind: Some("dummy".to_owned()), ..left.clone() },
            Link { kind: None, ..left.clone() },
        ] {
            assert!(!vlan.has_left(&other), "{other:?}");
        }
        let dummy = parent(Recipe::Dummy);
        assert!(dummy.has_left(&Link { alias: None, ..Recipe::Dummy.link(&dummy.born_as, None) }));
        assert!(!dummy.has_left(&left));
        let named = MadeParent { born_as: vlan.name.clone(), ..vlan };
        assert!(
            !named.has_left(&Link { name: named.name.to_string(), ..left }),
            "that would be the parent itself"
        );
    }
}

//! Trunks: one definition for a VLAN of a parent, or for many of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::config::network::Network;
use crate::config::network_file::NetworkFile;
use crate::error::{Error, Result};
use crate::net::name::IfName;
use crate::net::parent::{Recipe, vlan_name};

/// The id of a VLAN, 1 to 4094 (IEEE 802.1Q, 9.6: 0 and 4095 are reserved).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct VlanId(u16);

impl TryFrom<u16> for VlanId {
    type Error = Error;

    fn try_from(id: u16) -> Result<Self> {
        if (1..=4094).contains(&id) { Ok(Self(id)) } else { Err(no_id(id)) }
    }
}

impl From<VlanId> for u16 {
    fn from(VlanId(id): VlanId) -> Self {
        id
    }
}

impl FromStr for VlanId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let id: Option<u16> = text.parse().ok();
        id.and_then(|id| Self::try_from(id).ok()).ok_or_else(|| no_id(format!("{text:?}")))
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

fn no_id(text: impl fmt::Display) -> Error {
    Error::input(format!("{text} is no VLAN id")).hint("use 1 to 4094")
}

/// Ids and ranges of ids, written `100-199,210`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VlanRanges(Vec<(VlanId, VlanId)>);

impl VlanRanges {
    /// Whether `id` is among them.
    pub fn contains(&self, id: VlanId) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }

    /// The first one listed.
    fn first(&self) -> Option<VlanId> {
        self.0.first().map(|(first, _)| *first)
    }
}

impl FromStr for VlanRanges {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let range = |item: &str| {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last): (VlanId, VlanId) = (first.trim().parse()?, last.trim().parse()?);
            if first > last {
                return Err(Error::input(format!("VLANs {first}-{last} do not run upwards")));
            }
            Ok((first, last))
        };
        text.split(',').map(range).collect::<Result<_>>().map(Self)
    }
}

impl TryFrom<String> for VlanRanges {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<VlanRanges> for String {
    fn from(ranges: VlanRanges) -> Self {
        ranges.to_string()
    }
}

impl fmt::Display for VlanRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { "," } else { "" })?;
            write!(f, "{first}")?;
            if first != last {
                write!(f, "-{last}")?;
            }
        }
        Ok(())
    }
}

/// By which EtherType a tagged frame is known (`IFLA_VLAN_PROTOCOL`), in the words of `ip link`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum VlanProtocol {
    /// 0x8100: a VLAN of one's own network.
    #[default]
    #[serde(rename = "802.1Q", alias = "802.1q")]
    Dot1q,
    /// 0x88a8: the outer tag of a provider's network (QinQ, IEEE 802.1ad).
    #[serde(rename = "802.1ad")]
    Dot1ad,
}

impl VlanProtocol {
    /// Whether it is the one that goes without saying.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl FromStr for VlanProtocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "802.1Q" | "802.1q" => Ok(Self::Dot1q),
            "802.1ad" => Ok(Self::Dot1ad),
            _ => {
                Err(Error::input(format!("unknown VLAN protocol {text:?}"))
                    .hint("use one of: 802.1Q 802.1ad"))
            }
        }
    }
}

impl fmt::Display for VlanProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dot1q => "802.1Q",
            Self::Dot1ad => "802.1ad",
        })
    }
}

/// The VLANs of a parent that a network lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trunk {
    /// The link that carries the tagged frames.
    pub base: IfName,
    /// How they are tagged.
    pub protocol: VlanProtocol,
    /// The VLAN of a container that asks for none.
    pub vlan: Option<VlanId>,
    /// Those that a container may ask for.
    pub vlans: Option<VlanRanges>,
}

impl Trunk {
    /// What `file` says of VLANs, if anything.
    ///
    /// # Errors
    /// When there is nothing to carry them, or no VLAN.
    pub(crate) fn of(file: &NetworkFile) -> Result<Option<Self>> {
        let (vlan, vlans) = (file.vlan, file.vlans.clone());
        let key = match (vlan, &vlans, file.vlan_protocol) {
            (Some(_), ..) => "vlan",
            (None, Some(_), _) => "vlans",
            (None, None, Some(_)) => {
                return Err(Error::input("vlan_protocol: the network has no VLAN")
                    .hint("give it a vlan or vlans, or remove vlan_protocol"));
            }
            (None, None, None) => return Ok(None),
        };
        let Some(base) = file.parent.clone() else {
            return Err(Error::input(format!("{key}: the network has no parent that could carry VLANs"))
                .hint("name the link that carries the tagged frames as parent"));
        };
        Ok(Some(Self { base, protocol: file.vlan_protocol.unwrap_or_default(), vlan, vlans }))
    }

    /// How the link of [`Trunk::vlan`] is made.
    pub(crate) fn recipe(&self) -> Option<Recipe> {
        let (base, protocol) = (self.base.clone(), self.protocol);
        self.vlan.map(|id| Recipe::Vlan { base, id: id.into(), protocol })
    }

    /// The parent of the network: the link of its VLAN; as long as none is chosen, the one that carries them.
    pub(crate) fn parent(&self) -> IfName {
        self.vlan.map_or_else(|| self.base.clone(), |id| vlan_name(&self.base, self.protocol, id.into()).1)
    }

    /// That link's name before it is made short enough; `None` as long as no VLAN is chosen.
    pub(crate) fn long_name(&self) -> Option<String> {
        self.vlan.map(|id| vlan_name(&self.base, self.protocol, id.into()).0)
    }

    /// What there is to choose from, for people.
    fn offer(&self) -> String {
        let vlan = self.vlan.map(|id| format!("VLAN {id}"));
        let vlans = self.vlans.as_ref().map(|vlans| format!("VLANs {vlans}"));
        vlan.into_iter().chain(vlans).collect::<Vec<_>>().join(" and ")
    }
}

impl Network {
    /// Whether it has VLANs only for containers that ask for one.
    pub(crate) fn is_of_many_vlans(&self) -> bool {
        self.trunk.as_ref().is_some_and(|trunk| trunk.vlan.is_none())
    }

    /// The network as it is for a container that asks for the VLAN `asked`: its parent is the link of that VLAN.
    ///
    /// # Errors
    /// When it has no such VLAN, or only those that must be asked for.
    pub(crate) fn on_vlan(mut self, asked: Option<VlanId>) -> Result<Self> {
        let name = &self.name;
        let Some(trunk) = &mut self.trunk else {
            return match asked {
                None => Ok(self),
                Some(id) => Err(Error::input(format!("network {name} has no VLANs, so not {id} either"))
                    .hint("leave vlan out, or have vlans added to the network's definition")),
            };
        };
        let Some(id) = asked.or(trunk.vlan) else {
            let first = trunk.vlans.as_ref().and_then(VlanRanges::first);
            let hint = first.map(|first| format!("ask for one, like {name}:vlan={first}"));
            let error = Error::input(format!("network {name} has {}, and none is asked for", trunk.offer()));
            return Err(error.hint(hint.unwrap_or_default()));
        };
        if trunk.vlan != Some(id) && !trunk.vlans.as_ref().is_some_and(|vlans| vlans.contains(id)) {
            return Err(Error::input(format!("VLAN {id} is none of network {name}"))
                .hint(format!("it has {}", trunk.offer())));
        }
        trunk.vlan = Some(id);
        self.parent = trunk.parent();
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(keys: &str) -> Result<Network> {
        let text = format!(r#"{{"version": 1, "driver": "macvlan", {keys}}}"#);
        Network::from_json(&"lan".parse().unwrap(), text.as_bytes())
    }

    fn chosen(keys: &str, asked: Option<u16>) -> Result<String> {
        let network = read(keys)?.on_vlan(asked.map(|id| VlanId::try_from(id).unwrap()))?;
        Ok(network.parent.to_string())
    }

    #[test]
    fn which_link_it_is() {
        for (keys, asked, parent) in [
            (r#""parent": "eth0""#, None, "eth0"),
            (r#""parent": "eth0", "vlan": 50"#, None, "eth0.50"),
            (r#""parent": "eth0", "vlan": 50"#, Some(50), "eth0.50"),
            (r#""parent": "eth0", "vlan": 50, "vlans": "100-199,210""#, None, "eth0.50"),
            (r#""parent": "eth0", "vlan": 50, "vlans": "100-199,210""#, Some(150), "eth0.150"),
            (r#""parent": "eth0", "vlans": "100-199, 210""#, Some(210), "eth0.210"),
            (r#""parent": "eth0.10", "vlan": 20"#, None, "eth0.10.20"),
            (r#""parent": "eth0", "vlan": 10, "vlan_protocol": "802.1ad""#, None, "eth0.ad10"),
            (r#""parent": "eth0.ad10", "vlans": "1-4094""#, Some(4094), "eth0.ad10.4094"),
        ] {
            assert_eq!(chosen(keys, asked).unwrap(), parent, "{keys}");
        }
        let long = chosen(r#""parent": "enp195s0f1np1", "vlan": 1234"#, None).unwrap();
        assert!(long.len() == 15 && long.starts_with("vl-") && long.ends_with("-1234"), "{long}");
        assert_ne!(long, chosen(r#""parent": "enp195s0f1np2", "vlan": 1234"#, None).unwrap());
    }

    #[test]
    fn definitions_round_trip() {
        let network = read(r#""parent": "eth0", "vlan": 5, "vlans": "7,9-11", "vlan_protocol": "802.1ad""#);
        let network = network.unwrap();
        let text = serde_json::to_string(&network.to_file()).unwrap();
        assert!(text.contains(r#""parent":"eth0","vlan":5,"vlans":"7,9-11","vlan_protocol":"802.1ad""#));
        assert_eq!(Network::from_json(&network.name, text.as_bytes()).unwrap(), network);
        let recipe = network.recipe().unwrap().unwrap();
        assert_eq!(recipe.to_string(), "802.1ad VLAN 5 of eth0");
        // Of many VLANs only the link that carries them is known.
        assert_eq!(read(r#""parent": "eth0", "vlans": "7""#).unwrap().recipe(), Ok(None));
    }

    #[test]
    fn mistakes() {
        for (keys, asked, message) in [
            (r#""parent": "eth0""#, Some(5), "network lan has no VLANs, so not 5 either"),
            (r#""parent": "eth0", "vlan": 5"#, Some(6), "VLAN 6 is none of network lan"),
            (r#""parent": "eth0", "vlans": "7-9""#, Some(6), "VLAN 6 is none of network lan"),
            (r#""parent": "eth0", "vlans": "7-9""#, None, "network lan has VLANs 7-9, and none is asked for"),
            (r#""vlan": 5"#, None, "vlan: the network has no parent that could carry VLANs"),
            (
                r#""parent": "eth0", "vlan_protocol": "802.1Q""#,
                None,
                "vlan_protocol: the network has no VLAN",
            ),
        ] {
            assert_eq!(chosen(keys, asked).unwrap_err().to_string(), message, "{keys}");
        }
        let hint = chosen(r#""parent": "eth0", "vlans": "7-9""#, None).unwrap_err();
        assert_eq!(hint.hint_text(), Some("ask for one, like lan:vlan=7"));
        for (keys, message) in [
            (r#""parent": "eth0", "vlan": 0"#, "vlan: 0 is no VLAN id"),
            (r#""parent": "eth0", "vlan": 4095"#, "vlan: 4095 is no VLAN id"),
            (r#""parent": "eth0", "vlans": """#, "vlans: \"\" is no VLAN id"),
            (r#""parent": "eth0", "vlans": "9-7""#, "vlans: VLANs 9-7 do not run upwards"),
            (r#""parent": "eth0", "vlans": "7-""#, "vlans: \"\" is no VLAN id"),
            (r#""parent": "eth0", "vlan": 5, "vlan_protocol": "x""#, "vlan_protocol: unknown variant `x`"),
        ] {
            let error = read(keys).unwrap_err().to_string();
            assert!(error.starts_with(message), "{keys}: {error}");
        }
    }
}

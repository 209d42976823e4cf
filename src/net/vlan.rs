//! VLANs: their ids, ranges of them, and how their frames are tagged.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

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
    pub(crate) fn first(&self) -> Option<VlanId> {
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

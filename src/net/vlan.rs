//! VLANs: ids, ranges of ids, and the protocol of tags.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::net::value::{as_text, number, words};

number! {
    /// The id of a VLAN, 1 to 4094 (IEEE 802.1Q, 9.6: 0 and 4095 are reserved).
    #[derive(Serialize, Deserialize)]
    #[serde(try_from = "u16", into = "u16")]
    VlanId(u16), |id| (1..=4094).contains(&id), "VLAN id", "use 1 to 4094"
}

/// Ids and ranges of ids, written as `100-199,210`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VlanRanges(Vec<(VlanId, VlanId)>);

impl VlanRanges {
    pub(crate) fn contains(&self, id: VlanId) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&id))
    }

    /// The first id that is listed.
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
                return Err(Error::input(format!("VLANs {first}-{last} are not in ascending order")));
            }
            Ok((first, last))
        };
        text.split(',').map(range).collect::<Result<_>>().map(Self)
    }
}

as_text!(VlanRanges);

impl fmt::Display for VlanRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(first, last): &(VlanId, VlanId)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        f.write_str(&self.0.iter().map(range).collect::<Vec<_>>().join(","))
    }
}

words! {
    /// The EtherType of tagged frames (`IFLA_VLAN_PROTOCOL`), in the words of `ip link`.
    #[derive(Default)]
    VlanProtocol, "VLAN protocol", {
        /// A VLAN of a local network.
        #[default]
        Dot1q(0x8100) = "802.1Q" | "802.1q",
        /// The outer tag of a provider's network (QinQ, IEEE 802.1ad).
        Dot1ad(0x88a8) = "802.1ad",
    }
}

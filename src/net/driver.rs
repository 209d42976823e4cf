//! The two kernel drivers and their modes, in the words of Docker's options and of `ip link`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::net::value::words;

words! {
    /// The kernel driver of the links of a network (`IFLA_INFO_KIND`).
    #[derive(Default)]
    Kind, "driver", {
        /// Every link has its own MAC address.
        #[default]
        Macvlan = "macvlan",
        /// All links share the parent's MAC address.
        Ipvlan = "ipvlan",
    }
}

words! {
    /// How macvlan links of one parent reach each other (`IFLA_MACVLAN_MODE`, `MACVLAN_MODE_*`).
    MacvlanMode, "macvlan mode", {
        /// Directly, within the host.
        Bridge(4) = "bridge",
        /// Not at all.
        Private(1) = "private",
        /// Through a switch that reflects frames (802.1Qbg).
        Vepa(2) = "vepa",
        /// The parent has only this link, which has the parent's MAC address.
        Passthru(8) = "passthru",
        /// Only frames from a list of source MAC addresses come in.
        Source(16) = "source",
    }
}

words! {
    /// The layer on which ipvlan links are joined to their parent (`IFLA_IPVLAN_MODE`, `IPVLAN_MODE_*`); all links of a parent have the same.
    IpvlanMode, "ipvlan mode", {
        /// Switched: ARP and broadcasts work.
        L2(0) = "l2",
        /// Routed by the host, without ARP and broadcasts.
        L3(1) = "l3",
        /// As l3, and the host's netfilter sees the packets.
        L3s(2) = "l3s",
    }
}

words! {
    /// How ipvlan links of one parent reach each other (`IFLA_IPVLAN_FLAGS`, `IPVLAN_F_*`); all links of a parent have the same.
    IpvlanFlag, "ipvlan flag", {
        /// Directly, inside the host.
        Bridge(0) = "bridge",
        /// Not at all.
        Private(1) = "private",
        /// Through a switch that reflects frames.
        Vepa(2) = "vepa",
    }
}

/// A driver with its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Driver {
    /// `type macvlan mode MODE`
    Macvlan { mode: MacvlanMode },
    /// `type ipvlan mode MODE FLAG`
    Ipvlan { mode: IpvlanMode, flag: IpvlanFlag },
}

impl Driver {
    /// The driver without its mode.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Macvlan { .. } => Kind::Macvlan,
            Self::Ipvlan { .. } => Kind::Ipvlan,
        }
    }

    /// Whether each link has a MAC address of its own. The others have the parent's, and the kernel ignores any other.
    pub(crate) fn has_own_mac(self) -> bool {
        matches!(self, Self::Macvlan { mode } if mode != MacvlanMode::Passthru)
    }

    /// Whether the kernel routes packets without ARP, so that a default route names the link and no gateway.
    pub(crate) fn is_routed(self) -> bool {
        matches!(self, Self::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. })
    }

    /// The link below those of this driver, by which probes are sent from outside of the container. On a parent that is itself
    /// an ipvlan link, the kernel makes an ipvlan link on the link below it, which `segment` is.
    pub(crate) fn link_below(self, parent: u32, segment: u32) -> u32 {
        match self.kind() {
            Kind::Ipvlan => segment,
            Kind::Macvlan => parent,
        }
    }

    /// Whether a link has its parent alone: there can be no other one on it.
    pub(crate) fn is_alone(self) -> bool {
        self == Self::Macvlan { mode: MacvlanMode::Passthru }
    }

    /// Whether answers to probes arrive on the parent only. ipvlan links have the parent's MAC address, and the answer to
    /// a probe names no address of theirs. Links of mode source take frames from listed hosts only.
    pub(crate) fn is_heard_on_parent(self) -> bool {
        matches!(
            self,
            Self::Ipvlan { mode: IpvlanMode::L2, .. } | Self::Macvlan { mode: MacvlanMode::Source }
        )
    }
}

impl fmt::Display for Driver {
    /// As `ip link` takes it after `type`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Macvlan { mode } => write!(f, "macvlan mode {mode}"),
            Self::Ipvlan { mode, flag } => write!(f, "ipvlan mode {mode} {flag}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        for word in ["bridge", "private", "vepa", "passthru", "source"] {
            assert_eq!(word.parse::<MacvlanMode>().unwrap().to_string(), word);
        }
        assert_eq!(IpvlanMode::ALL.map(|mode| mode.to_string()), ["l2", "l3", "l3s"]);
        for word in ["l2", "l3", "l3s"] {
            assert_eq!(word.parse::<IpvlanMode>().unwrap().to_string(), word);
        }
        for word in ["bridge", "private", "vepa"] {
            assert_eq!(word.parse::<IpvlanFlag>().unwrap().to_string(), word);
        }
    }

    /// Where the answers to probes come to: the parent, or the link itself.
    #[test]
    fn where_answers_are_heard() {
        for mode in MacvlanMode::ALL {
            let by_parent = mode == MacvlanMode::Source;
            assert_eq!(Driver::Macvlan { mode }.is_heard_on_parent(), by_parent, "macvlan {mode}");
        }
        for mode in IpvlanMode::ALL {
            let by_parent = mode == IpvlanMode::L2;
            for flag in IpvlanFlag::ALL {
                let driver = Driver::Ipvlan { mode, flag };
                assert_eq!(driver.is_heard_on_parent(), by_parent, "{driver}");
            }
        }
    }

    #[test]
    fn unknown_words_name_the_allowed_ones() {
        let error = "l4".parse::<IpvlanMode>().unwrap_err();
        assert_eq!(error.to_string(), "unknown ipvlan mode \"l4\"");
        assert_eq!(error.hint_text(), Some("use one of: l2 l3 l3s"));
        assert!("".parse::<MacvlanMode>().is_err());
    }
}

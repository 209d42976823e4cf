//! The two kernel drivers and their modes, in the words of Docker's options and of `ip link`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Defines an enum whose words are its only spelling: in files, options and messages.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub(crate) enum $name {
            $($(#[$vdoc])* $variant),+
        }

        impl $name {
            /// Every one there is.
            #[allow(dead_code, reason = "not every enum is listed")]
            pub(crate) const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Error::input(format!(concat!("unknown ", $what, " {:?}"), text))
                        .hint(concat!("use one of:", $(" ", $word),+))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $word,)+
                })
            }
        }
    };
}

words! {
    /// Which kernel driver makes the links of a network (`IFLA_INFO_KIND`).
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
    /// How macvlan links of one parent reach each other (`IFLA_MACVLAN_MODE`).
    MacvlanMode, "macvlan mode", {
        /// Directly, inside the host.
        Bridge = "bridge",
        /// Not at all.
        Private = "private",
        /// Through a switch that reflects frames (802.1Qbg).
        Vepa = "vepa",
        /// One link alone takes the parent, with the parent's MAC address.
        Passthru = "passthru",
        /// Only frames from a list of source MAC addresses come in.
        Source = "source",
    }
}

words! {
    /// On which layer ipvlan links are joined to their parent (`IFLA_IPVLAN_MODE`); one mode for a whole parent.
    IpvlanMode, "ipvlan mode", {
        /// Switched: ARP and broadcasts work.
        L2 = "l2",
        /// Routed by the host, without ARP and broadcasts.
        L3 = "l3",
        /// As l3, and seen by the host's netfilter.
        L3s = "l3s",
    }
}

words! {
    /// How ipvlan links of one parent reach each other (`IFLA_IPVLAN_FLAGS`); one flag for a whole parent.
    IpvlanFlag, "ipvlan flag", {
        /// Directly, inside the host.
        Bridge = "bridge",
        /// Not at all.
        Private = "private",
        /// Through a switch that reflects frames.
        Vepa = "vepa",
    }
}

/// A driver with its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Driver {
    /// `type macvlan mode MODE`
    Macvlan {
        /// How links of one parent reach each other.
        mode: MacvlanMode,
    },
    /// `type ipvlan mode MODE FLAG`
    Ipvlan {
        /// The layer; the same for all links of a parent.
        mode: IpvlanMode,
        /// How links of one parent reach each other; the same for all of them.
        flag: IpvlanFlag,
    },
}

impl Driver {
    /// The driver without its mode.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Macvlan { .. } => Kind::Macvlan,
            Self::Ipvlan { .. } => Kind::Ipvlan,
        }
    }

    /// Whether each link has a MAC address of its own: the others have the parent's, whatever they are given.
    pub(crate) fn has_own_mac(self) -> bool {
        matches!(self, Self::Macvlan { mode } if mode != MacvlanMode::Passthru)
    }

    /// Whether packets leave by routing alone, so that a default route names the link and no gateway.
    pub(crate) fn is_routed(self) -> bool {
        matches!(self, Self::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. })
    }

    /// Whether frames for a link of this mode are seen on its parent alone: ipvlan links have the parent's MAC address,
    /// and an answer to a probe names no address of theirs; links of mode source take frames from listed hosts only.
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

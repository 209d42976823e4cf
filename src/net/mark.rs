//! Marks: the aliases by which underlay knows the links of containers, and the parents that it has made.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::hash::fnv1a;
use crate::net::name::{ContainerId, NetworkName};

/// The longest alias that the kernel keeps (`IFALIASZ` with its NUL), without the seal and the colon before it: see
/// [`crate::net::seal::Alias`].
const LONGEST: usize = 255 - 17;

/// The alias of a parent that underlay has made (`IFLA_IFALIAS`).
pub(crate) const PARENT: &str = "underlay:parent";

/// The device group (`IFLA_GROUP`) that a link has from its creation until it is marked with `alias`, because the kernel
/// takes no alias in the message that creates a link. It is never 0, the group of all other links.
pub(crate) fn group(alias: &str) -> u32 {
    (fnv1a(alias) >> 32) as u32 | 1
}

/// The alias of a container's link (`IFLA_IFALIAS`) without its [seal](crate::net::seal):
/// `underlay:CONTAINER:INDEX:PID:START:NETWORK`. It names the owner as exactly as the ledger does, so that records can be
/// rebuilt from the links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub container: ContainerId,
    /// The number of the attachment in the container, from 0.
    pub index: usize,
    /// Its first process, or 0; see [`crate::ledger::holder::Holder::stamp`].
    pub pid: i32,
    /// When that process started, or the namespace was made.
    pub start_time: u64,
    pub network: NetworkName,
}

impl Mark {
    /// See [`group`].
    pub(crate) fn group(&self) -> u32 {
        group(&self.to_string())
    }

    /// # Errors
    /// When the kernel would not keep all of it.
    pub(crate) fn check(&self) -> Result<()> {
        let length = self.to_string().len();
        if length <= LONGEST {
            return Ok(());
        }
        let (container, network, more) = (&self.container, &self.network, length - LONGEST);
        Err(Error::input(format!(
            "the names of container {container} and network {network} are {more} characters too long together"
        ))
        .hint("give one of them a shorter name: the alias of the link holds both"))
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { container, index, pid, start_time, network } = self;
        write!(f, "underlay:{container}:{index}:{pid}:{start_time}:{network}")
    }
}

impl FromStr for Mark {
    type Err = Error;

    fn from_str(alias: &str) -> Result<Self> {
        let read = || -> Option<Self> {
            // No name has a colon.
            let words: Vec<_> = alias.strip_prefix("underlay:")?.split(':').collect();
            let [container, index, pid, start_time, network] = words.as_slice() else { return None };
            Some(Self {
                container: container.parse().ok()?,
                index: index.parse().ok()?,
                pid: pid.parse().ok()?,
                start_time: start_time.parse().ok()?,
                network: network.parse().ok()?,
            })
        };
        read().ok_or_else(|| Error::input(format!("alias {alias:?} is not an underlay mark")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netns::Netns;
    use crate::net::seal::Key;

    #[test]
    fn round_trip() {
        let text = "underlay:web:1:77:4242:pub_net";
        let mark: Mark = text.parse().unwrap();
        assert_eq!((mark.container.as_str(), mark.index, mark.pid, mark.start_time), ("web", 1, 77, 4242));
        assert_eq!(mark.to_string(), text);
        assert_eq!(mark.group(), mark.clone().group());
        assert_ne!(mark.group(), Mark { start_time: 4243, ..mark.clone() }.group());
        assert_ne!(mark.group(), Mark { index: 0, ..mark }.group());
    }

    #[test]
    fn other_aliases() {
        for alias in [
            "",
            "web",
            "underlay:",
            "underlay:parent",
            "underlay:web:0",
            "underlay::0:1:1:lan",
            "underlay:web:x:1:1:lan",
            "underlay:web:0:x:1:lan",
            "underlay:web:0:1:-1:lan",
            "underlay:web:0:1:1:",
            "underlay:web:0:1:1:lan:",
            "x:web:0:1:1:lan",
        ] {
            assert!(alias.parse::<Mark>().is_err(), "{alias}");
        }
    }

    #[test]
    fn the_longest() {
        let mark = |id: usize, network: usize| Mark {
            container: "c".repeat(id).parse().unwrap(),
            index: 99,
            pid: i32::MAX,
            start_time: u64::MAX,
            network: "n".repeat(network).parse().unwrap(),
        };
        assert!(mark(64, 128).check().is_ok(), "an engine's id goes with any network");
        assert!(mark(180, 13).check().is_ok() && mark(180, 14).check().is_err());
        let netns = Netns { device: u64::MAX, inode: u64::MAX, path: None };
        let sealed = Key::new([255; 16]).seal(mark(180, 13), &crate::net::link::eth0(), &netns);
        assert_eq!(sealed.to_string().len(), 255, "all of it is kept");
        assert!(mark(200, 128).check().is_err());
    }
}

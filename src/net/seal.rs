//! The seal of a mark, which proves that underlay wrote the mark, and on this very link.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::hash::siphash;
use crate::net::driver::Driver;
use crate::net::link::Link;
use crate::net::mark::Mark;
use crate::net::netns::Netns;

/// The length of a key in bytes.
pub(crate) const KEY: usize = 16;

/// The key that seals the marks of this host. Only root can read it.
#[derive(Clone)]
pub(crate) struct Key([u8; KEY]);

/// A message authentication code: SipHash-2-4 of 64 bits (Aumasson and Bernstein, 2012), written as 16 hexadecimal digits.
/// Only programs of root tell whether one is right, so it cannot be found by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal(u64);

/// The alias of a container's link: `underlay:CONTAINER:INDEX:PID:START:NETWORK:SEAL`. The first versions wrote it without
/// a seal; then it proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    pub mark: Mark,
    pub seal: Option<Seal>,
}

impl Key {
    pub(crate) fn new(bytes: [u8; KEY]) -> Self {
        Self(bytes)
    }

    /// The bytes, to store them.
    pub(crate) fn bytes(&self) -> [u8; KEY] {
        self.0
    }

    /// The alias for `link` in the namespace `netns`: `mark` with its seal.
    pub(crate) fn seal(&self, mark: Mark, link: &Link, netns: &Netns) -> Alias {
        Alias { seal: Some(self.of(&mark, link, netns)), mark }
    }

    /// Whether underlay wrote `alias` on `link` in the namespace `netns`.
    pub(crate) fn proves(&self, alias: &Alias, link: &Link, netns: &Netns) -> bool {
        alias.seal == Some(self.of(&alias.mark, link, netns))
    }

    /// Covers the mark, and what no second link has. Root in the container can read the alias and set it on other links:
    /// they have another number, or are in another namespace. It also covers the parent and the MAC address, because
    /// with another of them the link is not the one that was made. The MAC address of an ipvlan link is left out: it is
    /// the parent's, which may change.
    fn of(&self, mark: &Mark, link: &Link, netns: &Netns) -> Seal {
        let parent = link.elsewhere.map_or(0, |parent| parent.ifindex);
        let own_mac = link.mac.filter(|_| link.driver.is_some_and(Driver::has_own_mac));
        let mac = own_mac.map(|mac| mac.to_string()).unwrap_or_default();
        // No part has a space, so different parts never make the same text.
        let text = format!("{mark} {} {} {} {parent} {mac}", netns.device, netns.inode, link.ifindex);
        Seal(siphash(self.0, &text))
    }
}

impl fmt::Debug for Key {
    /// Hides the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mark.fmt(f)?;
        self.seal.map_or(Ok(()), |Seal(seal)| write!(f, ":{seal:016x}"))
    }
}

impl FromStr for Alias {
    type Err = Error;

    fn from_str(alias: &str) -> Result<Self> {
        let sealed = || {
            let (mark, text) = alias.rsplit_once(':')?;
            // There is one spelling: 16 digits, in lower case, without a sign.
            let seal = u64::from_str_radix(text, 16).ok().filter(|seal| text == format!("{seal:016x}"))?;
            Some(Self { mark: mark.parse().ok()?, seal: Some(Seal(seal)) })
        };
        sealed().map_or_else(|| Ok(Self { mark: alias.parse()?, seal: None }), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver::{IpvlanFlag, IpvlanMode, MacvlanMode};
    use crate::net::link::{LinkNetns, eth0};

    const MARK: &str = "underlay:web:1:77:4242:pub_net";

    fn key() -> Key {
        Key::new(std::array::from_fn(|index| index as u8))
    }

    fn netns(inode: u64) -> Netns {
        Netns { device: 4, inode, path: None }
    }

    fn link() -> Link {
        Link {
            ifindex: 7,
            driver: Some(Driver::Macvlan { mode: MacvlanMode::Bridge }),
            elsewhere: Some(LinkNetns { ifindex: 2, nsid: 0 }),
            mac: Some("02:00:00:00:00:09".parse().unwrap()),
            ..eth0()
        }
    }

    #[test]
    fn a_seal_is_read_as_it_was_written() {
        let sealed = key().seal(MARK.parse().unwrap(), &link(), &netns(5));
        let text = sealed.to_string();
        // A link that was sealed by one version is known to the next.
        assert_eq!(text, format!("{MARK}:a298ef775ae99397"));
        assert_eq!(text.parse::<Alias>().unwrap(), sealed);
        assert!(key().proves(&sealed, &link(), &netns(5)));
        assert_eq!(MARK.parse::<Alias>().unwrap(), Alias { mark: MARK.parse().unwrap(), seal: None });
        for wrong in ["", "x", "a298ef775ae9939", "A298EF775AE99397", "+298ef775ae99397", "a298ef775ae993970"]
        {
            assert!(format!("{MARK}:{wrong}").parse::<Alias>().is_err(), "{wrong}");
        }
        assert!(format!("{text}:a298ef775ae99397").parse::<Alias>().is_err());
        assert!(!format!("{:?}", key()).contains('1'), "a key is not shown");
    }

    /// What is said, and what no second link has.
    #[test]
    fn what_a_seal_covers() {
        let sealed = key().seal(MARK.parse().unwrap(), &link(), &netns(5));
        for mark in [
            "underlay:db:1:77:4242:pub_net",
            "underlay:web:0:77:4242:pub_net",
            "underlay:web:1:78:4242:pub_net",
            "underlay:web:1:77:4243:pub_net",
            "underlay:web:1:77:4242:other",
        ] {
            let forged = Alias { mark: mark.parse().unwrap(), ..sealed.clone() };
            assert!(!key().proves(&forged, &link(), &netns(5)), "{mark}");
        }
        for other in [
            Link { ifindex: 8, ..link() },
            Link { elsewhere: Some(LinkNetns { ifindex: 3, nsid: 0 }), ..link() },
            Link { elsewhere: None, ..link() },
            Link { mac: Some("02:00:00:00:00:08".parse().unwrap()), ..link() },
            Link { driver: None, ..link() },
        ] {
            assert!(!key().proves(&sealed, &other, &netns(5)), "{other:?}");
        }
        assert!(!key().proves(&sealed, &link(), &netns(6)));
        assert!(!key().proves(&sealed, &link(), &Netns { device: 5, ..netns(5) }));
        assert!(!Key::new([0; KEY]).proves(&sealed, &link(), &netns(5)), "another host's key");
        assert!(!key().proves(&Alias { seal: None, ..sealed.clone() }, &link(), &netns(5)));
        assert!(!key().proves(&Alias { seal: Some(Seal(0)), ..sealed.clone() }, &link(), &netns(5)));
        // By another name, in another number of the host's namespace, in the background: still the same link.
        let same =
            Link { name: "x".to_owned(), elsewhere: Some(LinkNetns { ifindex: 2, nsid: 9 }), ..link() };
        assert!(key().proves(&sealed, &same, &netns(5)));
    }

    /// An ipvlan link has its parent's MAC address, whatever that becomes.
    #[test]
    fn the_mac_of_an_ipvlan_link() {
        let driver = Some(Driver::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge });
        let ipvlan = Link { driver, ..link() };
        let sealed = key().seal(MARK.parse().unwrap(), &ipvlan, &netns(5));
        assert!(key().proves(&sealed, &Link { mac: None, ..ipvlan }, &netns(5)));
    }
}

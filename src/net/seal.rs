//! The seal of a mark: what proves that underlay has written it, and on this very link.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::hash::siphash;
use crate::net::driver::Driver;
use crate::net::link::Link;
use crate::net::mark::Mark;
use crate::net::netns::Netns;

/// How many bytes a key has.
pub(crate) const KEY: usize = 16;

/// The key that the marks of this host are sealed with, for root alone.
#[derive(Clone)]
pub(crate) struct Key([u8; KEY]);

/// A message authentication code: SipHash-2-4 of 64 bits (Aumasson and Bernstein, 2012), in an alias 16 hexadecimal
/// digits. Whether one is right only root's own programs tell, so it cannot be found by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal(u64);

/// A link's alias that is a mark: `underlay:CONTAINER:INDEX:PID:START:NETWORK:SEAL`. Without a seal, as the first
/// versions wrote it, it proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alias {
    /// What it says.
    pub mark: Mark,
    /// What proves it.
    pub seal: Option<Seal>,
}

impl Key {
    /// The key that is made of these bytes, which nobody can guess.
    pub(crate) fn new(bytes: [u8; KEY]) -> Self {
        Self(bytes)
    }

    /// What it is made of, for where it is kept.
    pub(crate) fn bytes(&self) -> [u8; KEY] {
        self.0
    }

    /// The alias of `link` in the namespace `netns` that says `mark`, sealed.
    pub(crate) fn seal(&self, mark: Mark, link: &Link, netns: &Netns) -> Alias {
        Alias { seal: Some(self.of(&mark, link, netns)), mark }
    }

    /// Whether underlay has written `alias` on `link` in the namespace `netns`.
    pub(crate) fn proves(&self, alias: &Alias, link: &Link, netns: &Netns) -> bool {
        alias.seal == Some(self.of(&alias.mark, link, netns))
    }

    /// Over what the mark says, and over what no second link has: whoever rules the namespace can read the alias, and
    /// give it to others. Their number is another one there, and elsewhere the namespace is. The parent and the MAC
    /// address are what the link was made with: with another of them it is not what was given. The MAC address of an
    /// ipvlan link is the parent's, which may change.
    fn of(&self, mark: &Mark, link: &Link, netns: &Netns) -> Seal {
        let parent = link.elsewhere.map(|parent| parent.ifindex).unwrap_or_default();
        let own_mac = link.mac.filter(|_| link.driver.is_some_and(Driver::has_own_mac));
        let mac = own_mac.map(|mac| mac.to_string()).unwrap_or_default();
        // No part of it has a space, so no two say the same.
        let text = format!("{mark} {} {} {} {parent} {mac}", netns.device, netns.inode, link.ifindex);
        Seal(siphash(self.0, &text))
    }
}

impl fmt::Debug for Key {
    /// Nothing of it.
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
        if let Ok(mark) = alias.parse() {
            return Ok(Self { mark, seal: None });
        }
        let read = || -> Option<Self> {
            let (mark, seal) = alias.rsplit_once(':')?;
            let is_seal = seal.len() == 16 && seal.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let seal = u64::from_str_radix(seal, 16).ok().filter(|_| is_seal)?;
            Some(Self { mark: mark.parse().ok()?, seal: Some(Seal(seal)) })
        };
        read().ok_or_else(|| Error::input(format!("alias {alias:?} is no mark of a container's link")))
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

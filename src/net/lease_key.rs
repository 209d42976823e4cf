//! What only one container can have on a layer-2 segment.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::net::mac::MacAddr;

/// What is leased: an IP address or a MAC address. Its text is the name of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeaseKey {
    /// An IP address.
    Address(IpAddr),
    /// The MAC address of a link that has one of its own.
    Mac(MacAddr),
}

impl LeaseKey {
    /// The IP address; `None` for a MAC address.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Address(address) => Some(address),
            Self::Mac(_) => None,
        }
    }
}

impl From<IpAddr> for LeaseKey {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

impl From<MacAddr> for LeaseKey {
    fn from(mac: MacAddr) -> Self {
        Self::Mac(mac)
    }
}

impl FromStr for LeaseKey {
    type Err = Error;

    /// An IPv6 address is never six pairs of digits, so a text is one or the other.
    fn from_str(text: &str) -> Result<Self> {
        let address = text.parse().map(Self::Address);
        address.or_else(|_| text.parse().map(Self::Mac)).map_err(|_| {
            Error::input(format!("{text:?} is neither an address nor a MAC address"))
                .hint("write 10.0.0.9, 2001:db8::9 or 02:00:00:00:00:09")
        })
    }
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Mac(mac) => mac.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for text in ["10.0.0.9", "2001:db8::9", "02:00:00:00:00:09", "::2"] {
            assert_eq!(text.parse::<LeaseKey>().unwrap().to_string(), text);
        }
        assert!(matches!("02:00:00:00:00:09".parse(), Ok(LeaseKey::Mac(_))));
        assert!(matches!("02:00:00:00:00:09:0:0".parse(), Ok(LeaseKey::Address(_))));
        for text in ["", "segment.json", "#10.0.0.9", "10.0.0.9/24", "02:00:00:00:00"] {
            assert!(text.parse::<LeaseKey>().is_err(), "{text}");
        }
    }
}

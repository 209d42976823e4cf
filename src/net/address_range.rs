//! A range of addresses: the pool of a subnet can be limited to one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::error::{Error, Result};

/// An inclusive range of addresses of one family, written `FIRST-LAST` or as a CIDR block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AddressRange {
    pub(crate) first: IpAddr,
    pub(crate) last: IpAddr,
}

impl AddressRange {
    pub(crate) fn first(self) -> IpAddr {
        self.first
    }
}

impl FromStr for AddressRange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::input(format!("address range {text:?} is not usable"))
                .hint("write a CIDR block (192.168.32.128/25) or FIRST-LAST (192.168.32.10-192.168.32.99)")
        };
        if let Some((first, last)) = text.split_once('-') {
            let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| wrong());
            let (first, last) = (address(first)?, address(last)?);
            if first.is_ipv4() != last.is_ipv4() || first > last {
                return Err(Error::input(format!("range {first}-{last} does not run upwards in one family")));
            }
            return Ok(Self { first, last });
        }
        let block: IpNet = text.parse().map_err(|_| wrong())?;
        if block.trunc() != block {
            return Err(Error::input(format!("address range {block} has host bits set"))
                .hint(format!("write {}", block.trunc())));
        }
        Ok(Self { first: block.network(), last: block.broadcast() })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

//! Addresses that containers ask for.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::net::special_purpose::not_for_hosts;

/// An address that a container asks for, `10.0.0.9` or `10.0.0.9/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct RequestedAddress {
    pub address: IpAddr,
    /// The prefix length, if given; it must be that of the subnet.
    pub prefix_len: Option<u8>,
}

impl TryFrom<String> for RequestedAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let wrong = || {
            Error::input(format!("address {text:?} is not usable"))
                .hint("write it like 10.0.0.9 or 2001:db8::9")
        };
        let (address, prefix_len) = match text.parse::<IpNet>() {
            Ok(net) => (net.addr(), Some(net.prefix_len())),
            Err(_) => (text.parse().map_err(|_| wrong())?, None),
        };
        if not_for_hosts(address.into()).is_some() {
            return Err(wrong());
        }
        Ok(Self { address, prefix_len })
    }
}

/// Reads an address or a list of addresses, so that `"ip": "10.0.0.9"` is right too.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<RequestedAddress>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected an address or a list of addresses")]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let texts = match OneOrMany::deserialize(input)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    texts.into_iter().map(|text| RequestedAddress::try_from(text).map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_hosts() {
        for (text, fits) in [
            ("10.0.0.9", true),
            ("169.254.1.1", true),
            ("223.255.255.254", true),
            ("1.0.0.0", true),
            ("2001:db8::9", true),
            ("fe80::9", true),
            ("::2", true),
            ("0.0.0.0", false),
            ("0.0.0.9", false),
            ("127.0.0.2", false),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(RequestedAddress::try_from(text.to_owned()).is_ok(), fits, "{text}");
        }
    }
}

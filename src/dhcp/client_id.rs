//! How a client names itself to servers, so that a container gets the same address when it is created again (RFC 4361).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::dhcp::hex;
use crate::error::{Error, Result};
use crate::hash::siphash;
use crate::net::mac::MacAddr;
use crate::net::name::{Identity, NetworkName};
use crate::net::value::as_text;

/// `DUID-UUID` (RFC 6355).
const DUID_UUID: u16 = 4;

/// A client's identity, by which servers know it whatever its MAC address is (RFC 8415, section 11): one for all its links.
/// It is written in hexadecimal digits, like all here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Duid(Vec<u8>);

/// Which of a client's links it is (RFC 8415, section 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Iaid(pub u32);

/// Option 61 of DHCPv4: 2 to 255 bytes, the first of which is a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientId(Vec<u8>);

impl Duid {
    /// The DUID of `identity` on the machine with the secret `key`: always the same. It is a UUID of version 8, whose bits
    /// are for its maker to choose (RFC 9562, 5.8).
    pub(crate) fn derived(key: [u8; 16], identity: &Identity) -> Self {
        let half = |part: u8| siphash(key, &format!("dhcp duid {part} {identity}"));
        let bits = u128::from(half(0)) << 64 | u128::from(half(1));
        let version = 0xf << 76;
        let variant = 0b11 << 62;
        let uuid = bits & !version & !variant | 8 << 76 | 0b10 << 62;
        Self([&DUID_UUID.to_be_bytes()[..], &uuid.to_be_bytes()].concat())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Iaid {
    /// The link number `index` of a container in `network`.
    pub(crate) fn of(network: &NetworkName, index: usize) -> Self {
        let hash = siphash([0; 16], &format!("dhcp iaid {index} {network}"));
        Self((hash >> 32) as u32)
    }
}

impl ClientId {
    /// The client id of a DUID and a link: type 255 (RFC 4361, 6.1).
    pub(crate) fn identity(duid: &Duid, Iaid(iaid): Iaid) -> Self {
        Self([&[255][..], &iaid.to_be_bytes(), duid.bytes()].concat())
    }

    /// The client id that most other clients have: the type of the link, Ethernet, and its address.
    pub(crate) fn mac(mac: MacAddr) -> Self {
        Self([&[1][..], &mac.0].concat())
    }

    /// The client id that an operator chose: type 0, which is no kind of hardware (RFC 2132, 9.14).
    pub(crate) fn chosen(text: &str) -> Result<Self> {
        Self::try_from([&[0][..], text.as_bytes()].concat())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for ClientId {
    type Error = Error;

    fn try_from(bytes: Vec<u8>) -> Result<Self> {
        if (2..=255).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        let hint = "use 2 to 255 bytes, the first of which is the type";
        Err(Error::input(format!("a DHCP client id of {} bytes is not usable", bytes.len())).hint(hint))
    }
}

impl TryFrom<Vec<u8>> for Duid {
    type Error = Error;

    /// A DUID has a type of two bytes, and at most 128 bytes behind it (RFC 8415, 11.1).
    fn try_from(bytes: Vec<u8>) -> Result<Self> {
        if (3..=130).contains(&bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(Error::input(format!("a DUID of {} bytes is not usable", bytes.len())))
    }
}

impl FromStr for ClientId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        hex::read(text)?.try_into()
    }
}

impl FromStr for Duid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        hex::read(text)?.try_into()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

impl fmt::Display for Duid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(&self.0, f)
    }
}

as_text!(ClientId);
as_text!(Duid);

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 16] = [7; 16];

    fn duid(key: [u8; 16], identity: &str) -> Duid {
        Duid::derived(key, &identity.parse().unwrap())
    }

    fn iaid(network: &str, index: usize) -> Iaid {
        Iaid::of(&network.parse().unwrap(), index)
    }

    /// Reservations of servers hold after an upgrade: these never change.
    #[test]
    fn ids_stay_what_they_are() {
        let duid = duid(KEY, "web");
        assert_eq!(duid.to_string(), "0004190572ac827b8045a5a6b31744a6e028");
        let id = ClientId::identity(&duid, iaid("lan", 0)).to_string();
        assert_eq!(id, "ff5d6b657a0004190572ac827b8045a5a6b31744a6e028");
        assert_eq!(ClientId::mac(MacAddr([2, 0, 0, 0, 0, 9])).to_string(), "01020000000009");
        assert_eq!(ClientId::chosen("web").unwrap().to_string(), "00776562");
    }
    #[test]
    fn a_uuid_of_version_8() {
        for identity in ["a", "b", "c", "d", "e", "f"] {
            let duid = duid(KEY, identity);
            assert_eq!((duid.bytes().len(), &duid.bytes()[..2]), (18, &[0, 4][..]));
            assert_eq!((duid.bytes()[8] >> 4, duid.bytes()[10] >> 6), (8, 0b10), "{duid}");
        }
    }

    #[test]
    fn no_two_have_one_id() {
        assert_ne!(duid(KEY, "web"), duid(KEY, "db"));
        assert_ne!(duid(KEY, "web"), duid([8; 16], "web"), "another machine");
        assert_ne!(iaid("lan", 0), iaid("lan", 1));
        assert_ne!(iaid("lan", 0), iaid("wan", 0));
    }

    #[test]
    fn read_as_written() {
        let id = ClientId::identity(&duid(KEY, "web"), iaid("lan", 0));
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(serde_json::from_str::<ClientId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
        for text in ["", "01", "0", "zz01", "+1+1", "é1"] {
            assert!(text.parse::<ClientId>().is_err(), "{text}");
        }
        assert!(ClientId::chosen("").is_err());
        assert!(ClientId::chosen(&"a".repeat(255)).is_err());
        assert!("0004".parse::<Duid>().is_err());
        assert!("00".repeat(131).parse::<Duid>().is_err());
    }
}

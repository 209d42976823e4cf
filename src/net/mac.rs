//! MAC addresses.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::hash::siphash;
use crate::net::value::as_text;

/// An Ethernet address: any six bytes, because links may have any. It is written `46:b2:6b:26:2f:69`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MacAddr(pub [u8; 6]);

/// How the addresses of agents begin: locally administered, and `ul`.
const AGENT: [u8; 3] = [0x0e, b'u', b'l'];

impl MacAddr {
    /// The address for `text` on the machine with the secret `key`. It is always the same, unicast, and locally
    /// administered (IEEE 802, 8.4), so that no hardware has it.
    pub(crate) fn derived(key: [u8; 16], text: &str) -> Self {
        let [first, b, c, d, e, g, ..] = siphash(key, text).to_be_bytes();
        Self([first & 0xfc | 0x02, b, c, d, e, g])
    }

    /// The address from which the agent of the machine with the secret `key` probes ahead. All of them begin alike.
    pub(crate) fn of_agent(key: [u8; 16]) -> Self {
        let [a, b, c] = AGENT;
        let [d, e, f, ..] = siphash(key, "agent").to_be_bytes();
        Self([a, b, c, d, e, f])
    }

    /// Returns true if an agent, of whatever machine, probes ahead from this address: it asks, and will not use what it asks
    /// for.
    pub(crate) fn is_of_agent(self) -> bool {
        self.0.starts_with(&AGENT)
    }

    /// Whether a link can have this address: it is not multicast and not zero (the kernel's `is_valid_ether_addr`).
    pub(crate) fn is_unicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for MacAddr {
    type Err = Error;

    /// Reads six pairs of hexadecimal digits between `:` or `-`.
    fn from_str(text: &str) -> Result<Self> {
        // `from_str_radix` alone would take a sign.
        let is_pair = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let byte = |part: &str| u8::from_str_radix(part, 16).ok().filter(|_| is_pair(part));
        let bytes: Option<Vec<u8>> =
            text.split(if text.contains('-') { '-' } else { ':' }).map(byte).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(Self).ok_or_else(|| {
            Error::input(format!("MAC address {text:?} is not usable"))
                .hint("write six pairs of hexadecimal digits, like 46:b2:6b:26:2f:69")
        })
    }
}

as_text!(MacAddr);

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for text in ["46:b2:6b:26:2f:69", "46-B2-6B-26-2F-69"] {
            assert_eq!(text.parse::<MacAddr>().unwrap().to_string(), "46:b2:6b:26:2f:69");
        }
    }

    #[test]
    fn refuses() {
        for text in
            ["", "46", "46:b2:6b:26:2f", "46:b2:6b:26:2f:69:00", "46:b2:6b:26:2f:6g", "+6:b2:6b:26:2f:69"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn derived() {
        let key = [7; 16];
        let mac = MacAddr::derived(key, "web lan");
        assert_eq!(mac, MacAddr::derived(key, "web lan"));
        assert_ne!(mac, MacAddr::derived(key, "web wan"));
        assert_ne!(mac, MacAddr::derived([8; 16], "web lan"));
        assert!(MacAddr::of_agent(key).is_of_agent() && !mac.is_of_agent());
        assert!(MacAddr::of_agent(key).is_unicast() && MacAddr::of_agent(key) != MacAddr::of_agent([8; 16]));
        for text in ["a", "b", "c", "d", "e", "f"] {
            let mac = MacAddr::derived(key, text);
            assert!(mac.is_unicast() && mac.0[0] & 2 == 2, "{mac}");
        }
    }

    #[test]
    fn unicast() {
        let unicast = |text: &str| text.parse::<MacAddr>().unwrap().is_unicast();
        assert!(unicast("02:00:00:00:00:01"));
        assert!(!unicast("01:00:5e:00:00:01"));
        assert!(!unicast("00:00:00:00:00:00"));
        assert!(!unicast("ff:ff:ff:ff:ff:ff"));
    }
}

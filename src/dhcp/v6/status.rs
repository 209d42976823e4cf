//! What a DHCPv6 server says of a request (RFC 8415, 21.13).

use std::fmt;

use crate::error::{Error, Result};

/// A status code, with the server's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub code: u16,
    pub text: String,
}

impl Status {
    pub(crate) const SUCCESS: u16 = 0;
    pub(crate) const NO_ADDRESSES: u16 = 2;
    pub(crate) const NO_BINDING: u16 = 3;
    pub(crate) const NOT_ON_LINK: u16 = 4;

    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let Some((&code, text)) = bytes.split_first_chunk() else {
            return Err(Error::input("a DHCPv6 status is cut short"));
        };
        let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
        Ok(Self { code: u16::from_be_bytes(code), text })
    }

    pub(super) fn write(&self) -> Vec<u8> {
        [&self.code.to_be_bytes()[..], self.text.as_bytes()].concat()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Self::SUCCESS => f.write_str("success")?,
            1 => f.write_str("failure without a reason")?,
            Self::NO_ADDRESSES => f.write_str("no address is free")?,
            Self::NO_BINDING => f.write_str("the lease is not known")?,
            Self::NOT_ON_LINK => f.write_str("the address does not belong to this link")?,
            code => write!(f, "status {code}")?,
        }
        if self.text.is_empty() {
            return Ok(());
        }
        write!(f, ": {:?}", self.text.chars().take(128).collect::<String>())
    }
}

//! Arguments that are refused with a hint: clap prints an error without.

use std::str::FromStr;

use ipnet::IpNet;

use crate::error::Error;
use crate::net::subnet;

/// Parses an argument. Says in full why it is refused.
pub(super) fn hinted<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: Error| error.in_full())
}

/// Parses a subnet.
pub(super) fn net(text: &str) -> Result<IpNet, String> {
    subnet::parse_net(text).map_err(|error| error.in_full())
}

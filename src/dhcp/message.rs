//! A message of either family.

use std::net::Ipv4Addr;

use crate::dhcp::v4::message::Message as Message4;
use crate::dhcp::v4::outcome::Outgoing as Outgoing4;
use crate::dhcp::v6::message::Message as Message6;

/// A message of a server.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    V4(Message4),
    V6(Message6),
}

/// A message to a server. All of DHCPv6 go to all servers of the link.
#[derive(Clone, Debug)]
pub(crate) enum Outgoing {
    V4(Outgoing4),
    V6(Message6),
}

impl Message {
    /// The IPv4 address that a server offers or gives by it.
    pub(crate) fn offered(&self) -> Option<Ipv4Addr> {
        match self {
            Self::V4(message) => Some(message.yiaddr).filter(|address| !address.is_unspecified()),
            Self::V6(_) => None,
        }
    }
}

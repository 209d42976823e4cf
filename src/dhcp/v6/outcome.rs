//! What a DHCPv6 client wants to be done, and what it tells.

use std::fmt;
use std::net::Ipv6Addr;

use crate::dhcp::client_id::Duid;
use crate::dhcp::v6::lease::{Flaw, Lease};
use crate::dhcp::v6::message::Message;
use crate::error::{Error, Kind};
use crate::net::mac::MacAddr;

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send it to all servers: to `ff02::1:2` port 547, from an address of the link alone and port 546.
    Send(Message),
    /// Ask the LAN which host has this address, and tell the client by `Event::Free` or `Event::Conflict`.
    Probe(Ipv6Addr),
    /// The lease that counts from now on: a new one, or the one before with other times. If its address is another one, that
    /// one goes.
    Bound(Lease),
    /// The address of the lease must not be used any longer. The client asks for another one.
    Lost(Loss),
    /// There is no lease within the time that was given. Without such a limit the client goes on.
    Failed(Failure),
}

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Expired,
    /// The server has ended it.
    Withdrawn,
    /// The link belongs to another network by now.
    NotOnLink,
    /// Another host has the address; which one, if that is known.
    Conflict(Option<MacAddr>),
}

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No server answers.
    NoAdvertise,
    /// A server has offered an address, and does not confirm it.
    NoReply(Duid),
    /// A server's answer is no lease.
    Unusable { server: Duid, flaw: Flaw },
    /// Other hosts have the addresses that were given; the last one.
    Conflict { address: Ipv6Addr, mac: Option<MacAddr> },
}

impl Failure {
    /// The sentence about it, with what to do.
    pub(crate) fn error(&self) -> Error {
        let (kind, message, hint) = match self {
            Self::NoAdvertise => (
                Kind::Busy,
                "no DHCPv6 server answers".to_owned(),
                "see whether the router announces one (the flag M of its advertisements)",
            ),
            Self::NoReply(server) => (
                Kind::Busy,
                format!("DHCPv6 server {server} has offered an address and does not confirm it"),
                "see the log of the server",
            ),
            Self::Unusable { server, flaw } => (
                Kind::Input,
                format!("DHCPv6 server {server} answers and gives no lease: {flaw}"),
                "correct the configuration of the server",
            ),
            Self::Conflict { address, mac } => (
                Kind::Taken,
                format!("the DHCPv6 server gives {address}, which {} has", another(*mac)),
                "exclude the address from the range of the server",
            ),
        };
        Error::new(kind, message).hint(hint)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the DHCPv6 lease has expired: no server has renewed it"),
            Self::Withdrawn => f.write_str("the DHCPv6 server has ended the lease"),
            Self::NotOnLink => f.write_str("the address of the DHCPv6 lease does not belong to this link"),
            Self::Conflict(mac) => write!(f, "{} has the address of the DHCPv6 lease", another(*mac)),
        }
    }
}

fn another(mac: Option<MacAddr>) -> String {
    mac.map_or("another host".to_owned(), |mac| format!("another host ({mac})"))
}

//! What a DHCPv4 client wants to be done, and what it tells.

use std::fmt;
use std::net::Ipv4Addr;

use crate::dhcp::v4::lease::{Flaw, Lease};
use crate::dhcp::v4::message::Message;
use crate::error::{Error, Kind};
use crate::net::mac::MacAddr;

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Send(Outgoing),
    /// Ask the LAN which host has this address, and tell the client by `Event::Free` or `Event::Conflict`.
    Probe(Ipv4Addr),
    /// The lease that counts from now on: a new one, or the one before with other times. If its address is another one, that
    /// one goes.
    Bound(Lease),
    /// The address of the lease must not be used any longer. The client asks for another one.
    Lost(Loss),
    /// There is no lease within the time that was given. Without such a limit the client goes on.
    Failed(Failure),
}

/// A message and its way. To the broadcast address it goes to all of the link, from `0.0.0.0` too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub message: Message,
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
}

/// Why a lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    Expired,
    Refused(Refusal),
    /// Another host has the address.
    Conflict(MacAddr),
    /// The server takes what has the address now for the same client.
    Shared(Sharer),
}

/// What has the MAC address of the client's link, too: one client to a server that tells clients by MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharer {
    Host,
    /// Another container of this host.
    Container,
}

/// What a server says when it refuses (DHCPNAK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub server: Ipv4Addr,
    pub text: Option<String>,
}

/// Why there is no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No server answers.
    NoOffer,
    /// A server has offered an address, and does not confirm it.
    NoAck(Ipv4Addr),
    /// Servers answer that are not allowed; one of them.
    NotAllowed(Ipv4Addr),
    /// A server's offer is no lease.
    Unusable {
        server: Ipv4Addr,
        flaw: Flaw,
    },
    Refused(Refusal),
    /// A server offers an address that it has given to what has the same MAC address.
    Shared {
        server: Ipv4Addr,
        address: Ipv4Addr,
        by: Sharer,
    },
    /// Other hosts have the addresses that were offered; the last one.
    Conflict {
        address: Ipv4Addr,
        mac: MacAddr,
    },
}

impl Failure {
    /// The sentence about it, with what to do.
    pub(crate) fn error(&self) -> Error {
        let (kind, message, hint) = match self {
            Self::NoOffer => (
                Kind::Busy,
                "no DHCP server answers".to_owned(),
                "it may be on another LAN, or its range is used up; a switch with spanning tree drops what comes before its port \
                 forwards: make it an edge port",
            ),
            Self::NoAck(server) => (
                Kind::Busy,
                format!("DHCP server {server} has offered an address and does not confirm it"),
                "it may have too many clients at once: give it more time",
            ),
            Self::NotAllowed(server) => (
                Kind::NotFound,
                format!("DHCP server {server} answers, and the network does not allow it"),
                "allow it by dhcp_servers, or find out which host it is",
            ),
            Self::Unusable { server, flaw } => (
                Kind::Input,
                format!("DHCP server {server} offers {flaw}"),
                "correct the configuration of the server",
            ),
            Self::Refused(refusal) => (Kind::Taken, refusal.to_string(), "see the log of the server"),
            Self::Shared { server, address, by } => (
                Kind::Taken,
                format!(
                    "DHCP server {server} offers {address}, which {by} has: it gives by MAC address, and the link has \
                     that of its parent"
                ),
                match by {
                    Sharer::Host => {
                        "use macvlan, or let the host's own DHCP client send a client id, as `dhclient -i` does"
                    }
                    Sharer::Container => "use macvlan, or a server that tells clients by client id",
                },
            ),
            Self::Conflict { address, mac } => (
                Kind::Taken,
                format!("the DHCP server offers {address}, which another host has: {mac}"),
                "exclude the address from the range of the server",
            ),
        };
        Error::new(kind, message).hint(hint)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("the DHCP lease has expired: no server has renewed it"),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Conflict(mac) => write!(f, "another host has the address of the DHCP lease: {mac}"),
            Self::Shared(by) => write!(f, "{by} has the address of the DHCP lease, too"),
        }
    }
}

impl fmt::Display for Sharer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "this host",
            Self::Container => "another container of this host",
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DHCP server {} refuses the address", self.server)?;
        self.text
            .as_ref()
            .map_or(Ok(()), |text| write!(f, ": {:?}", text.chars().take(128).collect::<String>()))
    }
}

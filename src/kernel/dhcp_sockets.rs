//! The sockets of a DHCP client of either family.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::dhcp_socket::Dhcp4Socket;
use super::dhcp6_socket::Dhcp6Socket;
use crate::dhcp::lease::Family;
use crate::dhcp::message::{Message, Outgoing};
use crate::error::Result;
use crate::net::mac::MacAddr;

/// The sockets of a client on one link, in the network namespace of the thread that opened them.
#[derive(Debug)]
pub(crate) enum DhcpSockets {
    V4(Dhcp4Socket),
    V6(Dhcp6Socket),
}

impl DhcpSockets {
    /// Opens those of `family` on the link `ifindex` with the MAC address `mac`, which has the address `leased` if it has a lease.
    /// `None` if the link cannot send yet.
    pub(crate) fn open(
        family: Family,
        ifindex: u32,
        mac: MacAddr,
        leased: Option<IpAddr>,
    ) -> Result<Option<Self>> {
        Ok(match family {
            Family::V4 => {
                let mut socket = Dhcp4Socket::open(ifindex, mac)?;
                if let Some(IpAddr::V4(address)) = leased {
                    socket.bind(address);
                }
                Some(Self::V4(socket))
            }
            Family::V6 => Dhcp6Socket::open(ifindex)?.map(Self::V6),
        })
    }

    /// As [`Dhcp4Socket::hear_below`].
    pub(crate) fn hear_below(&mut self, below: u32) -> Result<()> {
        match self {
            Self::V4(socket) => socket.hear_below(below),
            Self::V6(_) => Ok(()),
        }
    }

    /// Sends what is of their family, as far as that is possible: the client sends it again.
    pub(crate) fn send(&self, outgoing: &Outgoing) {
        match (self, outgoing) {
            (Self::V4(socket), Outgoing::V4(outgoing)) => socket.send(outgoing),
            (Self::V6(socket), Outgoing::V6(message)) => socket.send(message),
            _ => {}
        }
    }

    /// Reads one datagram from each socket that has one. Returns the messages of servers among them.
    pub(crate) fn receive(&mut self) -> Vec<Message> {
        match self {
            Self::V4(socket) => socket.receive().into_iter().map(Message::V4).collect(),
            Self::V6(socket) => socket.receive().into_iter().map(Message::V6).collect(),
        }
    }

    /// The sockets, to wait for.
    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let (v4, v6) = match self {
            Self::V4(socket) => (Some(socket.sockets()), None),
            Self::V6(socket) => (None, Some(socket.udp.as_fd())),
        };
        v4.into_iter().flatten().chain(v6)
    }
}

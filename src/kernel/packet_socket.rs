//! Packet sockets (packet(7)): ARP and neighbour discovery as other hosts on a link see them.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{LinkAddr, MsgFlags, SockaddrIn6, recvfrom, sendto};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, eth, socket_with};

use super::filter;
use crate::error::{Error, Result};
use crate::net::arp_nd::{self, ProbeReply};
use crate::net::mac::MacAddr;

/// The packet sockets of a link, one for each family of addresses, in the network namespace of the thread that opened them.
///
/// They are not bound, and pass over the frames of other links: to bind a socket that receives already, the kernel would wait
/// for a grace period of RCU, some ten milliseconds.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    ifindex: u32,
    pub(super) mac: MacAddr,
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
    /// Member of the groups that solicitations for the addresses are sent to.
    groups: Option<UdpSocket>,
}

impl PacketSocket {
    /// Opens the sockets to probe for `addresses`, or to announce them, by the link `ifindex` with the MAC address `mac`.
    pub(crate) fn open(ifindex: u32, mac: MacAddr, addresses: &[IpAddr]) -> Result<Self> {
        let open = || {
            let has = |is_v4| addresses.iter().any(|address| address.is_ipv4() == is_v4);
            let v4 = has(true).then(|| open(eth::ARP, filter::arp(ifindex))).transpose()?;
            let v6 = has(false).then(|| open(eth::IPV6, filter::neighbours(ifindex))).transpose()?;
            let groups = v6.is_some().then(|| UdpSocket::bind((IpAddr::from([0; 16]), 0))).transpose()?;
            Ok(Self { ifindex, mac, v4, v6, groups })
        };
        let socket = open().map_err(|error: io::Error| {
            Error::kernel(&format!("open a packet socket on link number {ifindex}"), &error)
                .hint("give the hook CAP_NET_RAW, or set conflict_detection to off")
        })?;
        addresses.iter().for_each(|&address| socket.listen_for(address));
        Ok(socket)
    }

    /// Receives the solicitations of other hosts for `address`. If that is not possible, the answer of a host that has it is
    /// received all the same.
    pub(crate) fn listen_for(&self, address: IpAddr) {
        if let (IpAddr::V6(address), Some(groups)) = (address, &self.groups) {
            let (group, _) = arp_nd::solicited_node(address);
            if let Err(error) = groups.join_multicast_v6(&group, self.ifindex) {
                log::debug!("cannot join {group}: {error}");
            }
        }
    }

    /// Sends a probe for `address`, as far as that is possible: nothing is received on a link that is down.
    ///
    /// # Errors
    /// If the kernel does not take what packet sockets send.
    pub(super) fn probe(&self, address: IpAddr) -> Result<()> {
        self.send(address, "probe for", &arp_nd::probe(address, self.mac))
    }

    /// Announces `address`, as far as that is possible.
    pub(crate) fn announce(&self, address: IpAddr) {
        let sent = self.send(address, "announce", &arp_nd::announcement(address, self.mac));
        sent.unwrap_or_else(|error| log::warn!("{error}"));
    }

    fn send(&self, address: IpAddr, what: &str, frame: &[u8]) -> Result<()> {
        let (socket, protocol) = match address {
            IpAddr::V4(_) => (&self.v4, eth::ARP),
            IpAddr::V6(_) => (&self.v6, eth::IPV6),
        };
        let Some(socket) = socket else { return Ok(()) };
        match sendto(socket.as_raw_fd(), frame, &to(self.ifindex, protocol), MsgFlags::MSG_DONTWAIT) {
            Ok(_) => log::debug!("{what} {address} from {}", self.mac),
            Err(errno @ (Errno::EINVAL | Errno::EAFNOSUPPORT)) => {
                return Err(Error::kernel(&format!("{what} {address}"), &errno.into()).hint(
                    "this kernel wants another address of packet sockets: set conflict_detection to off",
                ));
            }
            Err(errno) => log::debug!("cannot {what} {address}: {errno}"),
        }
        Ok(())
    }

    /// The sockets, to [`wait`] for.
    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.v4.iter().chain(&self.v6).map(OwnedFd::as_fd)
    }

    /// Reads one frame from each socket that has one. Returns what each says about the address of another host, if anything.
    pub(super) fn receive(&self) -> impl Iterator<Item = Option<ProbeReply>> {
        self.sockets().filter_map(|socket| {
            let mut buffer = [0; filter::LENGTH];
            // After any error, there is nothing to read now.
            let (length, from) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer).ok()?;
            // Before the filter was attached, frames of other links came in too.
            let is_here = from.is_some_and(|from| from.ifindex() == self.ifindex as usize);
            let reply = buffer.get(..length).filter(|_| is_here).and_then(arp_nd::read);
            Some(reply.filter(|reply| reply.mac != self.mac))
        })
    }
}

/// The destination of frames of `protocol` that go out by the link `ifindex`.
///
/// packet(7) takes a `sockaddr_ll`, which no library makes except from getifaddrs(3). That asks by a netlink socket to which
/// other processes in the namespace can write, and ends the program if they do. The kernel reads the address by place
/// (packet_snd: `sll_protocol`, `sll_ifindex`, and `sll_halen` that must fit), whatever its family: a `sockaddr_in6` has its
/// port and its flow information where protocol and ifindex are, and the rest is zero.
pub(super) fn to(ifindex: u32, protocol: Protocol) -> SockaddrIn6 {
    let protocol = u16::from_be(protocol.as_raw().get() as u16);
    SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, protocol, ifindex, 0).into()
}

/// Opens a packet socket of `protocol` that receives what the filter `program` takes.
pub(super) fn open(protocol: Protocol, program: Vec<filter::Step>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol))?;
    filter::attach(&socket, program)?;
    Ok(socket)
}

//! A link as others hear it: whole frames out and in.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, eth, socket_with};

use crate::error::{Error, Kind, Result};
use crate::frame::{self, Heard};
use crate::mac::MacAddr;

/// What ARP and neighbour discovery need of a frame; the rest of a longer one is cut off.
const LENGTH: usize = 256;

/// The packet sockets of a link, one for each family of addresses, in the network namespace of the thread that opened
/// them. They are not bound, and what other links say is passed over: the kernel would wait for a grace period of RCU,
/// some ten milliseconds, to bind one that hears already.
#[derive(Debug)]
pub struct Wire {
    ifindex: u32,
    link: LinkAddr,
    mac: MacAddr,
    v4: Option<OwnedFd>,
    v6: Option<OwnedFd>,
    /// Member of the groups that solicitations for the addresses are sent to.
    _groups: Option<UdpSocket>,
}

impl Wire {
    /// The link `ifindex` with the MAC address `mac`, to ask for `addresses` or to announce them.
    ///
    /// # Errors
    /// When the link is gone, or packet sockets are not permitted.
    pub fn open(ifindex: u32, mac: MacAddr, addresses: &[IpAddr]) -> Result<Self> {
        let open = || {
            let link = address_of(ifindex)?;
            let socket = |is_v4: bool, protocol| {
                let any = addresses.iter().any(|address| address.is_ipv4() == is_v4);
                any.then(|| open(protocol)).transpose()
            };
            let (v4, v6) = (socket(true, eth::ARP)?, socket(false, eth::IPV6)?);
            let mut wire = Self { ifindex, link, mac, v4, v6, _groups: None };
            if wire.v6.is_some() {
                wire._groups = Some(UdpSocket::bind((IpAddr::from([0; 16]), 0))?);
                addresses.iter().for_each(|&address| wire.listen_for(address));
            }
            Ok(wire)
        };
        open().map_err(|error: io::Error| {
            let text = format!("cannot open a packet socket on link number {ifindex}: {error}");
            Error::new(Kind::Kernel(error.raw_os_error().unwrap_or_default()), text)
                .hint("give the hook CAP_NET_RAW, or set conflict_detection to off")
        })
    }

    /// Its MAC address.
    pub fn mac(&self) -> MacAddr {
        self.mac
    }

    /// Hears who else asks for `address`. Where that is not possible, whoever has it is heard all the same.
    pub fn listen_for(&self, address: IpAddr) {
        if let (IpAddr::V6(address), Some(groups)) = (address, &self._groups) {
            let (group, _) = frame::solicited_node(address);
            if let Err(error) = groups.join_multicast_v6(&group, self.ifindex) {
                log::debug!("cannot join {group}: {error}");
            }
        }
    }

    /// Asks who has `address`.
    pub fn probe(&self, address: IpAddr) {
        self.send(address, "probe for", &frame::probe(address, self.mac));
    }

    /// Tells all that `address` is here.
    pub fn announce(&self, address: IpAddr) {
        self.send(address, "announce", &frame::announcement(address, self.mac));
    }

    /// Sends as far as it is possible: nobody hears anything on a link that is down.
    fn send(&self, address: IpAddr, what: &str, frame: &[u8]) {
        let Some(socket) = (if address.is_ipv4() { &self.v4 } else { &self.v6 }) else { return };
        match sendto(socket.as_raw_fd(), frame, &self.link, MsgFlags::MSG_DONTWAIT) {
            Ok(_) => log::debug!("{what} {address} from {}", self.mac),
            Err(error) => log::debug!("cannot {what} {address}: {error}"),
        }
    }

    /// Its sockets, to wait for.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.v4.iter().chain(&self.v6)
    }

    /// What others have said of addresses since it was looked last.
    pub(super) fn claims(&self) -> Vec<Heard> {
        let mut claims = Vec::new();
        let mut buffer = [0; LENGTH];
        for socket in self.sockets() {
            // Whatever ends it, there is nothing more to hear now.
            while let Ok((length, from)) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
                let is_here = from.is_some_and(|from| from.ifindex() == self.ifindex as usize);
                let said = buffer.get(..length).filter(|_| is_here).and_then(frame::claim);
                claims.extend(said.filter(|claim| claim.mac != self.mac));
            }
        }
        claims
    }
}

/// The address of a link that packet sockets send by. nix makes none, but tells those of the links there are.
fn address_of(ifindex: u32) -> io::Result<LinkAddr> {
    let mut all = getifaddrs()?.filter_map(|link| link.address?.as_link_addr().copied());
    let found = all.find(|address| address.ifindex() == ifindex as usize);
    found.ok_or_else(|| io::Error::from_raw_os_error(nix::libc::ENODEV))
}

fn open(protocol: Protocol) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol))?)
}

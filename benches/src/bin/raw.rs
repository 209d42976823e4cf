//! The yardstick: the kernel work of one attach, hand-encoded, without ledger, annotations or checks.
//!
//! `raw KIND PID PARENT-IFINDEX ADDRESS/LEN GATEWAY [ADDRESS6/LEN GATEWAY6]`, KIND being macvlan or ipvlan.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const EXCL_CREATE: u16 = 0x600;

struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend(header);
        Self(bytes)
    }

    fn attribute(mut self, kind: u16, payload: &[u8]) -> Self {
        push(&mut self.0, kind, payload);
        self
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

fn push(bytes: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    bytes.extend((payload.len() as u16 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// `struct ifinfomsg`.
fn ifinfo(index: u32, flags: u32) -> Vec<u8> {
    [&[0; 4][..], &index.to_ne_bytes(), &flags.to_ne_bytes(), &flags.to_ne_bytes()].concat()
}

struct Socket(OwnedFd);

impl Socket {
    fn open() -> Self {
        // SAFETY: socket(2) makes a descriptor of its own, or fails.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
        };
        assert!(fd >= 0);
        // SAFETY: it is nobody else's.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Sends all of `bytes`, and returns the first answer, which must be no refusal.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut answer = vec![0; 8192];
        // SAFETY: both buffers are as long as is said.
        let length = unsafe {
            let sent = libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0);
            assert_eq!(sent, bytes.len() as isize);
            libc::recv(self.0.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        assert!(length >= 20);
        let is_error = u16::from_ne_bytes([answer[4], answer[5]]) == libc::NLMSG_ERROR as u16;
        let errno = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
        assert!(!is_error || errno == 0, "the kernel refused: {}", -errno);
        answer
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (kind, pid, parent) = (&arguments[0], &arguments[1], arguments[2].parse::<u32>().unwrap());
    let netns = File::open(format!("/proc/{pid}/ns/net")).unwrap();

    let mut data = Vec::new();
    match kind.as_str() {
        "macvlan" => push(&mut data, 1, &4_u32.to_ne_bytes()),
        _ => push(&mut data, 1, &0_u16.to_ne_bytes()),
    }
    let mut info = Vec::new();
    push(&mut info, IFLA_INFO_KIND, kind.as_bytes());
    push(&mut info, IFLA_INFO_DATA, &data);
    let create = Message::new(libc::RTM_NEWLINK, ACK | EXCL_CREATE, &ifinfo(0, 0))
        .attribute(IFLA_IFNAME, b"eth0\0")
        .attribute(IFLA_LINK, &parent.to_ne_bytes())
        .attribute(IFLA_NET_NS_FD, &netns.as_raw_fd().to_ne_bytes())
        .attribute(IFLA_LINKINFO, &info);
    Socket::open().ask(&create.finish());

    // SAFETY: the only thread there is enters.
    assert_eq!(unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
    let inside = Socket::open();
    let found = inside
        .ask(&Message::new(libc::RTM_GETLINK, 0, &ifinfo(0, 0)).attribute(IFLA_IFNAME, b"eth0\0").finish());
    let index = u32::from_ne_bytes(found[20..24].try_into().unwrap());
    if arguments.len() < 6 {
        fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1").unwrap();
    }
    let mut batch = Vec::new();
    for pair in arguments[3..].chunks(2) {
        let (address, length) = pair[0].split_once('/').unwrap();
        let (address, length): (IpAddr, u8) = (address.parse().unwrap(), length.parse().unwrap());
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
        let flags = if address.is_ipv4() { 0 } else { IFA_F_NODAD };
        let header = [&[family, length, flags, 0][..], &index.to_ne_bytes()].concat();
        let add = Message::new(libc::RTM_NEWADDR, EXCL_CREATE, &header);
        batch.extend(
            add.attribute(IFA_LOCAL, &octets(address)).attribute(IFA_ADDRESS, &octets(address)).finish(),
        );
    }
    let up = Message::new(libc::RTM_SETLINK, 0, &ifinfo(index, libc::IFF_UP as u32));
    batch.extend(up.attribute(IFLA_IFALIAS, b"underlay:bench:0:7:8:lan\0").finish());
    let pairs = arguments[3..].chunks(2);
    let last = pairs.len() - 1;
    for (at, pair) in pairs.enumerate() {
        let gateway: IpAddr = pair[1].parse().unwrap();
        let family = if gateway.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u8;
        // The main table, by the administrator, unicast.
        let header = [family, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0];
        let add = Message::new(libc::RTM_NEWROUTE, EXCL_CREATE | if at == last { ACK } else { 0 }, &header);
        batch.extend(
            add.attribute(RTA_GATEWAY, &octets(gateway)).attribute(RTA_OIF, &index.to_ne_bytes()).finish(),
        );
    }
    inside.ask(&batch);
}

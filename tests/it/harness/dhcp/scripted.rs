//! A DHCP server that says what a test wants it to say. Its frames are written byte by byte, as RFC 791, RFC 768 and RFC 2131 draw them;
//! not with the code that is tested.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, sendto};

use crate::harness::bed::Bed;
use crate::harness::frames::{Dhcp, MessageType, read_dhcp};
use crate::harness::on_lan::OnLan;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SERVERS_MAC: [u8; 6] = [2, 0xdc, 0, 0, 0, 1];
const BROADCAST: [u8; 6] = [0xff; 6];

/// The server 10.77.0.1; gone when dropped.
pub struct Scripted {
    _thread: OnLan,
}

impl Scripted {
    /// Sends what `answers` returns for each message of a client.
    pub fn start(bed: &Bed, mut answers: impl FnMut(&Dhcp) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        bed.lan.ip(&format!("addr replace {SERVER}/24 dev lan0"));
        let thread = OnLan::run(&bed.lan, move |socket| {
            let mut frame = [0; 2048];
            let Ok((length, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) else {
                thread::sleep(Duration::from_millis(1));
                return;
            };
            // It hears itself as well.
            let message = read_dhcp(&frame[..length]).filter(|_| frame[6..12] != SERVERS_MAC);
            for answer in message.into_iter().flat_map(|message| answers(&message)) {
                sendto(socket.as_raw_fd(), &answer, &from, MsgFlags::empty()).unwrap();
            }
        });
        Self { _thread: thread }
    }
}

/// An answer to one message.
#[derive(Clone, Debug)]
pub struct Reply {
    pub op: u8,
    pub xid: u32,
    pub chaddr: [u8; 6],
    pub yiaddr: Ipv4Addr,
    /// The next server, from which a diskless host boots.
    pub siaddr: Ipv4Addr,
    pub cookie: [u8; 4],
    /// In this order; one may come twice.
    pub options: Vec<(u8, Vec<u8>)>,
    /// What follows them: the end.
    pub tail: Vec<u8>,
    pub sname: Vec<u8>,
    pub file: Vec<u8>,
}

impl Reply {
    /// What gives `address` for an hour: an offer if `message` is a DHCPDISCOVER, else an acknowledgement.
    pub fn to(message: &Dhcp, address: Ipv4Addr) -> Self {
        let chaddr: Vec<_> =
            message.chaddr.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        let kind = if message.kind == MessageType::Discover { 2 } else { 5 };
        Self {
            op: 2,
            xid: message.xid,
            chaddr: chaddr.try_into().unwrap(),
            yiaddr: address,
            siaddr: Ipv4Addr::UNSPECIFIED,
            cookie: [99, 130, 83, 99],
            options: vec![
                (53, vec![kind]),
                (54, SERVER.octets().to_vec()),
                (51, 3600_u32.to_be_bytes().to_vec()),
                (1, vec![255, 255, 255, 0]),
                (3, SERVER.octets().to_vec()),
            ],
            tail: vec![255],
            sname: Vec::new(),
            file: Vec::new(),
        }
    }

    /// The same with another value of an option, or without it.
    #[must_use]
    pub fn with(mut self, code: u8, value: Option<&[u8]>) -> Self {
        self.options.retain(|(other, _)| *other != code);
        self.options.extend(value.map(|value| (code, value.to_vec())));
        self
    }

    /// The frame, to all hosts.
    pub fn frame(&self) -> Vec<u8> {
        let field = |bytes: &[u8], length: usize| {
            let mut bytes = bytes.to_vec();
            assert!(bytes.len() <= length);
            bytes.resize(length, 0);
            bytes
        };
        let options =
            self.options.iter().map(|(code, value)| [&[*code, value.len() as u8], &value[..]].concat());
        let message = [
            &[self.op, 1, 6, 0][..],
            &self.xid.to_be_bytes(),
            // secs, flags, ciaddr
            &[0; 8],
            &self.yiaddr.octets(),
            &self.siaddr.octets(),
            // giaddr
            &[0; 4],
            &field(&self.chaddr, 16),
            &field(&self.sname, 64),
            &field(&self.file, 128),
            &self.cookie,
            &options.flatten().collect::<Vec<_>>(),
            &self.tail,
        ]
        .concat();
        let length = (8 + message.len()) as u16;
        let datagram =
            |sum: u16| [&[0, 67, 0, 68][..], &length.to_be_bytes(), &sum.to_be_bytes(), &message].concat();
        let addresses = [SERVER, Ipv4Addr::BROADCAST].map(|address| address.octets()).concat();
        let pseudo = [&addresses[..], &[0, 17], &length.to_be_bytes(), &datagram(0)].concat();
        let header = [&[0x45, 0][..], &(20 + length).to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0], &addresses];
        let mut frame =
            [&BROADCAST[..], &SERVERS_MAC, &[8, 0], &header.concat(), &datagram(sum(&pseudo))].concat();
        set_header_sum(&mut frame);
        frame
    }
}

/// Corrects the checksum of the IPv4 header of `frame`.
pub fn set_header_sum(frame: &mut [u8]) {
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = sum(&frame[14..34]).to_be_bytes();
    frame[24..26].copy_from_slice(&sum);
}

/// The checksum of RFC 1071.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | two.get(1).map_or(0, |&low| low.into()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

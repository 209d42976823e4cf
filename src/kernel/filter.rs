//! Filters of packet sockets: the kernel drops all other frames, so that underlay reads no traffic of the LAN.
//!
//! A filter is a program of classic BPF (linux/filter.h). It returns how many bytes of a frame are kept, 0 for none.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};

use crate::dhcp::v4::udp::{CLIENT_PORT, FRAGMENT, UDP};
use crate::net::arp_nd::{ADVERTISEMENT, ICMPV6, SOLICITATION};

/// The bytes of a frame that ARP and neighbour discovery need.
pub(super) const LENGTH: usize = 256;
/// Those that DHCP needs: all of a frame.
pub(super) const DHCP_LENGTH: usize = 2048;

/// One step of a program.
pub(super) type Step = libc::sock_filter;

sockopt_impl!(
    /// `SO_ATTACH_FILTER`, which neither nix nor rustix has.
    AttachFilter,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_ATTACH_FILTER,
    libc::sock_fprog
);

/// `ldb [k]`
const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
/// `ldh [k]`
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
/// `ldh [x + k]`
const LOAD_HALF_BEHIND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
/// `ldxb 4 * ([k] & 0xf)`: the length of an IPv4 header.
const LOAD_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
/// `jset #k, jt, jf`
const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
/// `jeq #k, jt, jf`
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
/// `ret #k`
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Offsets in an Ethernet frame: IPv6's next header, and the type of ICMPv6.
const NEXT_HEADER: u32 = 14 + 6;
const ICMPV6_TYPE: u32 = 14 + 40;
/// Those of IPv4: its header, the flags and the offset of a fragment, the protocol. The destination port of UDP is behind the
/// header.
const IPV4: u32 = 14;
const FRAGMENT_OFFSET: u32 = IPV4 + 6;
const PROTOCOL: u32 = IPV4 + 9;
const DESTINATION_PORT: u32 = IPV4 + 2;

/// The filter of a socket of `ETH_P_ARP`: takes the frames of the link `ifindex`.
pub(super) fn arp(ifindex: u32) -> Vec<Step> {
    vec![LOAD_IFINDEX, step(IF_EQUAL, ifindex, 0, 1), TAKE, DROP]
}

/// The filter of a socket of `ETH_P_IPV6`: takes neighbour discovery of the link `ifindex`.
pub(super) fn neighbours(ifindex: u32) -> Vec<Step> {
    vec![
        LOAD_IFINDEX,
        step(IF_EQUAL, ifindex, 0, 6),
        step(LOAD_BYTE, NEXT_HEADER, 0, 0),
        step(IF_EQUAL, ICMPV6.into(), 0, 4),
        step(LOAD_BYTE, ICMPV6_TYPE, 0, 0),
        step(IF_EQUAL, SOLICITATION.into(), 1, 0),
        step(IF_EQUAL, ADVERTISEMENT.into(), 0, 1),
        TAKE,
        DROP,
    ]
}

/// The filter of a socket of `ETH_P_IP`: takes what DHCP servers send to clients on the link `ifindex`.
pub(super) fn dhcp(ifindex: u32) -> Vec<Step> {
    vec![
        LOAD_IFINDEX,
        step(IF_EQUAL, ifindex, 0, 8),
        step(LOAD_BYTE, PROTOCOL, 0, 0),
        step(IF_EQUAL, UDP.into(), 0, 6),
        step(LOAD_HALF, FRAGMENT_OFFSET, 0, 0),
        step(IF_ANY_BIT, FRAGMENT.into(), 4, 0),
        step(LOAD_HEADER_LENGTH, IPV4, 0, 0),
        step(LOAD_HALF_BEHIND, DESTINATION_PORT, 0, 0),
        step(IF_EQUAL, CLIENT_PORT.into(), 0, 1),
        step(RETURN, DHCP_LENGTH as u32, 0, 0),
        DROP,
    ]
}

/// `ld #ifidx`
const LOAD_IFINDEX: Step =
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, (libc::SKF_AD_OFF + libc::SKF_AD_IFINDEX) as u32, 0, 0);
const TAKE: Step = step(RETURN, LENGTH as u32, 0, 0);
const DROP: Step = step(RETURN, 0, 0, 0);

/// A step with its operand. A jump skips `yes` steps if the comparison holds, and `no` steps if it does not.
const fn step(code: u32, k: u32, yes: u8, no: u8) -> Step {
    Step { code: code as u16, jt: yes, jf: no, k }
}

/// Makes `program` the filter of `socket`.
pub(super) fn attach(socket: &OwnedFd, mut program: Vec<Step>) -> io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, AttachFilter, &program)?)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::dhcp::v4::udp;
    use crate::net::arp_nd;
    use crate::net::mac::MacAddr;

    /// Runs `program` as the kernel does, for `frame` that came by the link `ifindex`.
    fn takes(program: &[Step], frame: &[u8], ifindex: u32) -> bool {
        let (mut at, mut loaded, mut index) = (0, 0, 0);
        let bytes = |at: usize, count| frame.get(at..at + count);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte));
        loop {
            let Step { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                IF_ANY_BIT => at += usize::from(if loaded & k != 0 { jt } else { jf }),
                RETURN => return k > 0,
                code @ (LOAD_BYTE | LOAD_HALF | LOAD_HALF_BEHIND | LOAD_HEADER_LENGTH) => {
                    let behind = if code == LOAD_HALF_BEHIND { index } else { 0 };
                    let count = if [LOAD_BYTE, LOAD_HEADER_LENGTH].contains(&code) { 1 } else { 2 };
                    // To load from beyond the end ends the program with 0.
                    let Some(bytes) = bytes(k as usize + behind, count) else { return false };
                    match code {
                        LOAD_HEADER_LENGTH => index = 4 * usize::from(bytes[0] & 0xf),
                        _ => loaded = number(bytes),
                    }
                }
                code => {
                    assert_eq!((code, k), (LOAD_IFINDEX.code.into(), LOAD_IFINDEX.k));
                    loaded = ifindex;
                }
            }
        }
    }

    #[test]
    fn frames() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let [v4, v6]: [IpAddr; 2] = ["10.0.0.9".parse().unwrap(), "2001:db8::9".parse().unwrap()];
        for (program, address) in [(arp as fn(u32) -> Vec<Step>, v4), (neighbours, v6)] {
            for frame in [arp_nd::probe(address, mac), arp_nd::announcement(address, mac)] {
                assert!(takes(&program(7), &frame, 7) && !takes(&program(7), &frame, 8), "{address}");
            }
        }
        let solicitation = arp_nd::probe(v6, mac);
        for (place, byte) in [(20, 17), (54, 128), (54, 134)] {
            let mut other = solicitation.clone();
            other[place] = byte;
            assert!(!takes(&neighbours(7), &other, 7), "{place} {byte}");
        }
        for length in 0..55 {
            assert!(!takes(&neighbours(7), &solicitation[..length], 7), "{length}");
        }
    }

    #[test]
    fn frames_of_dhcp_servers() {
        let mut packet = udp::packet([10, 0, 0, 1].into(), [10, 0, 0, 9].into(), b"hello");
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        let frame = [&[0; 14][..], &packet].concat();
        assert!(takes(&dhcp(7), &frame, 7) && !takes(&dhcp(7), &frame, 8));
        let mut longer = frame.clone();
        longer[14] = 0x46;
        assert!(!takes(&dhcp(7), &longer, 7), "there is no port");
        longer.splice(34..34, [1, 1, 1, 0]);
        assert!(takes(&dhcp(7), &longer, 7), "options of the header");
        // TCP; more fragments, and others before; other ports.
        for (place, byte) in [(23, 6), (20, 0x20), (20, 0x1f), (21, 1), (36, 1), (37, 67)] {
            let mut other = frame.clone();
            other[place] = byte;
            assert!(!takes(&dhcp(7), &other, 7), "{place} {byte}");
        }
        for length in 0..38 {
            assert!(!takes(&dhcp(7), &frame[..length], 7), "{length}");
        }
    }
}

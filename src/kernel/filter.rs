//! Filters of packet sockets: the kernel drops all other frames, so that underlay reads no traffic of the LAN.
//!
//! A filter is a program of classic BPF (linux/filter.h). It returns how many bytes of a frame are kept, 0 for none.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc;
use nix::sys::socket::setsockopt;
use nix::{setsockopt_impl, sockopt_impl};

use crate::net::arp_nd::{ADVERTISEMENT, ICMPV6, SOLICITATION};

/// The bytes of a frame that ARP and neighbour discovery need.
pub(super) const LENGTH: usize = 256;

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
/// `jeq #k, jt, jf`
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
/// `ret #k`
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Offsets in an Ethernet frame: IPv6's next header, and the type of ICMPv6.
const NEXT_HEADER: u32 = 14 + 6;
const ICMPV6_TYPE: u32 = 14 + 40;

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
    use crate::net::arp_nd;
    use crate::net::mac::MacAddr;

    /// Runs `program` as the kernel does, for `frame` that came by the link `ifindex`.
    fn takes(program: &[Step], frame: &[u8], ifindex: u32) -> bool {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let Step { code, jt, jf, k } = program[at];
            at += 1;
            match u32::from(code) {
                IF_EQUAL => at += usize::from(if loaded == k { jt } else { jf }),
                RETURN => return k > 0,
                LOAD_BYTE => match frame.get(k as usize) {
                    Some(&byte) => loaded = byte.into(),
                    // To load from beyond the end ends the program with 0.
                    None => return false,
                },
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
}

//! Frames by which hosts tell which one has an address: ARP (RFC 826, RFC 5227), and neighbour discovery for IPv6
//! (RFC 4861, RFC 4862). They are built and read as bytes, with the Ethernet header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::net::checksum;
use crate::net::mac::MacAddr;

const BROADCAST: [u8; 6] = [0xff; 6];
/// `ff02::1`, all hosts of the link, and its Ethernet address.
const ALL_NODES: (Ipv6Addr, [u8; 6]) = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1]);
/// `ETH_P_ARP`
const ARP: [u8; 2] = [0x08, 0x06];
/// `ETH_P_IPV6`
const IPV6: [u8; 2] = [0x86, 0xdd];
/// Ethernet and IPv4, with addresses of six and four bytes.
const ARP_HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// `ar_op` of probes and announcements.
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;
/// The hop limit of a packet that no router has forwarded.
const HOPS: u8 = 255;

/// What a frame says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbeReply {
    pub address: IpAddr,
    /// The MAC address of the host that has it, or probes for it.
    pub mac: MacAddr,
    /// Whether it is a probe like ours: the host does not have the address yet.
    pub probe: bool,
}

/// Asks which host has `address`, without claiming it: an ARP probe, or a neighbour solicitation from `::`.
pub(crate) fn probe(address: IpAddr, mac: MacAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(mac, Ipv4Addr::UNSPECIFIED, address),
        IpAddr::V6(address) => {
            neighbour(mac, Ipv6Addr::UNSPECIFIED, solicited_node(address), [SOLICITATION, 0], address, &[])
        }
    }
}

/// Tells all hosts that `address` is at `mac`: an ARP announcement, or an unsolicited neighbour advertisement that
/// overrides what they know.
pub(crate) fn announcement(address: IpAddr, mac: MacAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp(mac, address, address),
        IpAddr::V6(address) => {
            const OVERRIDE: u8 = 0x20;
            let option = [&[2, 1][..], &mac.0].concat();
            neighbour(mac, address, ALL_NODES, [ADVERTISEMENT, OVERRIDE], address, &option)
        }
    }
}

/// The group that a solicitation for `address` is sent to (RFC 4291, 2.7.1), and its Ethernet address.
pub(crate) fn solicited_node(address: Ipv6Addr) -> (Ipv6Addr, [u8; 6]) {
    let [.., a, b, c] = address.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    (group, [0x33, 0x33, 0xff, a, b, c])
}

/// What `frame` says about an address; `None` if nothing.
pub(crate) fn read(frame: &[u8]) -> Option<ProbeReply> {
    let (ethernet, packet) = frame.split_first_chunk::<14>()?;
    let &[_, _, _, _, _, _, a, b, c, d, e, f, kind @ ..] = ethernet;
    match kind {
        ARP => read_arp(packet),
        IPV6 => read_neighbour(packet, MacAddr([a, b, c, d, e, f])),
        _ => None,
    }
}

fn arp(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let (mac, sender, target) = (mac.0, sender.octets(), target.octets());
    [&BROADCAST[..], &mac, &ARP, &ARP_HEAD, &REQUEST, &mac, &sender, &[0; 6], &target].concat()
}

fn read_arp(packet: &[u8]) -> Option<ProbeReply> {
    let packet = packet.strip_prefix(&ARP_HEAD)?.first_chunk::<22>()?;
    let &[o0, o1, m0, m1, m2, m3, m4, m5, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = packet;
    let mac = MacAddr([m0, m1, m2, m3, m4, m5]);
    let reply = |address: [u8; 4], probe| Some(ProbeReply { address: address.into(), mac, probe });
    match ([s0, s1, s2, s3], [o0, o1]) {
        ([0, 0, 0, 0], REQUEST) => reply([t0, t1, t2, t3], true),
        ([0, 0, 0, 0], _) => None,
        (sender, REQUEST | REPLY) => reply(sender, false),
        _ => None,
    }
}

/// A message of neighbour discovery from `source` at `mac`; `to` is a group and its Ethernet address.
fn neighbour(
    mac: MacAddr,
    source: Ipv6Addr,
    to: (Ipv6Addr, [u8; 6]),
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    option: &[u8],
) -> Vec<u8> {
    let message =
        |[high, low]: [u8; 2]| [&[kind, 0, high, low, flags, 0, 0, 0][..], &target.octets(), option].concat();
    let message = message(checksum(source, to.0, &message([0, 0])).to_be_bytes());
    let [high, low] = (message.len() as u16).to_be_bytes();
    let header = [0x60, 0, 0, 0, high, low, ICMPV6, HOPS];
    [&to.1[..], &mac.0, &IPV6, &header, &source.octets(), &to.0.octets(), &message].concat()
}

fn read_neighbour(packet: &[u8], mac: MacAddr) -> Option<ProbeReply> {
    let (header, rest) = packet.split_first_chunk::<40>()?;
    let &[_, _, _, _, high, low, ICMPV6, HOPS, addresses @ ..] = header else { return None };
    let source = Ipv6Addr::from(*addresses.first_chunk::<16>()?);
    let destination = Ipv6Addr::from(*addresses.last_chunk::<16>()?);
    // The rest is Ethernet's padding.
    let message = rest.get(..usize::from(u16::from_be_bytes([high, low])))?;
    let (&[kind, 0, _, _, _, _, _, _], body) = message.split_first_chunk::<8>()? else { return None };
    let (target, options) = body.split_first_chunk::<16>()?;
    let target = Ipv6Addr::from(*target);
    if target.is_multicast() || checksum(source, destination, message) != 0 {
        return None;
    }
    let address = target.into();
    match kind {
        SOLICITATION if source.is_unspecified() => Some(ProbeReply { address, mac, probe: true }),
        ADVERTISEMENT => {
            let mac = link_layer_address(options).unwrap_or(mac);
            Some(ProbeReply { address, mac, probe: false })
        }
        _ => None,
    }
}

/// The target link-layer address among the options of an advertisement (RFC 4861, 4.6.1).
fn link_layer_address(mut options: &[u8]) -> Option<MacAddr> {
    loop {
        let &[kind, length, ..] = options else { return None };
        let option = options.get(..usize::from(length) * 8).filter(|option| !option.is_empty())?;
        if kind == 2 {
            return option.get(2..)?.first_chunk().map(|bytes| MacAddr(*bytes));
        }
        options = options.get(option.len()..)?;
    }
}

/// The Internet checksum over pseudo header and message (RFC 8200, 8.1): 0 of a message that has it already.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let bytes = [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, ICMPV6], message].concat();
    checksum::checksum(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// As `arping -D` and the kernel's own duplicate address detection send them, by tcpdump.
    #[test]
    fn frames_as_others_send_them() {
        assert_eq!(
            hex(&probe(ip("10.0.0.5"), MAC)),
            "ffffffffffff0200000000090806\
             0001080006040001020000000009000000000000000000000a000005"
        );
        let arp = announcement(ip("10.0.0.5"), MAC);
        assert_eq!((&arp[28..32], &arp[38..42]), (&[10, 0, 0, 5][..], &[10, 0, 0, 5][..]));
        let asked = probe(ip("2001:db8::1:2"), MAC);
        assert_eq!((asked.len(), &asked[..6]), (78, &[0x33, 0x33, 0xff, 1, 0, 2][..]));
        let told = announcement(ip("2001:db8::1:2"), MAC);
        assert_eq!((told.len(), &told[..6]), (86, &[0x33, 0x33, 0, 0, 0, 1][..]));
    }

    #[test]
    fn what_is_sent_is_understood() {
        for address in [ip("10.0.0.5"), ip("2001:db8::5")] {
            let mut frame = probe(address, MAC);
            assert_eq!(read(&frame), Some(ProbeReply { address, mac: MAC, probe: true }));
            // Ethernet fills frames up.
            frame.resize(100, 0);
            assert_eq!(read(&frame), Some(ProbeReply { address, mac: MAC, probe: true }));
            let frame = announcement(address, MAC);
            assert_eq!(read(&frame), Some(ProbeReply { address, mac: MAC, probe: false }));
            for length in 0..frame.len() {
                assert_eq!(read(&frame[..length]), None, "{length}");
            }
        }
    }

    #[test]
    fn answers_and_what_is_none() {
        let mut reply = announcement(ip("10.0.0.5"), MAC);
        reply[21] = 2;
        assert_eq!(read(&reply), Some(ProbeReply { address: ip("10.0.0.5"), mac: MAC, probe: false }));
        for (place, value) in [(12, 0), (15, 2), (21, 3)] {
            let mut other = announcement(ip("10.0.0.5"), MAC);
            other[place] = value;
            assert_eq!(read(&other), None, "{place}");
        }
        // Another protocol, a hop on the way, a wrong checksum, a code that means nothing.
        for (place, value) in [(12, 0), (20, 17), (21, 254), (56, 0xff), (55, 1)] {
            let mut other = announcement(ip("2001:db8::5"), MAC);
            other[place] = value;
            assert_eq!(read(&other), None, "{place}");
        }
        // A host that looks for the address does not have it.
        let IpAddr::V6(target) = ip("2001:db8::5") else { unreachable!() };
        let from = "fe80::1".parse().unwrap();
        let asking = neighbour(MAC, from, solicited_node(target), [SOLICITATION, 0], target, &[]);
        assert_eq!(read(&asking), None);
    }

    proptest! {
        #[test]
        fn any_bytes(frame in proptest::collection::vec(any::<u8>(), 0..120)) {
            read(&frame);
        }
    }
}

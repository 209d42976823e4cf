//! UDP over IPv4 (RFC 768, RFC 791) for a packet socket that adds and takes off the link's own header (`SOCK_DGRAM` with
//! `ETH_P_IP`): a client without an address has no other.

use std::net::Ipv4Addr;

use crate::net::checksum::checksum;

/// The ports of clients and servers.
pub(crate) const CLIENT_PORT: u16 = 68;
pub(crate) const SERVER_PORT: u16 = 67;

/// The protocol's number in IPv4.
pub(crate) const UDP: u8 = 17;
/// Version 4, and a header of five words.
const VERSION_AND_LENGTH: u8 = 0x45;
const DONT_FRAGMENT: u16 = 0x4000;
/// All but that: more fragments follow, or others come before.
pub(crate) const FRAGMENT: u16 = 0x3fff;
const HOPS: u8 = 64;
const UDP_HEADER: usize = 8;

/// Whether the checksum of UDP counts. The kernel leaves it to the network card, so it is not there yet in what comes from this
/// host (`TP_STATUS_CSUMNOTREADY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksum {
    Ready,
    NotReady,
}

/// The packet from a client at `from`, which may be `0.0.0.0`, to a server at `to`, which may be the broadcast address.
pub(crate) fn packet(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = UDP_HEADER + payload.len();
    let ports = [CLIENT_PORT.to_be_bytes(), SERVER_PORT.to_be_bytes()].concat();
    let datagram =
        |sum: u16| [&ports[..], &(length as u16).to_be_bytes(), &sum.to_be_bytes(), payload].concat();
    // A sum of 0 would say that there is none.
    let sum = match udp_checksum(from, to, &datagram(0)) {
        0 => 0xffff,
        sum => sum,
    };
    let total = (20 + length) as u16;
    let header = |sum: u16| {
        let head = [VERSION_AND_LENGTH, 0];
        let [total, fragment, sum] = [total, DONT_FRAGMENT, sum].map(u16::to_be_bytes);
        [&head[..], &total, &[0, 0], &fragment, &[HOPS, UDP], &sum, &from.octets(), &to.octets()].concat()
    };
    [header(checksum(&header(0))), datagram(sum)].concat()
}

/// What a server has sent to a client in `packet`: the server's address, or its relay's, and the payload. `None` if it is
/// anything else, a fragment, or damaged.
pub(crate) fn read(packet: &[u8], udp_sum: Checksum) -> Option<(Ipv4Addr, &[u8])> {
    let (&[version_and_length, _, t0, t1, _, _, f0, f1, _, UDP, _, _, addresses @ ..], _) =
        packet.split_first_chunk::<20>()?
    else {
        return None;
    };
    let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
    let (from, to) = (Ipv4Addr::new(s0, s1, s2, s3), Ipv4Addr::new(d0, d1, d2, d3));
    let header_length = usize::from(version_and_length & 0xf) * 4;
    // What comes behind is Ethernet's padding.
    let packet = packet.get(..usize::from(u16::from_be_bytes([t0, t1])))?;
    let (header, datagram) = packet.split_at_checked(header_length)?;
    let is_fragment = u16::from_be_bytes([f0, f1]) & FRAGMENT != 0;
    if version_and_length >> 4 != 4 || header.len() < 20 || is_fragment || checksum(header) != 0 {
        return None;
    }
    let &[p0, p1, q0, q1, l0, l1, c0, c1] = datagram.first_chunk::<UDP_HEADER>()?;
    let datagram = datagram.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
    let ports = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([q0, q1]));
    let has_sum = udp_sum == Checksum::Ready && [c0, c1] != [0, 0];
    if ports != (SERVER_PORT, CLIENT_PORT) || (has_sum && udp_checksum(from, to, datagram) != 0) {
        return None;
    }
    Some((from, datagram.get(UDP_HEADER..)?))
}

/// The checksum over pseudo header and datagram (RFC 768): 0 of a datagram that has it already.
fn udp_checksum(from: Ipv4Addr, to: Ipv4Addr, datagram: &[u8]) -> u16 {
    let length = (datagram.len() as u16).to_be_bytes();
    checksum(&[&from.octets()[..], &to.octets(), &[0, UDP], &length, datagram].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

    /// What a server answers: the same with the ports exchanged, which no checksum sees.
    fn answer(payload: &[u8]) -> Vec<u8> {
        let mut packet = packet(SERVER, CLIENT, payload);
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        packet
    }

    fn with_header_sum(mut packet: Vec<u8>) -> Vec<u8> {
        let length = usize::from(packet[0] & 0xf) * 4;
        packet[10..12].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet[..length]).to_be_bytes();
        packet[10..12].copy_from_slice(&sum);
        packet
    }

    #[test]
    fn a_packet_from_no_address() {
        let packet = packet(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, b"hello");
        let hex: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
        // Both checksums by another program.
        assert_eq!(
            hex,
            "450000210000400040113acd00000000ffffffff\
             00440043000dbb7b68656c6c6f"
        );
    }

    #[test]
    fn what_is_sent_is_understood() {
        assert_eq!(read(&answer(b"hello"), Checksum::Ready), Some((SERVER, &b"hello"[..])));
        assert_eq!(read(&answer(b""), Checksum::Ready), Some((SERVER, &b""[..])));
        let padded = [answer(b"hello"), vec![0; 30]].concat();
        assert_eq!(read(&padded, Checksum::Ready), Some((SERVER, &b"hello"[..])), "padding of Ethernet");
        for length in 0..answer(b"hello").len() {
            assert_eq!(read(&answer(b"hello")[..length], Checksum::Ready), None, "{length}");
        }
    }

    #[test]
    fn options_of_the_header_are_passed_over() {
        let mut packet = answer(b"hello");
        packet.splice(20..20, [1, 1, 1, 0]);
        packet[0] = 0x46;
        packet[3] += 4;
        assert_eq!(read(&with_header_sum(packet), Checksum::Ready), Some((SERVER, &b"hello"[..])));
    }

    #[test]
    fn a_fragment_is_dropped() {
        for [high, low] in [[0x20, 0], [0, 1], [0x1f, 0xff]] {
            let mut packet = answer(b"hello");
            packet[6..8].copy_from_slice(&[high, low]);
            assert_eq!(read(&with_header_sum(packet), Checksum::Ready), None);
        }
        let mut whole = answer(b"hello");
        whole[6..8].copy_from_slice(&[0, 0]);
        assert!(read(&with_header_sum(whole), Checksum::Ready).is_some());
    }

    #[test]
    fn a_wrong_checksum_is_dropped_unless_it_is_not_there_yet() {
        let mut packet = answer(b"hello");
        packet[30] ^= 1;
        assert_eq!(read(&packet, Checksum::Ready), None);
        assert!(read(&packet, Checksum::NotReady).is_some());
        packet[26..28].copy_from_slice(&[0, 0]);
        assert!(read(&packet, Checksum::Ready).is_some(), "0 says that there is none");
        // That of the header is always there.
        packet[8] ^= 1;
        assert_eq!(read(&packet, Checksum::NotReady), None);
    }

    #[test]
    fn other_protocols_ports_and_lengths_are_dropped() {
        for (place, value) in
            [(0, 0x55), (0, 0x44), (0, 0x4f), (9, 6), (21, 68), (23, 67), (25, 7), (25, 14), (3, 200)]
        {
            let mut packet = answer(b"hello");
            packet[place] = value;
            if place < 20 && packet[0] & 0xf == 5 {
                packet = with_header_sum(packet);
            }
            assert_eq!(read(&packet, Checksum::NotReady), None, "{place} {value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(packet in proptest::collection::vec(any::<u8>(), 0..120)) {
            read(&packet, Checksum::Ready);
            let mut likely = answer(&packet);
            likely.truncate(packet.len());
            read(&likely, Checksum::NotReady);
        }

        #[test]
        fn any_payload(payload in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let packet = answer(&payload);
            prop_assert_eq!(read(&packet, Checksum::Ready), Some((SERVER, &payload[..])));
        }
    }
}

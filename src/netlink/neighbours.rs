//! The host's neighbour table: who was heard of on a link.

use neli::consts::nl::NlmF;
use neli::consts::rtnl::Rtm;
use neli::types::Buffer;

use super::attr;
use super::message::Message;
use super::socket::Socket;
use crate::error::Result;
use crate::net::mac::MacAddr;
use crate::net::neighbour::Neighbour;

// Of linux/neighbour.h; neli lacks the last.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_IFINDEX: u16 = 8;
const NUD_REACHABLE: u16 = 0x02;
const NUD_PERMANENT: u16 = 0x80;

impl Socket {
    /// The neighbours that certainly are there on the link `ifindex`, of IPv4 and IPv6.
    ///
    /// # Errors
    /// When the kernel's answer is not understood.
    pub(crate) fn neighbours(&mut self, ifindex: u32) -> Result<Vec<Neighbour>> {
        // Kernels that do not filter tell of all links.
        let on_link = |payload: &[u8]| Ok(parse(payload).filter(|(found, _)| *found == ifindex));
        let all = self.dump(|| dump(ifindex), on_link)?;
        Ok(all.into_iter().map(|(_, neighbour)| neighbour).collect())
    }
}

/// `ip neigh show dev LINK`
fn dump(ifindex: u32) -> Result<Message> {
    // `struct ndmsg`, all of it zero, and one attribute of eight bytes.
    let mut bytes = vec![0; 12];
    bytes.extend(8_u16.to_ne_bytes());
    bytes.extend(NDA_IFINDEX.to_ne_bytes());
    bytes.extend(ifindex.to_ne_bytes());
    Message::new(Rtm::Getneigh, NlmF::DUMP, Buffer::from(bytes))
}

/// A neighbour out of the payload of `RTM_NEWNEIGH` (`struct ndmsg`), and the number of its link.
pub(crate) fn parse(payload: &[u8]) -> Option<(u32, Neighbour)> {
    let (&[_family, _, _, _, a, b, c, d, low, high, _flags, _kind], attributes) =
        payload.split_first_chunk::<12>()?;
    let state = u16::from_ne_bytes([low, high]);
    if state & (NUD_REACHABLE | NUD_PERMANENT) == 0 {
        return None;
    }
    let address = attr::value(attributes, NDA_DST).and_then(attr::ip)?;
    let mac = MacAddr::from_bytes(attr::value(attributes, NDA_LLADDR)?.try_into().ok()?);
    let permanent = state & NUD_PERMANENT != 0;
    // Groups and broadcasts have entries too.
    let is_host = mac.is_unicast() && !address.is_multicast();
    is_host.then_some((u32::from_ne_bytes([a, b, c, d]), Neighbour { address, mac, permanent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours() {
        let entry = |state: u16, mac: u8| {
            let head = [&[2, 0, 0, 0][..], &7_u32.to_ne_bytes(), &state.to_ne_bytes(), &[0, 1]].concat();
            [&head[..], &[8, 0, 1, 0, 10, 0, 0, 9], &[10, 0, 2, 0, mac, 0, 0, 0, 0, 9, 0, 0]].concat()
        };
        let mac = MacAddr::from_bytes([2, 0, 0, 0, 0, 9]);
        let found = |permanent| Some((7, Neighbour { address: [10, 0, 0, 9].into(), mac, permanent }));
        assert_eq!(parse(&entry(NUD_REACHABLE, 2)), found(false));
        assert_eq!(parse(&entry(NUD_PERMANENT, 2)), found(true));
        // Incomplete, stale, delay, probe, failed, noarp.
        for state in [0, 1, 4, 8, 0x10, 0x20, 0x40] {
            assert_eq!(parse(&entry(state, 2)), None, "{state}");
        }
        assert_eq!(parse(&entry(NUD_REACHABLE, 1)), None, "a group");
        for length in 0..30 {
            assert_eq!(parse(&entry(NUD_REACHABLE, 2)[..length]), None, "{length}");
        }
    }
}

//! The host's neighbour table (ARP and neighbour discovery).

use neli::consts::nl::NlmF;
use neli::consts::rtnl::{Nda, Rtm};
use nix::libc::{NUD_PERMANENT, NUD_REACHABLE};

use super::attr::{Attributes, attribute};
use super::message::Message;
use super::socket::Socket;
use crate::error::Result;
use crate::net::mac::MacAddr;
use crate::net::neighbour::Neighbour;

/// The length of `struct ndmsg`.
const NDMSG: usize = 12;

impl Socket {
    /// Returns the neighbours of the link `ifindex` that are certainly there (`NUD_REACHABLE`, `NUD_PERMANENT`), IPv4 and
    /// IPv6.
    pub(crate) fn neighbours(&mut self, ifindex: u32) -> Result<Vec<Neighbour>> {
        // Kernels that do not filter list those of all links.
        let on_link = |payload: &[u8]| parse(payload).filter(|(found, _)| *found == ifindex);
        let all = self.dump(|| dump(ifindex), on_link)?;
        Ok(all.into_iter().map(|(_, neighbour)| neighbour).collect())
    }
}

/// `ip neigh show dev LINK`
fn dump(ifindex: u32) -> Result<Message> {
    Message::new(Rtm::Getneigh, NlmF::DUMP, &[0; NDMSG], [attribute(Nda::Ifindex, ifindex)])
}

/// Parses the payload of `RTM_NEWNEIGH` (`struct ndmsg`) into the number of the link and the neighbour.
pub(super) fn parse(payload: &[u8]) -> Option<(u32, Neighbour)> {
    let (&[_family, _, _, _, a, b, c, d, low, high, _flags, _kind], attributes) =
        Attributes::after::<NDMSG>(payload)?;
    let state = u16::from_ne_bytes([low, high]);
    if state & (NUD_REACHABLE | NUD_PERMANENT) == 0 {
        return None;
    }
    let address = attributes.ip(Nda::Dst)?;
    let mac = MacAddr(attributes.array(Nda::Lladdr)?);
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
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
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

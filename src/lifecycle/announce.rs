//! Announcements: neighbours learn the MAC address of a container's addresses, also those that miss the first frame.
//!
//! The hook or the kernel sends the first announcement during the attach, the agent the others.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::Result;
use crate::kernel::{self, NetnsFile, PacketSocket};
use crate::ledger::Store;
use crate::ledger::attached::Attached;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::moved;
use crate::net::mark::Mark;
use crate::netlink::Socket;

/// The time between two announcements: a neighbour takes no new MAC address within a second of the last
/// (`net.ipv4.neigh.LINK.locktime`).
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Returns how often the addresses of `record` are announced.
pub(super) fn times(record: &Record) -> u32 {
    record.attachments().iter().map(|attached| attached.announcements).max().unwrap_or_default()
}

/// Returns when the announcement after the first `sent` ones is due at the earliest, after an attach at `since`.
pub(super) fn due(since: Duration, sent: u32) -> Duration {
    since + INTERVAL * sent
}

/// Announces the addresses of those attachments of `record` that are announced more than `sent` times. Returns false if the
/// namespace is gone.
pub(super) fn announce(store: &Store, record: &Record, sent: u32) -> Result<bool> {
    if moved::is_unseen(record) {
        return match moved::look(&mut Context::for_removal(store), record)? {
            Some(seen) => announce(store, &seen, sent),
            // Its engine is about to move it.
            None => Ok(true),
        };
    }
    // Closed afterwards: an open descriptor would keep the namespace after the container.
    let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(false) };
    netns.inside(|| {
        let mut inside = Socket::open()?;
        for (mark, attached) in record.marked().filter(|(_, attached)| attached.announcements > sent) {
            send(&mark, attached, &mut inside).unwrap_or_else(|error| log::debug!("{error}"));
        }
        Ok(true)
    })
}

/// Announces the addresses of `attached` from inside its namespace, if its link is the one that was made.
fn send(mark: &Mark, attached: &Attached, inside: &mut Socket) -> Result<()> {
    let link = kernel::marked_link(attached.ifindex, mark, inside)?;
    // An ipvlan link follows its parent, which may have got another MAC address.
    let Some((ifindex, mac)) = link.and_then(|link| Some((link.ifindex, link.mac?))) else { return Ok(()) };
    let addresses: Vec<IpAddr> = attached.addresses.iter().map(|net| net.addr()).collect();
    let socket = PacketSocket::open(ifindex, mac, &addresses)?;
    addresses.into_iter().for_each(|address| socket.announce(address));
    Ok(())
}

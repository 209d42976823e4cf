//! Announcements: neighbours learn the MAC address of a container's addresses, also those that miss the first
//! frame.
//!
//! The first announcement is sent during the attach. The hook starts a process in the host's namespace for
//! the others, so that the container does not wait for them. That process reads the ledger before each
//! announcement: a detached container is not announced.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use crate::error::Result;
use crate::kernel::{self, NetnsFile, PacketSocket};
use crate::ledger::Store;
use crate::ledger::record::{Attached, Holder, Record};
use crate::lifecycle::context::Context;
use crate::net::name::ContainerId;

/// The time between two announcements: a neighbour takes no new MAC address within a second of the last
/// (`net.ipv4.neigh.LINK.locktime`).
const INTERVAL: Duration = Duration::from_secs(1);

/// Starts the process that repeats the announcements of `record`, if its network asks for more than one. A
/// failure is logged only, because the addresses have been announced once.
pub(crate) fn repeat(context: &Context<'_>, record: &Record) {
    if record.attachments().iter().all(|attached| attached.announcements < 2) {
        return;
    }
    let [config_dir, state_dir, _] = context.store.dirs();
    let started = context.host_netns.get().and_then(|netns| {
        netns.inside(|| {
            kernel::start_detached(config_dir, state_dir, &["announce", "--", record.container.as_str()])
        })
    });
    started.unwrap_or_else(|error| log::warn!("{error}"));
}

/// Sends the remaining announcements of the container `id`, at intervals.
pub(crate) fn announce(store: &Store, id: &ContainerId) -> Result<()> {
    let mut first: Option<Holder> = None;
    for done in 1.. {
        thread::sleep(INTERVAL);
        let Some(record) = store.record(id)?.filter(|record| !record.is_pending()) else { break };
        let due: Vec<_> =
            record.attachments().iter().filter(|attached| attached.announcements > done).collect();
        // A new container may have the same id.
        if due.is_empty() || *first.get_or_insert_with(|| record.holder.clone()) != record.holder {
            break;
        }
        // Closed before the next sleep: an open descriptor would keep the namespace after the container.
        let Some((_, netns)) = NetnsFile::of(&record.holder)? else { break };
        netns.inside(|| {
            due.into_iter().for_each(send);
            Ok(())
        })?;
    }
    Ok(())
}

/// Announces the addresses of `attached` from inside its namespace. Failures are logged only.
fn send(attached: &Attached) {
    let (Some(ifindex), Some(mac)) = (attached.ifindex, attached.mac) else { return };
    let addresses: Vec<IpAddr> = attached.addresses.iter().map(|net| net.addr()).collect();
    match PacketSocket::open(ifindex, mac, &addresses) {
        Ok(socket) => addresses.into_iter().for_each(|address| socket.announce(address)),
        Err(error) => log::debug!("{error}"),
    }
}

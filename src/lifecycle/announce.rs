//! The story of the announcements: where the addresses of a container are now, said again to those who missed it.
//!
//! The first is made while the container is attached. The others come from a process of their own, so that nobody waits
//! for them: it is started by the hook, lives in the host's namespace, does nothing but sleep, and looks into the ledger
//! before each: what is detached meanwhile, is announced no more.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use crate::error::Result;
use crate::kernel::{self, NetnsFile, PacketSocket};
use crate::ledger::Store;
use crate::ledger::record::{Attached, Record};
use crate::lifecycle::context::Context;
use crate::net::name::ContainerId;

/// The time between two announcements: a neighbour takes no new MAC address within a second of the last
/// (`net.ipv4.neigh.LINK.locktime`).
const INTERVAL: Duration = Duration::from_secs(1);

/// Starts the process that announces the addresses of `record` again, if they are to be. It is no reason to fail if that
/// cannot be: they have been announced once.
pub(crate) fn repeat(context: &Context<'_>, record: &Record) {
    if times(record) < 2 {
        return;
    }
    let [config_dir, state_dir, _] = context.store.dirs();
    let started = context.host_netns.get().and_then(|netns| {
        netns.inside(|| {
            kernel::start_detached(config_dir, state_dir, &["announce", "--", record.container.as_str()])
        })
    });
    if let Err(error) = started {
        log::warn!("{error}");
    }
}

/// Announces the addresses of the container `id`, as often as is left of what its record says.
pub(crate) fn announce(store: &Store, id: &ContainerId) -> Result<()> {
    let mut known: Option<Record> = None;
    let mut done = 1;
    loop {
        thread::sleep(INTERVAL);
        let Some(record) = store.record(id)?.filter(|record| !record.is_pending()) else {
            return Ok(());
        };
        // Another container may go by the same id.
        if known.as_ref().is_some_and(|known| known.holder != record.holder) {
            return Ok(());
        }
        if times(&record) <= done {
            return Ok(());
        }
        // Held for no longer than it takes: when the container is gone, its namespace shall be too.
        let Some((_, netns)) = NetnsFile::of(&record.holder)? else { return Ok(()) };
        netns.inside(|| {
            let due = record.attachments().iter().filter(|attached| attached.announcements > done);
            due.for_each(say);
            Ok(())
        })?;
        drop(netns);
        done += 1;
        known = Some(record);
    }
}

/// Announces what `attached` has, from inside its namespace, as far as that is possible.
fn say(attached: &Attached) {
    let (Some(ifindex), Some(mac)) = (attached.ifindex, attached.mac) else { return };
    let addresses: Vec<IpAddr> = attached.addresses.iter().map(|net| net.addr()).collect();
    match PacketSocket::open(ifindex, mac, &addresses) {
        Ok(wire) => addresses.into_iter().for_each(|address| wire.announce(address)),
        Err(error) => log::debug!("{error}"),
    }
}

fn times(record: &Record) -> u32 {
    record.attachments().iter().map(|attached| attached.announcements).max().unwrap_or_default()
}

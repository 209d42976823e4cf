//! What a container holds is given back: links, the host's routes, addresses, and then what nobody needs any more. All that
//! ends a container comes here: its own poststop, an attach that failed, a collection, and an attach that needs what the
//! dead have.

use std::collections::BTreeSet;

use crate::config::settings::Settings;
use crate::error::Result;
use crate::ipam::assign::Wanted;
use crate::ipam::previous::Hint;
use crate::kernel::{self, NetnsFile};
use crate::ledger::Store;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::lifecycle::report::report;
use crate::lifecycle::{affinity, host_access, parents, repair, shared_netns};
use crate::net::link::Link;
use crate::netlink::Socket;
use crate::plan;

/// Whether the container of `record` lives, or a path keeps its network namespace. Where that cannot be told, it does:
/// nothing is taken from a container that may live.
pub(crate) fn is_in_use(record: &Record) -> bool {
    kernel::lives(&record.holder) || is_kept(record)
}

/// Whether a path keeps the network namespace of the container of `record`, as far as that can be told.
fn is_kept(record: &Record) -> bool {
    NetnsFile::of(&record.holder).map_or_else(
        |error| {
            log::warn!("container {}: {error}: it counts as alive", record.container);
            true
        },
        |netns| netns.is_some(),
    )
}

/// Passes what `record` holds on to those that share it, if there are any. Else: takes away the links of `record`, the
/// host's routes to it, and its addresses, then the host's links and the parents that nobody needs any more; and the same
/// of the container whose links it was the last to share. `host` is a socket of the host's namespace.
///
/// Whether the record is gone, and not passed on.
///
/// # Errors
/// The record stays if a link of it does.
pub(crate) fn release(
    store: &Store,
    settings: &Settings,
    record: &Record,
    host: &mut Socket,
) -> Result<bool> {
    let mut is_released = false;
    let mut next = Some(record.clone());
    while let Some(record) = next {
        if shared_netns::pass_on(store, settings, &record)? {
            break;
        }
        release_one(store, settings, &record, host)?;
        is_released = true;
        next = shared_netns::left_behind(store, &record)?;
    }
    Ok(is_released)
}

fn release_one(store: &Store, settings: &Settings, record: &Record, host: &mut Socket) -> Result<()> {
    if let Some(netns) = NetnsFile::of(&record.holder)?.filter(|_| record.shares.is_none()) {
        netns.inside(|| kernel::detach(&plan::detach(record), &mut Socket::open()?))?;
    }
    let locked = store.lock(settings.lock_timeout())?;
    host_access::close(&locked, record, host)?;
    locked.release(record)?;
    host_access::drop_unneeded_of(&locked, record, host)?;
    let mut parents = record.attachments.iter().map(|attached| &attached.parent);
    parents.try_for_each(|parent| parents::drop_unneeded(&locked, parent, host))?;
    drop(locked);
    affinity::refresh(store, record);
    Ok(())
}

/// As [`release`], of a container that died without a word, which is reported.
///
/// # Errors
/// As [`release`].
pub(crate) fn reclaim(store: &Store, settings: &Settings, record: &Record, host: &mut Socket) -> Result<()> {
    if release(store, settings, record, host)? {
        report(store, &Event::Reclaimed(record.into()));
    }
    Ok(())
}

/// Reclaims what dead containers hold on the segments of `wanted`, and mends what is nobody's; whether that was
/// anything. `home` is the host's namespace.
///
/// A container is dead when its process is gone and no path keeps its network namespace.
///
/// # Errors
/// When the ledger cannot be read or written.
pub(crate) fn reclaim_dead(
    store: &Store,
    settings: &Settings,
    wanted: &[Wanted],
    home: &NetnsFile,
    host: &mut Socket,
) -> Result<bool> {
    let segments: BTreeSet<u32> = wanted.iter().map(|wanted| wanted.parent.segment()).collect();
    let mut any = false;
    for segment in segments {
        let leases = {
            let _locked = store.lock(settings.lock_timeout())?;
            store.leases(segment)?
        };
        if !leases.orphans.is_empty() || !leases.unknown.is_empty() {
            let mended = repair::mend(store, settings, home, host, false)?;
            mended.warn();
            any |= !mended.steps.is_empty();
        }
        for record in leases.holders.iter().filter(|record| !is_in_use(record)) {
            log::info!("container {} died without a word: its addresses are taken back", record.container);
            match reclaim(store, settings, record, host) {
                Ok(()) => any = true,
                // Another one's may do.
                Err(error) => log::warn!("container {}: {error}", record.container),
            }
        }
    }
    Ok(any)
}

/// Reclaims what of `previous`, on the segment of `parent`, containers hold that died without a word.
pub(crate) fn reclaim_previous(
    store: &Store,
    settings: &Settings,
    previous: &Hint,
    parent: &Link,
    host: &mut Socket,
) {
    for claim in previous.claims() {
        let Some(record) = affinity::holder(store, parent.segment(), claim) else { continue };
        if is_in_use(&record) {
            continue;
        }
        log::info!("container {} died without a word: {claim} is taken back", record.container);
        let reclaimed = reclaim(store, settings, &record, host);
        reclaimed.unwrap_or_else(|error| log::warn!("{error}"));
    }
}

/// Releases the dead containers for which alone there are links of the host on the parents of `record`, and so those
/// links; whether one is gone.
///
/// # Errors
/// When one cannot be deleted.
pub(crate) fn reclaim_host_links(
    store: &Store,
    settings: &Settings,
    record: &Record,
    host: &mut Socket,
) -> Result<bool> {
    let mut any = false;
    for (link, users) in host_access::near(store, record, host)? {
        if !users.iter().any(|user| kernel::lives(&user.holder)) {
            for user in &users {
                // The link is in the way as long as one of them stays, and then what was refused is told.
                if let Err(error) = release(store, settings, user, host) {
                    log::warn!("container {}: {error}", user.container);
                }
            }
        }
        host_access::drop_unneeded(&store.lock(settings.lock_timeout())?, &link.network, host)?;
        any |= host.link(&link.name)?.is_none();
    }
    Ok(any)
}

//! The story of a detach: what `poststop` does, and how the dead are cleared away.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::ipam::assign::Wanted;
use crate::kernel::{self, NetnsFile};
use crate::ledger::Store;
use crate::ledger::event::Event;
use crate::ledger::record::Record;
use crate::lifecycle::host_side;
use crate::lifecycle::mend;
use crate::lifecycle::parents;
use crate::lifecycle::remember;
use crate::lifecycle::report::report;
use crate::lifecycle::share;
use crate::net::name::ContainerId;
use crate::netlink::Socket;
use crate::plan;

/// How long a container that was told to stop may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// Detaches the container `id`: deletes its links where they outlive it, then releases its addresses. `None` if
/// it holds nothing, because it never did or was detached before.
///
/// # Errors
/// When links or files could not be removed; what is left stays in the ledger. [`Kind::Taken`] when the holder
/// of the record lives: then another container goes by the same id.
pub(crate) fn detach(store: &Store, id: &ContainerId) -> Result<Option<Record>> {
    // Settings that cannot be read hinder the next attach; what is over is cleared away all the same.
    let settings = store.settings().unwrap_or_else(|error| {
        log::warn!("{error}");
        Settings::default()
    });
    let record = match store.record(id) {
        Err(error) if error.kind() == Kind::Damaged => {
            log::warn!("{error}");
            mend::mend(store, &settings, &NetnsFile::own()?, &mut Socket::open()?, false)?.warn();
            store.record(id)?
        }
        record => record?,
    };
    let Some(record) = record else { return Ok(None) };
    let until = Instant::now() + DYING;
    while kernel::lives(&record.holder) {
        if Instant::now() >= until {
            let pid = record.holder.pid;
            return Err(Error::new(
                Kind::Taken,
                format!("container {id} was stopped, but its process {pid} lives"),
            )
            .hint("another runtime has a container of that id: it was left alone"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    take_back(store, &settings, &record, &mut Socket::when_needed())?;
    Ok(Some(record))
}

/// Whether the container of `record` lives, or a path keeps its network namespace. Where that cannot be told, it does:
/// nothing is taken from who may live.
pub(crate) fn is_held(record: &Record) -> bool {
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
/// host's routes to it, and its addresses, then the host's links and the parents that nobody needs any more.
/// `host` is a socket of the host's namespace.
///
/// # Errors
/// The record stays if a link of it does.
pub(crate) fn take_back(
    store: &Store,
    settings: &Settings,
    record: &Record,
    host: &mut Socket,
) -> Result<()> {
    if share::pass_on(store, settings, record)? {
        return Ok(());
    }
    if let Some(netns) = NetnsFile::of(&record.holder)?.filter(|_| record.shares.is_none()) {
        netns.inside(|| kernel::detach(&plan::detach(record), &mut Socket::open()?))?;
    }
    let locked = store.lock(settings.lock_timeout())?;
    host_side::close(&locked, record, host)?;
    locked.release(record)?;
    host_side::drop_unneeded_of(&locked, record, host)?;
    let mut parents = record.attachments.iter().map(|attached| &attached.parent);
    parents.try_for_each(|parent| parents::drop_unneeded(&locked, parent, host))?;
    drop(locked);
    remember::refresh(store, record);
    share::leave(store, settings, record, host)
}

/// As [`take_back`], of a container that died without a word, which is reported.
///
/// # Errors
/// As [`take_back`].
pub(crate) fn reclaim(store: &Store, settings: &Settings, record: &Record, host: &mut Socket) -> Result<()> {
    take_back(store, settings, record, host)?;
    report(store, &Event::Reclaimed(record.into()));
    Ok(())
}

/// Takes back what dead containers hold on the segments of `wanted`, and mends what is nobody's; whether that was
/// anything. `home` is the host's namespace.
///
/// A container is dead when its process is gone and no path keeps its network namespace.
///
/// # Errors
/// When the ledger cannot be read or written.
pub(crate) fn take_back_dead(
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
            let mended = mend::mend(store, settings, home, host, false)?;
            mended.warn();
            any |= !mended.steps.is_empty();
        }
        for record in leases.holders.iter().filter(|record| !is_held(record)) {
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

//! The story of a detach: what `poststop` does, and how the dead are cleared away.

use std::thread;
use std::time::{Duration, Instant};

use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::kernel::{self, NetnsFile};
use crate::ledger::Store;
use crate::ledger::record::Record;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::lifecycle::shared_netns;
use crate::net::name::ContainerId;
use crate::netlink::Socket;

/// How long a container that was told to stop may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// Detaches the container `id`: deletes its links where they outlive it, then releases its addresses. `None` if
/// it holds nothing, because it never did or was detached before, or if others of its namespace go on with its links.
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
            repair::mend(store, &settings, &NetnsFile::own()?, &mut Socket::open()?, false)?.warn();
            store.record(id)?
        }
        record => record?,
    };
    let Some(record) = record else { return Ok(None) };
    // It has ended before, and others of its namespace use its links: that was another poststop's.
    if shared_netns::user(store, &record)?.is_some() {
        return Ok(None);
    }
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
    let is_released = release::release(store, &settings, &record, &mut Socket::when_needed())?;
    Ok(is_released.then_some(record))
}

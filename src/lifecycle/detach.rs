//! Detach: a container that has stopped gives back its links and addresses.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::net::name::ContainerId;

/// How long a container that was told to stop may take to be gone.
const DYING: Duration = Duration::from_secs(1);

/// Detaches the container `id`: deletes its links if they outlive it, then releases its addresses. `None` if it holds
/// nothing, because it never did or was detached before, or if other containers of its namespace go on with its links.
///
/// # Errors
/// When links or files could not be removed; what is left stays in the ledger. [`Kind::Taken`] when the holder
/// of the record lives: then another container goes by the same id.
pub(crate) fn detach(context: &mut Context<'_>, id: &ContainerId) -> Result<Option<Record>> {
    let store = context.store;
    let record = match store.record(id) {
        Err(error) if error.kind() == Kind::Damaged => {
            log::warn!("{error}");
            repair::repair(context, false)?.warn();
            store.record(id)?
        }
        record => record?,
    };
    let Some(record) = record else { return Ok(None) };
    let until = Instant::now() + DYING;
    while kernel::is_alive(&record.holder) {
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
    let is_released = release::release(context, &record)?;
    Ok(is_released.then_some(record))
}

//! Detach: a stopped container releases its links and addresses.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::ledger::record::Record;
use crate::lifecycle::context::Context;
use crate::lifecycle::pod;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::net::name::ContainerId;

/// How long the process of a stopped container may take to exit.
const DYING: Duration = Duration::from_secs(1);

/// Detaches the container `id`: deletes its links if they outlive it, then releases its addresses. Returns
/// `None` if it holds nothing, or if other containers of its namespace keep using its links.
///
/// # Errors
/// Links or files that could not be removed stay in the ledger. [`Kind::Taken`] if the process of the record
/// is alive: another container has the same id.
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
    if pod::hand_over_of_version_1(context, &record)? {
        return Ok(None);
    }
    let until = Instant::now() + DYING;
    while kernel::is_alive(&record.holder) {
        if Instant::now() >= until {
            let pid = record.holder.pid;
            return Err(Error::new(
                Kind::Taken,
                format!("container {id} was stopped, but its process {pid} is alive"),
            )
            .hint("another runtime has a container of that id: it was left alone"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    let is_released = release::release(context, &record)?;
    Ok(is_released.then_some(record))
}

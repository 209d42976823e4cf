//! Detach: a stopped container releases its links and addresses.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::ledger::record::{Record, State};
use crate::lifecycle::context::Context;
use crate::lifecycle::pod;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::net::name::ContainerId;

/// How long the process of a stopped container may take to exit.
const DYING: Duration = Duration::from_secs(1);

/// Detaches the container `id`: deletes its links if they outlive it, then releases its addresses. Returns
/// `None` if it holds nothing, if other containers of its namespace keep using its links, or if the agent does it.
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
    // A namespace may outlive its container: its engine says when that has ended.
    while let Some(process) = record.holder.process().filter(|_| kernel::is_alive(&record.holder)) {
        if Instant::now() >= until {
            let pid = process.pid;
            return Err(Error::new(
                Kind::Taken,
                format!("container {id} was stopped, but its process {pid} is alive"),
            )
            .hint("another runtime has a container of that id: it was left alone"));
        }
        thread::sleep(Duration::from_millis(10));
    }
    // After an error it is released at once.
    let is_left = leave_to_agent(context, &record);
    if is_left.inspect_err(|error| log::info!("{error}")).unwrap_or_default() {
        return Ok(None);
    }
    release::release(context, &record)
}

/// Leaves what `record` holds to the agent, if one runs; returns true if it did. The engine waits for poststop, and to delete
/// a link takes the kernel some ten milliseconds. Until it has gone, the record keeps the leases, so that nobody gets an address
/// that still answers.
///
/// # Errors
/// When the ledger cannot be read or written.
fn leave_to_agent(context: &Context<'_>, record: &Record) -> Result<bool> {
    let (store, netns) = (context.store, record.holder.netns());
    let is_plain = record.own().is_some_and(|own| own.state == State::Attached && own.made_for.is_none());
    // In a namespace that a path keeps, the next container may be made at once; it is in the list of those that are shared.
    if !is_plain || store.is_shared(netns)? || !store.has_agent()? {
        return Ok(false);
    }
    let locked = context.lock()?;
    // Another container may have come to share the links while this one waited for the lock.
    if store.is_shared(netns)? || store.record(&record.container)?.as_ref() != Some(record) {
        return Ok(false);
    }
    locked.write(&record.in_state(State::Ended))?;
    drop(locked);
    // Without word of it, the agent would find it only after a while.
    store.call_agent(&record.container).map(|()| true)
}

//! The agent as a process: there is one on a host.

use crate::error::{Error, Kind, Result};
use crate::kernel::{self, Process};
use crate::ledger::record::Holder;
use crate::lifecycle::context::Context;

/// Makes this process the agent.
///
/// # Errors
/// [`Kind::Taken`] if another agent is alive.
pub(super) fn claim(context: &Context<'_>) -> Result<()> {
    let own = own(context)?;
    let locked = context.lock()?;
    // A damaged file names no process, and is written over.
    let other = locked.store().agent().unwrap_or_default();
    if let Some(other) = other.filter(|other| *other != own && kernel::is_alive(other)) {
        let text = format!("the agent is running already, with pid {}", other.pid);
        return Err(
            Error::new(Kind::Taken, text).hint("one is enough: it serves all containers of this host")
        );
    }
    locked.write_agent(&own)
}

/// Returns this process.
pub(super) fn own(context: &Context<'_>) -> Result<Holder> {
    let process = Process::open(std::process::id().try_into().unwrap_or_default())?;
    let (pid, start_time) = (process.pid(), process.start_time());
    let netns = context.host_netns.get()?.describe(None);
    Ok(Holder { pid, start_time, pid_namespace: kernel::pid_namespace(), netns })
}

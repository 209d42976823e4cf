//! `underlay boot`: the host's side of all networks, before the first container.

use super::{cdi, output};
use crate::error::Result;
use crate::ledger::Store;
use crate::lifecycle::boot;

/// Prints what was done and what failed.
pub(super) fn boot(store: &Store) -> Result<()> {
    let boot = boot::boot(store)?;
    // A command that was killed may have changed the networks alone.
    cdi::renew(&store.lock(store.settings()?.lock_timeout())?);
    output::done(&boot.done, &boot.failed)
}

//! `underlay gc`: what nobody needs any more.

use clap::Args;

use super::output;
use crate::error::Result;
use crate::ledger::Store;
use crate::lifecycle::context::Context;
use crate::lifecycle::gc;

#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Set all addresses free that are set aside because others on the LAN were seen to have them
    #[arg(long)]
    quarantine: bool,
}

/// Prints what was done and what failed; that something did is an error.
pub(super) fn gc(store: &Store, options: &Gc) -> Result<()> {
    let collected = gc::gc(&mut Context::new(store)?, options.quarantine, options.dry_run)?;
    output::done(&collected.done, &collected.failed)
}

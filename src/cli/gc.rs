//! `underlay gc`: what nobody needs any more.

use super::output;
use crate::error::Result;
use crate::gc;
use crate::store::Store;

/// Prints what was done and what failed; that something did is an error.
pub(super) fn gc(store: &Store, dry_run: bool) -> Result<()> {
    let collected = gc::gc(store, dry_run)?;
    output::done(&collected.done, &collected.failed)
}

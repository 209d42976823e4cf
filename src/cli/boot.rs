//! `underlay boot`: the host's side of all networks, before the first container.

use super::output;
use crate::boot;
use crate::error::{Error, Result};
use crate::store::Store;

/// Prints what was done and what failed; that something did is an error, so that a service manager tries again.
pub(super) fn boot(store: &Store) -> Result<()> {
    let boot = boot::boot(store)?;
    boot.done.iter().try_for_each(|line| output::line(line))?;
    boot.failed.iter().for_each(output::error);
    match boot.failed.len() {
        0 => Ok(()),
        1 => Err(Error::input("1 failure; the rest is done")),
        many => Err(Error::input(format!("{many} failures; the rest is done"))),
    }
}

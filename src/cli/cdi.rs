//! `underlay cdi`, and the CDI file after each change of the networks.

use super::folders::program;
use super::output;
use crate::error::Result;
use crate::ledger::{Locked, Store};
use crate::oci::cdi;

/// Writes the CDI file and prints its path.
pub(super) fn write(store: &Store) -> Result<()> {
    let locked = store.lock(store.settings()?.lock_timeout())?;
    let path = store.cdi_path();
    let is_there = locked.write_cdi(&program(store)?)?;
    let names = store.network_names()?;
    for name in names.iter().filter(|name| !cdi::is_device_name(name)) {
        output::warning(&format!("network {name} is no device: in CDI a name ends with a letter or digit"));
    }
    if is_there {
        return output::line(&path.display().to_string());
    }
    output::warning(&format!("there is no network to be a device, and so no {}", path.display()));
    Ok(())
}

/// Updates the CDI file. A failure is a warning only: networks work without the file.
pub(super) fn renew(locked: &Locked<'_>) {
    if let Err(error) = program(locked.store()).and_then(|program| locked.write_cdi(&program)) {
        output::warning(&format!("{error}; the networks are no devices until `underlay cdi` succeeds"));
    }
}

//! `underlay cdi`, and the file it writes after each change of the networks.

use super::folders::program;
use super::output;
use crate::error::Result;
use crate::ledger::{Locked, Store};
use crate::oci::cdi;

/// Writes the CDI file and says where.
pub(super) fn write(store: &Store) -> Result<()> {
    let locked = store.lock(store.settings()?.lock_timeout())?;
    let path = store.cdi_path();
    let is_there = locked.write_cdi(&program(store)?)?;
    let names = store.network_names()?;
    for name in names.iter().filter(|name| !cdi::is_device_name(name)) {
        output::warning(&format!("network {name} is no device: in CDI a name ends with a letter or digit"));
    }
    match is_there {
        true => output::line(&path.display().to_string()),
        false => {
            output::warning(&format!("there is no network to be a device, and so no {}", path.display()));
            Ok(())
        }
    }
}

/// Keeps the CDI file true. Networks are what they are without it: it is no reason to fail if it cannot be written.
pub(super) fn renew(locked: &Locked<'_>) {
    let written = program(locked.store()).and_then(|program| locked.write_cdi(&program));
    if let Err(error) = written {
        output::warning(&format!("{error}; the networks are no devices until `underlay cdi` succeeds"));
    }
}

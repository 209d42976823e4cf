//! The CDI file: what Docker, podman and CRI-O read to know our networks as devices.

use std::path::PathBuf;

use super::{Locked, Store, to_json};
use crate::error::Result;
use crate::fs::file;
use crate::fs::trust;
use crate::oci::cdi;
use crate::oci::hooks::Program;

impl Store {
    /// Where the CDI file is.
    pub(crate) fn cdi_path(&self) -> PathBuf {
        self.cdi_dir.join("underlay.json")
    }
}

impl Locked<'_> {
    /// Writes the CDI file anew, with a device for each network there is, or removes it where there is none; whether it
    /// is there now.
    ///
    /// # Errors
    /// The old file, if any, stays.
    pub(crate) fn write_cdi(&self, program: &Program) -> Result<bool> {
        let path = self.store.cdi_path();
        match cdi::spec(&self.store.network_names()?, program) {
            Some(spec) => {
                // Root's engines run it: whoever can change it would be root.
                trust::check_program(&program.path)?;
                file::publish(&path, &to_json(&spec)?).map(|()| true)
            }
            None => file::remove(&path).map(|()| false),
        }
    }
}

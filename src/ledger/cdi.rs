//! The CDI file, by which Docker, podman and CRI-O know our networks as devices.

use std::path::PathBuf;

use super::{Locked, Store, to_json};
use crate::error::Result;
use crate::fs::file;
use crate::fs::trust;
use crate::oci::cdi;
use crate::oci::hooks::Program;

impl Store {
    pub(crate) fn cdi_path(&self) -> PathBuf {
        self.cdi_dir.join("underlay.json")
    }
}

impl Locked<'_> {
    /// Writes the CDI file with a device for each network, or removes it if there is no network. Returns true
    /// if it exists then. After an error the old file is unchanged.
    pub(crate) fn write_cdi(&self, program: &Program) -> Result<bool> {
        let path = self.store.cdi_path();
        match cdi::spec(&self.store.network_names()?, program) {
            Some(spec) => {
                // Engines run it as root, so only root may be able to change it.
                trust::check_program(&program.path)?;
                file::publish(&path, &to_json(&spec)?).map(|()| true)
            }
            None => file::remove(&path).map(|()| false),
        }
    }
}

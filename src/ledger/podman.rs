//! Networks that podman defines: podman keeps them, and tells them with each container. What it told last is kept too, for
//! repairs and the agent: `podman/networks/NAME.json` in the data folder, in the format of network files.

use std::path::PathBuf;

use super::{LIMIT, Store, to_json};
use crate::config::network::Network;
use crate::error::Result;
use crate::fs::file::{self, Trust};
use crate::fs::trust;
use crate::net::name::NetworkName;

impl Store {
    pub(super) fn podman_networks_dir(&self) -> PathBuf {
        self.data_dir.join("podman/networks")
    }

    fn podman_network_path(&self, name: &NetworkName) -> PathBuf {
        self.podman_networks_dir().join(format!("{name}.json"))
    }

    /// Returns what podman has told last of its network `name`, if it has one.
    ///
    /// # Errors
    /// When its file cannot be read, or others than root could write it.
    pub(super) fn podman_network(&self, name: &NetworkName) -> Result<Option<Network>> {
        trust::check_folder(&self.podman_networks_dir())?;
        let path = self.podman_network_path(name);
        let text = file::read(&path, LIMIT, Trust::Operator)?;
        let read = text.map(|text| Network::from_json(name, &text)).transpose();
        read.map_err(|error| error.within(path.display()))
    }

    /// Keeps what podman tells of `network`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep_podman_network(&self, network: &Network) -> Result<()> {
        let (path, text) = (self.podman_network_path(&network.name), to_json(&network.file)?);
        if file::read(&path, LIMIT, Trust::Operator).is_ok_and(|kept| kept.as_ref() == Some(&text)) {
            return Ok(());
        }
        // Nobody else may enter the data folder: it has a secret.
        file::make_folder(&self.podman_networks_dir(), 0o700)?;
        file::replace(&path, &text)
    }
}

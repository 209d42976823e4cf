//! Networks that podman defines: podman keeps them, and tells them with each container. What it told last is kept too, for
//! repairs and the agent: `podman/networks/NAME.json` in the data folder, in the format of network files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::record::Record;
use super::{LIMIT, Store, names_in, remove, to_json};
use crate::config::network::Network;
use crate::error::Result;
use crate::fs::file::{self, Trust};
use crate::fs::trust;
use crate::net::name::NetworkName;

/// How long the definition of a network without containers is kept.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How old a definition is at most that podman has told again.
const RENEWED: Duration = Duration::from_secs(60 * 60);

/// Whether the file at `path` was written longer ago than `age`.
fn is_older(path: &Path, age: Duration) -> bool {
    let written = fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).ok();
    written.and_then(|written| written.elapsed().ok()).is_some_and(|elapsed| elapsed > age)
}

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

    /// Whether podman has told of a network `name`.
    pub(crate) fn has_podman_network(&self, name: &NetworkName) -> bool {
        self.podman_network_path(name).exists()
    }

    /// Whether there are networks that podman has told of.
    pub(crate) fn has_podman_networks(&self) -> bool {
        names_in::<NetworkName>(&self.podman_networks_dir()).is_ok_and(|names| !names.is_empty())
    }

    /// Keeps what podman tells of `network`. Those that no container has, and that podman has not told for long, are removed when
    /// another one comes: podman does not say when it removes one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn keep_podman_network(&self, network: &Network) -> Result<()> {
        let (path, text) = (self.podman_network_path(&network.name), to_json(&network.file)?);
        let is_kept =
            file::read(&path, LIMIT, Trust::Operator).is_ok_and(|kept| kept.as_ref() == Some(&text));
        if is_kept && !is_older(&path, RENEWED) {
            return Ok(());
        }
        // Nobody else may enter the data folder: it has a secret.
        file::make_folder(&self.podman_networks_dir(), 0o700)?;
        file::replace(&path, &text)?;
        self.trim_podman_networks()
    }

    /// Removes what podman has told of networks that no container has, and that it has not told for long.
    ///
    /// # Errors
    /// When the ledger cannot be read, or a file is still there.
    pub(crate) fn trim_podman_networks(&self) -> Result<()> {
        let names = names_in::<NetworkName>(&self.podman_networks_dir())?;
        let is_old = |name: &NetworkName| is_older(&self.podman_network_path(name), KEPT);
        let old: Vec<_> = names.into_iter().filter(is_old).collect();
        if old.is_empty() {
            return Ok(());
        }
        let records = self.records()?;
        // One that cannot be read may be of any network.
        if !records.unknown.is_empty() {
            return Ok(());
        }
        let attached = records.sound.iter().flat_map(Record::attachments);
        let used: BTreeSet<_> = attached.map(|attached| &attached.network).collect();
        old.iter()
            .filter(|name| !used.contains(name))
            .try_for_each(|name| remove(&self.podman_network_path(name)))
    }
}

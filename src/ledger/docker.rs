//! Networks that were defined through Docker, which tells a definition once: when the network is created. They are kept over
//! reboots, as Docker keeps them: `docker/networks/NAME.json` in the data folder.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{LIMIT, Locked, Store, names_in, remove, to_json};
use crate::config::network::Network;
use crate::config::network_file::{NetworkFile, SubnetFile};
use crate::error::{Error, Kind, Result};
use crate::fs::file::{self, Trust};
use crate::fs::trust;
use crate::json;
use crate::net::name::{ContainerId, NetworkName};

/// The version of the files.
pub(crate) const VERSION: u32 = 1;
/// What the names of networks begin with that have none here: Docker tells an id alone.
pub(crate) const PREFIX: &str = "docker-";
/// How many characters of an id a name has, as many as Docker shows.
const SHORT: usize = 12;

/// A network of Docker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DockerNetwork {
    pub version: u32,
    /// Docker's id.
    pub id: ContainerId,
    /// The network of underlay that it is, if it is one: its definition counts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkName>,
    /// What Docker was told. The name is that by which the ledger knows it.
    pub definition: NetworkFile,
    /// The ids of its pools.
    pub pools: Vec<String>,
}

impl DockerNetwork {
    /// The name by which the ledger knows the network `id`, unless it is one of underlay.
    ///
    /// # Errors
    /// When `id` cannot be part of a name.
    pub(crate) fn name_of(id: &ContainerId) -> Result<NetworkName> {
        let short: String = id.as_str().chars().take(SHORT).collect();
        format!("{PREFIX}{short}").parse()
    }

    /// The network as endpoints are to have it: with the subnets that Docker knows, and all addresses kept free that either names.
    ///
    /// # Errors
    /// When the network of underlay is gone, or has other subnets by now.
    pub(crate) fn network(&self, store: &Store) -> Result<Network> {
        let Some(name) = &self.network else {
            return Network::new(&Self::name_of(&self.id)?, self.definition.clone());
        };
        let mut file = store.network(name)?.file;
        for asked in &self.definition.subnets {
            let known = file.subnets.iter_mut().find(|known| known.subnet == asked.subnet);
            let known = known.ok_or_else(|| {
                Error::input(format!("network {name} has no subnet {}", asked.subnet))
                    .hint(format!("`underlay network inspect {name}` shows those that it has"))
            })?;
            known.aux_addresses.extend(asked.aux_addresses.clone());
        }
        let is_asked =
            |known: &SubnetFile| self.definition.subnets.iter().any(|asked| asked.subnet == known.subnet);
        let mut network = Network::new(name, file)?;
        let files = network.file.subnets.clone();
        network
            .subnets
            .retain(|subnet| files.iter().any(|file| file.subnet == subnet.net() && is_asked(file)));
        Ok(network)
    }
}

impl Store {
    pub(super) fn docker_networks_dir(&self) -> PathBuf {
        self.data_dir.join("docker/networks")
    }

    fn docker_network_path(&self, name: &NetworkName) -> PathBuf {
        self.docker_networks_dir().join(format!("{name}.json"))
    }

    /// Returns the network `id` of Docker, if it is known.
    ///
    /// # Errors
    /// When its file cannot be read, or others than root could write it.
    pub(crate) fn docker_network(&self, id: &ContainerId) -> Result<Option<DockerNetwork>> {
        let found = self.read_docker_network(&DockerNetwork::name_of(id)?)?;
        Ok(found.filter(|found| found.id == *id))
    }

    /// Returns all networks of Docker that can be read.
    ///
    /// # Errors
    /// When their folder cannot be read.
    pub(crate) fn docker_networks(&self) -> Result<Vec<DockerNetwork>> {
        let mut networks = Vec::new();
        for name in names_in::<NetworkName>(&self.docker_networks_dir())? {
            match self.read_docker_network(&name) {
                Ok(found) => networks.extend(found),
                Err(error) => ::log::warn!("{error}"),
            }
        }
        Ok(networks)
    }

    /// Returns the network that a record or mark calls `name`: one of underlay, of Docker or of podman.
    ///
    /// # Errors
    /// When its definition cannot be read.
    pub(crate) fn network_of_links(&self, name: &NetworkName) -> Result<Option<Network>> {
        match self.network_if_defined(name)? {
            None if name.as_str().starts_with(PREFIX) => {
                self.read_docker_network(name)?.map(|known| known.network(self)).transpose()
            }
            None => self.podman_network(name),
            found => Ok(found),
        }
    }

    fn read_docker_network(&self, name: &NetworkName) -> Result<Option<DockerNetwork>> {
        let path = self.docker_network_path(name);
        trust::check_folder(&self.docker_networks_dir())?;
        let Some(text) = file::read(&path, LIMIT, Trust::Operator)? else { return Ok(None) };
        let read = json::of_version(&text, VERSION).map_err(|error| error.within(path.display()));
        read.map(Some).map_err(|error| {
            error.hint("remove the network in Docker, and create it again; nothing else makes this file anew")
        })
    }
}

impl Locked<'_> {
    /// Writes a network of Docker.
    ///
    /// # Errors
    /// [`Kind::Taken`] if another one has its name.
    pub(crate) fn write_docker_network(&self, network: &DockerNetwork) -> Result<()> {
        let name = DockerNetwork::name_of(&network.id)?;
        // One that cannot be read is written anew.
        let known = self.store.read_docker_network(&name).ok().flatten();
        if let Some(other) = known.filter(|other| other.id != network.id) {
            let text = format!("network {} begins with the same characters as {}", network.id, other.id);
            return Err(Error::new(Kind::Taken, text).hint("create it again: Docker gives it another id"));
        }
        // Nobody else may enter the data folder: it has a secret.
        file::make_folder(&self.store.docker_networks_dir(), 0o700)?;
        file::replace(&self.store.docker_network_path(&name), &to_json(network)?)
    }

    /// Removes the network `id` of Docker.
    ///
    /// # Errors
    /// When its file is still there.
    pub(crate) fn remove_docker_network(&self, id: &ContainerId) -> Result<()> {
        remove(&self.store.docker_network_path(&DockerNetwork::name_of(id)?))
    }
}

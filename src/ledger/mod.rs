//! Access to our files: settings and networks below the config dir, the ledger below the state dir, affinities
//! below the data dir, and the CDI file of engines below the CDI dir.
//!
//! `Store` reads, and writes what needs no lock: affinities, events, tasks of the agent, the state folder. `Locked` is a
//! `Store` with the lock, and writes all else. `record.rs`, `quarantine.rs` and
//! `event.rs` define the content of the files; `records.rs`, `leases.rs`, `segment_hints.rs` and `events.rs` read and write
//! them; `host_link.rs` does both.

mod affinity;
pub(crate) mod agent;
pub(crate) mod asked;
pub(crate) mod attached;
pub(crate) mod bitmap;
mod cdi;
pub(crate) mod dhcp_link;
pub(crate) mod docker;
pub(crate) mod event;
mod events;
pub(crate) mod holder;
mod host;
pub(crate) mod host_link;
mod host_text;
pub(crate) mod lease_link;
mod leases;
mod lock;
mod lock_file;
mod lock_holder;
mod namespaces;
mod parents;
mod podman;
pub(crate) mod quarantine;
pub(crate) mod record;
mod records;
pub(crate) mod resolv_conf;
pub(crate) mod segment_hints;
mod state_folder;
pub(crate) mod wall_clock;

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::fs::file::{self, Trust, remove};
use crate::fs::trust;
use crate::json;
use crate::ledger::record::{NEWEST, Record};
use crate::net::name::{ContainerId, NetworkName};

use host_text::Host;
pub(crate) use leases::Holding;
pub(crate) use lock::Locked;
use lock_file::LockFile;
pub(crate) use records::Released;
pub(crate) use state_folder::Folder;

/// The maximum size of our files.
const LIMIT: u64 = 4 * 1024 * 1024;

/// The hint for a damaged file of the ledger.
const REBUILD: &str = "`underlay gc` rebuilds it from the kernel's state";

/// The records of all containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// The readable records.
    pub sound: Vec<Record>,
    /// The containers with unreadable records, and the kind of the error.
    pub unknown: Vec<(ContainerId, Kind)>,
}

/// The common field of all files of the ledger.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Our files, below four folders.
#[derive(Debug, Default)]
pub(crate) struct Store {
    config_dir: PathBuf,
    state_dir: PathBuf,
    data_dir: PathBuf,
    cdi_dir: PathBuf,
    /// The lock file, once it was locked. A [`Locked`] has the mutex.
    lock: Mutex<Option<LockFile>>,
    /// True after the wait for a version that locks the folder itself.
    has_waited: AtomicBool,
    /// The state folder, once it was found to belong to root.
    folder: Mutex<Option<Folder>>,
    /// The metadata of the data dir, once it was found.
    data_folder: OnceLock<Metadata>,
    /// Key and machine id, once they were read.
    host: OnceLock<Host>,
}

impl Store {
    /// Returns the store of these folders, which need not exist.
    pub(crate) fn new(config_dir: PathBuf, state_dir: PathBuf, data_dir: PathBuf, cdi_dir: PathBuf) -> Self {
        Self { config_dir, state_dir, data_dir, cdi_dir, ..Self::default() }
    }

    /// Returns another store of the same folders: each thread that takes the lock has its own.
    pub(crate) fn another(&self) -> Self {
        let Self { config_dir, state_dir, data_dir, cdi_dir, .. } = self;
        Self::new(config_dir.clone(), state_dir.clone(), data_dir.clone(), cdi_dir.clone())
    }

    /// Returns the operator's settings, or the defaults if there is no file.
    pub(crate) fn settings(&self) -> Result<Settings> {
        trust::check_folder(&self.config_dir)?;
        let path = self.settings_path();
        match file::read(&path, LIMIT, Trust::Operator)? {
            Some(text) => Settings::from_json(&text).map_err(|error| error.within(path.display())),
            None => Ok(Settings::default()),
        }
    }

    pub(crate) fn settings_path(&self) -> PathBuf {
        self.config_dir.join("underlay.json")
    }

    /// Returns the definition of the network `name`.
    pub(crate) fn network(&self, name: &NetworkName) -> Result<Network> {
        let path = self.network_path(name);
        trust::check_folder(&self.networks_dir())?;
        match file::read(&path, LIMIT, Trust::Operator)? {
            Some(text) => Network::from_json(name, &text).map_err(|error| error.within(path.display())),
            None => Err(no_such_network(name, &self.network_names()?)),
        }
    }

    /// Returns true if the network `name` is defined and `is_so`. An invalid or unreadable definition may be so.
    fn may_be(&self, name: &NetworkName, is_so: impl Fn(&Network) -> bool) -> bool {
        match self.network_if_defined(name) {
            Ok(network) => network.as_ref().is_some_and(is_so),
            Err(error) => {
                ::log::warn!("{error}");
                true
            }
        }
    }

    /// Returns the definition of the network `name`, if there is one.
    pub(crate) fn network_if_defined(&self, name: &NetworkName) -> Result<Option<Network>> {
        match self.network(name) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            network => network.map(Some),
        }
    }

    pub(crate) fn has_network(&self, name: &NetworkName) -> Result<bool> {
        file::exists(&self.network_path(name))
    }

    /// Returns the names of all defined networks, in order. Files with invalid names are not ours.
    pub(crate) fn network_names(&self) -> Result<Vec<NetworkName>> {
        names_in(&self.networks_dir())
    }

    /// Returns the other networks on the parents of `networks`, underlay's and those that Docker has defined.
    ///
    /// # Errors
    /// When underlay's folder cannot be read. What else cannot be read is left out: others do not depend on it.
    pub(crate) fn networks_beside<'n>(
        &self,
        networks: impl Iterator<Item = &'n Network> + Clone,
    ) -> Result<Vec<Network>> {
        let is_meant = |name: &NetworkName| networks.clone().any(|network| network.name != *name);
        let own = self.network_names()?.into_iter().filter(is_meant).map(|name| self.network(&name));
        // Containers start without the data folder, too.
        let of_docker =
            self.docker_networks().inspect_err(|error| ::log::warn!("{error}")).unwrap_or_default();
        let of_docker = of_docker.into_iter().map(|known| known.network(self));
        let all = own.chain(of_docker).filter_map(Result::ok);
        let is_beside = |other: &Network| {
            networks.clone().any(|network| network.parent == other.parent && network.name != other.name)
        };
        Ok(all.filter(is_beside).collect())
    }

    /// Returns the record of the container `id`, if there is one.
    ///
    /// # Errors
    /// [`Kind::is_of_one_file`] if the record is unreadable.
    pub(crate) fn record(&self, id: &ContainerId) -> Result<Option<Record>> {
        let Some(record) = self.read_state::<Record>(&self.record_path(id))? else { return Ok(None) };
        if record.container != *id {
            let path = self.record_path(id);
            let text = format!("{} is the record of {}", path.display(), record.container);
            return Err(Error::new(Kind::Damaged, text).hint(REBUILD));
        }
        Ok(Some(record))
    }

    /// Returns the records of all containers.
    pub(crate) fn records(&self) -> Result<Records> {
        self.read_records(names_in(&self.containers_dir())?)
    }

    /// Returns the records of those of `containers` that have one.
    fn read_records(&self, containers: impl IntoIterator<Item = ContainerId>) -> Result<Records> {
        let mut records = Records::default();
        for id in containers {
            match self.record(&id) {
                Ok(record) => records.sound.extend(record),
                Err(error) if error.kind().is_of_one_file() => {
                    ::log::warn!("{error}");
                    records.unknown.push((id, error.kind()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// Returns the error of each unreadable file of the ledger.
    pub(crate) fn damaged(&self) -> Result<Vec<Error>> {
        let containers = names_in(&self.containers_dir())?;
        let mut damaged: Vec<Error> = containers.iter().filter_map(|id| self.record(id).err()).collect();
        damaged.extend(self.made_parents()?.iter().filter_map(|name| self.made_parent(name).err()));
        damaged.extend(self.host_links()?.iter().filter_map(|network| self.host_link(network).err()));
        damaged.extend(self.segments()?.iter().filter_map(|&segment| self.segment(segment).err()));
        Ok(damaged)
    }

    /// Returns true if there is a record. No record is read.
    pub(crate) fn has_records(&self) -> Result<bool> {
        let path = self.containers_dir();
        match fs::read_dir(&path) {
            Ok(mut entries) => Ok(entries.next().is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("read", &path, &error)),
        }
    }

    /// Returns the config dir, the state dir and the data dir.
    pub(crate) fn dirs(&self) -> [&Path; 3] {
        [&self.config_dir, &self.state_dir, &self.data_dir]
    }

    /// Returns the metadata of the data dir, if it exists. It is read only once.
    fn data_folder(&self) -> Result<Option<&Metadata>> {
        if let Some(metadata) = self.data_folder.get() {
            return Ok(Some(metadata));
        }
        match fs::metadata(&self.data_dir) {
            Ok(metadata) => Ok(Some(self.data_folder.get_or_init(|| metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &self.data_dir, &error)),
        }
    }

    fn read_state<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let damaged = |error: Error| Error::new(Kind::Damaged, error.to_string()).hint(REBUILD);
        let Some(text) = file::read(path, LIMIT, Trust::Own).map_err(|error| match error.kind() {
            Kind::Input => damaged(error),
            Kind::Io => error.of_kind(Kind::Unreadable),
            _ => error,
        })?
        else {
            return Ok(None);
        };
        let of_json = |error: Error| damaged(error.within(path.display()));
        let Versioned { version } = json::own(&text).map_err(of_json)?;
        if version > NEWEST {
            let text = format!("{} is of version {version}: a newer underlay has written it", path.display());
            return Err(Error::new(Kind::Newer, text).hint(format!("this underlay reads version {NEWEST}")));
        }
        json::own(&text).map(Some).map_err(of_json)
    }

    fn networks_dir(&self) -> PathBuf {
        self.config_dir.join("networks")
    }

    pub(crate) fn network_path(&self, name: &NetworkName) -> PathBuf {
        self.networks_dir().join(format!("{name}.json"))
    }

    fn containers_dir(&self) -> PathBuf {
        self.state_dir.join("containers")
    }

    pub(crate) fn record_path(&self, id: &ContainerId) -> PathBuf {
        self.containers_dir().join(format!("{id}.json"))
    }
}

/// Returns the error for a network that does not exist; `others` are existing ones.
pub(crate) fn no_such_network(name: &NetworkName, others: &[NetworkName]) -> Error {
    let others: Vec<_> = others.iter().map(NetworkName::as_str).collect();
    Error::new(Kind::NotFound, format!("network {name} does not exist")).hint(match others.as_slice() {
        [] => "there is none; `underlay network create` makes one".to_owned(),
        names => format!("there are: {}; `underlay network create` makes a new one", names.join(", ")),
    })
}

/// Returns the valid names of `.json` files in `folder`, in order.
fn names_in<T: FromStr + Ord>(folder: &Path) -> Result<Vec<T>> {
    let mut names = parsed_names(folder, ".json")?;
    names.sort();
    Ok(names)
}

/// Returns the valid names of entries of `folder` with `suffix`, without it.
fn parsed_names<T: FromStr>(folder: &Path, suffix: &str) -> Result<Vec<T>> {
    let name = |file: &OsString| file.to_str()?.strip_suffix(suffix)?.parse().ok();
    Ok(file_names(folder)?.iter().filter_map(name).collect())
}

/// Returns the paths of all entries of `folder`, in order; none if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(file_names(folder)?.into_iter().map(|name| folder.join(name)).collect())
}

/// Returns the names of all entries of `folder`, in order. There may be very many, and names compare faster
/// than paths.
fn file_names(folder: &Path) -> Result<Vec<OsString>> {
    let read = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
    let mut names: Vec<_> = match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| Error::io("read", folder, &error))?,
    };
    names.sort_unstable();
    Ok(names)
}

/// Writes a file of the ledger, and makes its folder if it is missing.
fn write_state(path: &Path, value: &impl Serialize) -> Result<()> {
    file::replace(path, &to_json(value)?)
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::bug(error.to_string()))?;
    text.push(b'\n');
    // A file above the limit could not be read again.
    if text.len() as u64 > LIMIT {
        return Err(Error::input(format!(
            "{} bytes are too many for one file, {LIMIT} are possible",
            text.len()
        )));
    }
    Ok(text)
}

#[cfg(test)]
pub(crate) mod tests;

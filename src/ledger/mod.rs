//! Access to our files: settings and networks below the config dir, the ledger below the state dir, hints
//! below the data dir, and the CDI file of engines below the CDI dir.
//!
//! `Store` reads. `Locked` is a `Store` with the lock, and writes. `record.rs`, `quarantine.rs` and
//! `event.rs` define the content of the files; `records.rs`, `leases.rs`, `segment_hints.rs` and `events.rs` read and write
//! them; `host_link.rs` does both.

mod affinity;
pub(crate) mod bitmap;
mod cdi;
mod damage;
pub(crate) mod event;
mod events;
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
pub(crate) mod quarantine;
pub(crate) mod record;
mod records;
pub(crate) mod segment_hints;
mod state_folder;

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
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
use crate::ledger::record::{Record, VERSION};
use crate::net::name::{ContainerId, NetworkName};

use host_text::Host;
pub(crate) use leases::Holding;
pub(crate) use lock::Locked;
use lock_file::Slot;
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
#[derive(Debug)]
pub(crate) struct Store {
    config_dir: PathBuf,
    state_dir: PathBuf,
    data_dir: PathBuf,
    cdi_dir: PathBuf,
    lock: Mutex<Slot>,
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
        Self {
            config_dir,
            state_dir,
            data_dir,
            cdi_dir,
            lock: Mutex::default(),
            has_waited: AtomicBool::new(false),
            folder: Mutex::default(),
            data_folder: OnceLock::new(),
            host: OnceLock::new(),
        }
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

    pub(crate) fn has_network(&self, name: &NetworkName) -> Result<bool> {
        file::exists(&self.network_path(name))
    }

    /// Returns the names of all defined networks, in order. Files with invalid names are not ours.
    pub(crate) fn network_names(&self) -> Result<Vec<NetworkName>> {
        names_in(&self.networks_dir())
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
        let mut records = Records::default();
        for id in names_in::<ContainerId>(&self.containers_dir())? {
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
        let Versioned { version } = json::object(&text).map_err(of_json)?;
        if version > VERSION {
            let text = format!("{} is of version {version}: a newer underlay has written it", path.display());
            return Err(Error::new(Kind::Newer, text).hint(format!("this underlay reads version {VERSION}")));
        }
        json::object(&text).map(Some).map_err(of_json)
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
        [] => "create it with `underlay network create`".to_owned(),
        names => format!("there are: {}; `underlay network create` makes a new one", names.join(", ")),
    })
}

/// Returns the valid names of `.json` files in `folder`, in order.
fn names_in<T: TryFrom<String> + Ord>(folder: &Path) -> Result<Vec<T>> {
    let name = |file: &OsString| T::try_from(file.to_str()?.strip_suffix(".json")?.to_owned()).ok();
    let mut names: Vec<T> = file_names(folder)?.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Returns the paths of all entries of `folder`, in order; none if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(file_names(folder)?.into_iter().map(|name| folder.join(name)).collect())
}

/// Returns the names of all entries of `folder`, in order. There may be very many, and names compare faster
/// than paths.
fn file_names(folder: &Path) -> Result<Vec<OsString>> {
    let failed = |error: io::Error| Error::io("read", folder, &error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
    let mut names = names.map_err(failed)?;
    names.sort_unstable();
    Ok(names)
}

/// Writes a file of the ledger, and makes its folder if it is missing.
fn write_state(path: &Path, value: &impl Serialize) -> Result<()> {
    file::replace(path, &to_json(value)?)
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::input(error.to_string()))?;
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
mod tests;

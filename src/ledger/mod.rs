//! The door to our files: settings and networks under the config dir, the ledger under the state dir, hints under the
//! data dir, and what engines read under the CDI dir.
//!
//! `Store` reads; `Locked` is a `Store` with the lock, and writes. `record.rs`, `host_link.rs`, `quarantine.rs` and
//! `event.rs` have what is in the files; `records.rs`, `leases.rs`, `host_links.rs`, `segment_hints.rs` and `events.rs`
//! read and write them.

mod affinity;
pub(crate) mod bitmap;
mod cdi;
mod damage;
pub(crate) mod event;
mod events;
mod host;
pub(crate) mod host_link;
mod host_links;
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

/// No file of ours is larger.
const LIMIT: u64 = 4 * 1024 * 1024;

/// What to do about a damaged file of the ledger.
const REBUILD: &str = "`underlay gc` writes it anew from what the kernel tells";

/// What is written of all containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// The records that can be read.
    pub sound: Vec<Record>,
    /// The containers whose records cannot, with the kind of the error.
    pub unknown: Vec<(ContainerId, Kind)>,
}

/// What every file of the ledger begins with.
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
    /// Whether a version that locks the folder itself was waited for.
    has_waited: AtomicBool,
    /// What the state folder was like when it was found, and found to be root's.
    folder: Mutex<Option<Folder>>,
    /// Whose the data dir is, from when it was found.
    data_folder: OnceLock<Metadata>,
    /// What this host is, from when that is first needed.
    host: OnceLock<Host>,
}

impl Store {
    /// The files below these folders, which need not exist.
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

    /// The operator's settings, or the defaults.
    ///
    /// # Errors
    /// When the file is there and wrong.
    pub(crate) fn settings(&self) -> Result<Settings> {
        trust::check_folder(&self.config_dir)?;
        let path = self.settings_path();
        match file::read(&path, LIMIT, Trust::Operator)? {
            Some(text) => Settings::from_json(&text).map_err(|error| error.within(path.display())),
            None => Ok(Settings::default()),
        }
    }

    /// Where the settings are.
    pub(crate) fn settings_path(&self) -> PathBuf {
        self.config_dir.join("underlay.json")
    }

    /// The definition of the network `name`.
    ///
    /// # Errors
    /// When there is none, or its file is wrong.
    pub(crate) fn network(&self, name: &NetworkName) -> Result<Network> {
        let path = self.network_path(name);
        trust::check_folder(&self.networks_dir())?;
        match file::read(&path, LIMIT, Trust::Operator)? {
            Some(text) => Network::from_json(name, &text).map_err(|error| error.within(path.display())),
            None => Err(no_such_network(name, &self.network_names()?)),
        }
    }

    /// Whether there is a definition of the network `name`.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn has_network(&self, name: &NetworkName) -> Result<bool> {
        file::exists(&self.network_path(name))
    }

    /// The names of all defined networks, in order. Files with other names are not ours.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn network_names(&self) -> Result<Vec<NetworkName>> {
        names_in(&self.networks_dir())
    }

    /// What the container `id` holds, if anything.
    ///
    /// # Errors
    /// When its record cannot be made out: [`Kind::is_of_one_file`].
    pub(crate) fn record(&self, id: &ContainerId) -> Result<Option<Record>> {
        let Some(record) = self.read_state::<Record>(&self.record_path(id))? else { return Ok(None) };
        if record.container != *id {
            let path = self.record_path(id);
            let text = format!("{} is the record of {}", path.display(), record.container);
            return Err(Error::new(Kind::Damaged, text).hint(REBUILD));
        }
        Ok(Some(record))
    }

    /// What all containers hold.
    ///
    /// # Errors
    /// When a file or the folder cannot be read.
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

    /// The folder of settings and networks, that of the ledger, and that of what is remembered.
    pub(crate) fn dirs(&self) -> [&Path; 3] {
        [&self.config_dir, &self.state_dir, &self.data_dir]
    }

    /// Whose the data dir is, if there is one; once it is found, it is not looked at again.
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

    /// Where the definition of the network `name` is.
    pub(crate) fn network_path(&self, name: &NetworkName) -> PathBuf {
        self.networks_dir().join(format!("{name}.json"))
    }

    fn containers_dir(&self) -> PathBuf {
        self.state_dir.join("containers")
    }

    /// The record of the container `id`.
    pub(crate) fn record_path(&self, id: &ContainerId) -> PathBuf {
        self.containers_dir().join(format!("{id}.json"))
    }
}

/// The error for a network that is not there, with the `others` to choose from.
pub(crate) fn no_such_network(name: &NetworkName, others: &[NetworkName]) -> Error {
    let others: Vec<_> = others.iter().map(NetworkName::as_str).collect();
    Error::new(Kind::NotFound, format!("network {name} does not exist")).hint(match others.as_slice() {
        [] => "create it with `underlay network create`".to_owned(),
        names => format!("there are: {}; `underlay network create` makes a new one", names.join(", ")),
    })
}

/// The names of type `T` that have a `.json` file in `folder`, in order.
fn names_in<T: TryFrom<String> + Ord>(folder: &Path) -> Result<Vec<T>> {
    let name = |file: &OsString| T::try_from(file.to_str()?.strip_suffix(".json")?.to_owned()).ok();
    let mut names: Vec<T> = file_names(folder)?.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// What `folder` holds, in order; nothing if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(file_names(folder)?.into_iter().map(|name| folder.join(name)).collect())
}

/// The names of what `folder` holds, in order. There may be very many: paths are compared part by part, names are not.
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

/// Writes a file of the ledger, in a folder that is made if need be.
fn write_state(path: &Path, value: &impl Serialize) -> Result<()> {
    file::replace(path, &to_json(value)?)
}

pub(crate) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::input(error.to_string()))?;
    text.push(b'\n');
    // What could not be read again is not written.
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

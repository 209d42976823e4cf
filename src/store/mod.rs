//! The door to our files: settings and networks under the config dir, the ledger under the state dir.

mod ledger;
mod lock;
mod log;
mod parents;
mod segments;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Kind, Result};
use crate::file;
use crate::json;
use crate::name::{ContainerId, NetworkName};
use crate::network::Network;
use crate::record::{Record, VERSION};
use crate::settings::Settings;

pub use ledger::{Holding, Present};
pub use lock::Locked;

/// No file of ours is larger.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Our files, below two folders.
#[derive(Clone, Debug)]
pub struct Store {
    config_dir: PathBuf,
    state_dir: PathBuf,
}

impl Store {
    /// The files below these folders, which need not exist.
    pub fn new(config_dir: PathBuf, state_dir: PathBuf) -> Self {
        Self { config_dir, state_dir }
    }

    /// The operator's settings, or the defaults.
    ///
    /// # Errors
    /// When the file is there and wrong.
    pub fn settings(&self) -> Result<Settings> {
        let path = self.config_dir.join("underlay.json");
        match file::read(&path, LIMIT)? {
            Some(text) => Settings::from_json(&text).map_err(|error| error.within(path.display())),
            None => Ok(Settings::default()),
        }
    }

    /// The definition of the network `name`.
    ///
    /// # Errors
    /// When there is none, or its file is wrong.
    pub fn network(&self, name: &NetworkName) -> Result<Network> {
        let path = self.network_path(name);
        match file::read(&path, LIMIT)? {
            Some(text) => Network::from_json(name, &text).map_err(|error| error.within(path.display())),
            None => Err(Error::new(Kind::NotFound, format!("network {name} does not exist")).hint(
                match self.network_names()?.as_slice() {
                    [] => "create it with `underlay network create`".to_owned(),
                    names => {
                        let names: Vec<_> = names.iter().map(NetworkName::as_str).collect();
                        format!("there are: {}; `underlay network create` makes a new one", names.join(", "))
                    }
                },
            )),
        }
    }

    /// Whether there is a definition of the network `name`.
    pub fn has_network(&self, name: &NetworkName) -> bool {
        self.network_path(name).exists()
    }

    /// The names of all defined networks, in order. Files with other names are not ours.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn network_names(&self) -> Result<Vec<NetworkName>> {
        names_in(&self.config_dir.join("networks"))
    }

    /// What the container `id` holds, if anything.
    ///
    /// # Errors
    /// When its record is damaged.
    pub fn record(&self, id: &ContainerId) -> Result<Option<Record>> {
        let Some(record) = self.read_state::<Record>(&self.record_path(id))? else { return Ok(None) };
        if record.version != VERSION || record.container != *id {
            return Err(Error::input(format!(
                "{} is not the record of {id}",
                self.record_path(id).display()
            )));
        }
        Ok(Some(record))
    }

    /// What all containers hold; damaged records are left out, with a warning.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for id in names_in::<ContainerId>(&self.state_dir.join("containers"))? {
            match self.record(&id) {
                Ok(record) => records.extend(record),
                Err(error) => ::log::warn!("{error}"),
            }
        }
        Ok(records)
    }

    fn read_state<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let Some(text) = file::read(path, LIMIT)? else { return Ok(None) };
        let value = json::object(&text).map_err(|error| {
            error.within(path.display()).hint("the file is damaged; remove it once its container is gone")
        })?;
        Ok(Some(value))
    }

    fn network_path(&self, name: &NetworkName) -> PathBuf {
        self.config_dir.join("networks").join(format!("{name}.json"))
    }

    fn record_path(&self, id: &ContainerId) -> PathBuf {
        self.state_dir.join("containers").join(format!("{id}.json"))
    }
}

/// The names of type `T` that have a `.json` file in `folder`, in order.
fn names_in<T: TryFrom<String> + Ord>(folder: &Path) -> Result<Vec<T>> {
    let name =
        |path: &PathBuf| T::try_from(path.file_name()?.to_str()?.strip_suffix(".json")?.to_owned()).ok();
    let mut names: Vec<T> = entries(folder)?.iter().filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// What `folder` holds, in order; nothing if it does not exist.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: io::Error| Error::io("read", folder, &error);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Writes a file of the ledger, in a folder that is made if need be.
fn write_state(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = to_json(value)?;
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        file::make_folder(folder, 0o700)?;
    }
    file::replace(path, &text)
}

/// Removes the file `path`; one that is gone is no error.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, &error)),
        _ => Ok(()),
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| Error::input(error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

//! The host's secrets: the key that seals marks of links, and the machine id that MAC addresses are derived
//! from. Both are the text of one symbolic link, `DATA_DIR/host`, so that an attach reads them by one
//! readlink(2).
//!
//! The link is made once, under the ledger's lock, and replaced as a whole, so that concurrent or killed
//! hooks leave a valid one or none. A process that can read the link knows the key, so it counts only if the
//! data dir is private to root. If the link is lost, a new key is made, and `underlay gc` seals the marks of
//! all links in the ledger again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host_text::{Host, MachineId, machine_id_of};
use super::{Locked, Store};
use crate::error::Result;
use crate::escape::shell;
use crate::fs::file::{self, Trust};
use crate::fs::trust;
use crate::net::link::Link;
use crate::net::seal::Key;

/// machine-id(5): unique for each installation, and the same after each boot.
const MACHINE_ID: &str = "/etc/machine-id";

impl Store {
    /// Returns the key, and makes it if there is none; `timeout` is for the lock. After an error marks prove
    /// nothing, but containers start.
    pub(crate) fn key(&self, timeout: Duration) -> Result<&Key> {
        match self.known_key()? {
            Some(key) => Ok(key),
            None => self.lock(timeout)?.make_host().map(|host| &host.key),
        }
    }

    /// Returns the key, if there is one. It is an error if others than root could read it.
    pub(crate) fn known_key(&self) -> Result<Option<&Key>> {
        Ok(self.host()?.map(|host| &host.key))
    }

    /// Returns the key from which MAC addresses of links on `parent` are derived: the machine id, else the
    /// MAC address of `parent`, which is unique on its segment too.
    pub(crate) fn machine_key(&self, parent: &Link) -> MachineId {
        let machine = match self.host() {
            Ok(Some(host)) => host.machine,
            // The error is reported where the key is needed.
            Ok(None) | Err(_) => known_machine_id(),
        };
        machine.unwrap_or_else(|| {
            log::info!("there is no machine id: MAC addresses are derived from the parent's");
            let mut key = [0; 16];
            let bytes = parent.mac.map(|mac| mac.0).unwrap_or_default();
            key.iter_mut().zip(bytes).for_each(|(key, byte)| *key = byte);
            key
        })
    }

    pub(crate) fn host_path(&self) -> PathBuf {
        self.data_dir.join("host")
    }

    /// Returns key and machine id, if they are written and the data dir is private.
    fn host(&self) -> Result<Option<&Host>> {
        if let Some(host) = self.host.get() {
            return Ok(Some(host));
        }
        Ok(self.read_host()?.map(|host| self.host.get_or_init(|| host)))
    }

    fn read_host(&self) -> Result<Option<Host>> {
        let Some(folder) = self.data_folder()? else { return Ok(None) };
        trust::check_private(&self.data_dir, folder).map_err(|error| error.hint(self.make_private()))?;
        Ok(file::read_link(&self.host_path())?.and_then(|text| Host::of_text(text.to_str()?)))
    }

    /// Returns the hint for a data dir that is not private. Others may know the key or have made it, so it is
    /// replaced.
    fn make_private(&self) -> String {
        let folder = shell::path(&self.data_dir);
        let host = shell::path(&self.host_path());
        format!("`chown root {folder} && chmod 700 {folder} && rm -f {host}`: another key is made")
    }
}

impl<'a> Locked<'a> {
    /// Writes the link if it is missing or invalid.
    fn make_host(&self) -> Result<&'a Host> {
        let store = self.store;
        file::make_folder(&store.data_dir, 0o700)?;
        // Another process may have been faster.
        if let Some(host) = store.host()? {
            return Ok(host);
        }
        let path = store.host_path();
        // A folder, which a link cannot replace, is removed too.
        file::remove(&path)?;
        let host = Host::new(known_machine_id())?;
        file::replace_link(&path, Path::new(&host.text()))?;
        Ok(store.host.get_or_init(|| host))
    }

    /// Updates the machine id of the link if this host has another one: the link came with an image or a
    /// clone of another machine. The affinity of identities came with it, and is forgotten. The key stays,
    /// because links that are sealed with it may exist. Returns true if the machine id has changed; a
    /// `dry_run` changes nothing. This process still derives MAC addresses from the old id.
    pub(crate) fn follow_machine(&self, dry_run: bool) -> Result<bool> {
        self.follow(known_machine_id(), dry_run)
    }

    fn follow(&self, now: Option<MachineId>, dry_run: bool) -> Result<bool> {
        let store = self.store;
        // An error is reported where the key is needed. Without a machine id, nothing says that this is
        // another machine.
        let (Ok(Some(host)), Some(now)) = (store.read_host(), now) else { return Ok(false) };
        if host.machine == Some(now) {
            return Ok(false);
        }
        if !dry_run {
            // First, so that after a kill in between the next call does both.
            store.forget_affinities()?;
            let host = Host { machine: Some(now), ..host };
            file::replace_link(&store.host_path(), Path::new(&host.text()))?;
        }
        Ok(true)
    }
}

/// Returns the machine id, if it can be read.
fn known_machine_id() -> Option<MachineId> {
    let read = file::read(Path::new(MACHINE_ID), 64, Trust::Operator);
    let text = read.inspect_err(|error| log::info!("{error}")).ok()??;
    machine_id_of(std::str::from_utf8(&text).ok()?.trim_end())
}

#[cfg(test)]
mod tests;

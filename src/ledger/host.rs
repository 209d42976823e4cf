//! What this host is: the key that the marks of its links are sealed with, and the machine id that MAC addresses are derived
//! from. Both are the text of one symbolic link, `DATA_DIR/host`, so that an attach has them by one readlink(2).
//!
//! It is made once, under the ledger's lock, and replaced as a whole: two hooks make one, and one that is killed leaves
//! none. Who can read the link knows the key, so it counts only in a data dir that is for root alone. Nothing breaks when
//! it is lost: another one is made, and `underlay gc` seals the marks of all that is in the ledger.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host_text::{Host, MachineId, machine_id_of};
use super::{Locked, Store};
use crate::error::{Error, Result};
use crate::escape::shell;
use crate::fs::file::{self, Trust};
use crate::fs::trust;
use crate::net::link::Link;
use crate::net::seal::Key;

/// machine-id(5): made once for each installation, the same after each boot.
const MACHINE_ID: &str = "/etc/machine-id";

impl Store {
    /// The key, made where there is none; `timeout` is for the lock.
    ///
    /// # Errors
    /// When it cannot be had: then marks prove nothing, and containers start all the same.
    pub(crate) fn key(&self, timeout: Duration) -> Result<&Key> {
        match self.known_key()? {
            Some(key) => Ok(key),
            None => self.lock(timeout)?.make_host().map(|host| &host.key),
        }
    }

    /// The key, if there is one.
    pub(crate) fn known_key(&self) -> Result<Option<&Key>> {
        Ok(self.host()?.map(|host| &host.key))
    }

    /// What MAC addresses of links on `parent` are derived by: the machine id; where there is none, the MAC address of
    /// `parent`, which is unique on its segment too.
    pub(crate) fn machine_key(&self, parent: &Link) -> MachineId {
        let machine = match self.host() {
            Ok(Some(host)) => host.machine,
            // Why it does not count is told where the key is needed.
            Ok(None) | Err(_) => told_machine_id(),
        };
        machine.unwrap_or_else(|| {
            log::info!("there is no machine id: MAC addresses are derived from the parent's");
            let mut key = [0; 16];
            let bytes = parent.mac.map(|mac| mac.bytes()).unwrap_or_default();
            key.iter_mut().zip(bytes).for_each(|(key, byte)| *key = byte);
            key
        })
    }

    /// Where it is written.
    pub(crate) fn host_path(&self) -> PathBuf {
        self.data_dir.join("host")
    }

    /// What this host is, if that is written and counts.
    fn host(&self) -> Result<Option<&Host>> {
        if let Some(host) = self.host.get() {
            return Ok(Some(host));
        }
        Ok(self.read_host()?.map(|host| self.host.get_or_init(|| host)))
    }

    fn read_host(&self) -> Result<Option<Host>> {
        let Some(folder) = self.data_folder()? else { return Ok(None) };
        trust::check_private(&self.data_dir, folder).map_err(|error| error.hint(self.make_private()))?;
        let path = self.host_path();
        match fs::read_link(&path) {
            Ok(text) => Ok(text.to_str().and_then(Host::of_text)),
            // None, or something else in its place.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
                Ok(None)
            }
            Err(error) => Err(Error::io("read", &path, &error)),
        }
    }

    /// What makes the data dir private. Whoever could read or write in it may know the key, or have made it.
    fn make_private(&self) -> String {
        let folder = shell::path(&self.data_dir);
        let host = shell::path(&self.host_path());
        format!("`chown root {folder} && chmod 700 {folder} && rm -f {host}`: another key is made")
    }
}

impl<'a> Locked<'a> {
    /// What this host is, written where nobody has written it yet, or something that makes no sense.
    fn make_host(&self) -> Result<&'a Host> {
        let store = self.store;
        file::make_folder(&store.data_dir, 0o700)?;
        // Another process may have been faster.
        if let Some(host) = store.host()? {
            return Ok(host);
        }
        let path = store.host_path();
        // Even a folder: a link cannot take its place.
        file::remove(&path)?;
        file::replace_link(&path, Path::new(&Host::new(told_machine_id())?.text()))?;
        store.host()?.ok_or_else(|| Error::input(format!("{} was written and is gone", path.display())))
    }

    /// Goes by the machine id that this host has by now, where the link tells another one: it is an image's, or that of the
    /// machine that this one was cloned from, and so is what identities had, which is forgotten. The key stays, for links
    /// that are sealed with it may be there. Whether there was anything to do; with `dry_run` it is not done. This process
    /// derives MAC addresses as before.
    pub(crate) fn follow_machine(&self, dry_run: bool) -> Result<bool> {
        self.follow(told_machine_id(), dry_run)
    }

    fn follow(&self, now: Option<MachineId>, dry_run: bool) -> Result<bool> {
        let store = self.store;
        // What does not count is told where the key is needed. Without a machine id nothing says that this is another
        // machine.
        let (Ok(Some(host)), Some(now)) = (store.read_host(), now) else { return Ok(false) };
        if host.machine == Some(now) {
            return Ok(false);
        }
        if !dry_run {
            // First: who is killed in between begins anew.
            store.forget_hints()?;
            let host = Host { machine: Some(now), ..host };
            file::replace_link(&store.host_path(), Path::new(&host.text()))?;
        }
        Ok(true)
    }
}

/// The machine id, if there is one that can be read.
fn told_machine_id() -> Option<MachineId> {
    machine_id().inspect_err(|error| log::info!("{error}")).ok().flatten()
}

fn machine_id() -> Result<Option<MachineId>> {
    let text = file::read(Path::new(MACHINE_ID), 64, Trust::Operator)?;
    Ok(text.and_then(|text| machine_id_of(std::str::from_utf8(&text).ok()?.trim_end())))
}

#[cfg(test)]
mod tests;

//! Index of network namespaces that several containers can share: `namespaces/DEVICE-INODE/ID`, a symbolic
//! link to the record. So the records of a pod are found without reading all records. A namespace that the
//! runtime makes for one container, and that has no path, is not in the index.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::{Locked, Store, entries, parsed_names};
use crate::error::Result;
use crate::fs::file::{self, remove};
use crate::ledger::lease_link::lease_target;
use crate::ledger::record::Record;
use crate::net::name::ContainerId;
use crate::net::netns::Netns;

impl Store {
    fn namespaces_dir(&self) -> PathBuf {
        self.state_dir.join("namespaces")
    }

    /// Makes the folder of the index. Without it all records are read.
    pub(super) fn make_namespaces_dir(&self) -> Result<()> {
        file::make_subfolder(&self.namespaces_dir(), 0o700)
    }

    fn namespace_dir(&self, netns: &Netns) -> PathBuf {
        self.namespaces_dir().join(format!("{}-{}", netns.device, netns.inode))
    }

    /// Returns the path of the container's link in the index, if others can join its namespace.
    pub(crate) fn namespace_link(&self, record: &Record) -> Option<PathBuf> {
        let netns = record.holder.netns();
        netns.path.as_ref().map(|_| self.namespace_dir(netns).join(record.container.as_str()))
    }

    /// Returns true if containers may share `netns`.
    pub(crate) fn is_shared(&self, netns: &Netns) -> Result<bool> {
        // Without an index, only the records say.
        Ok(file::exists(&self.namespace_dir(netns))? || !file::exists(&self.namespaces_dir())?)
    }

    /// Returns the readable records of containers in the indexed namespace `netns`.
    pub(crate) fn records_in(&self, netns: &Netns) -> Result<Vec<Record>> {
        // A version without the index has made the state folder.
        if !file::exists(&self.namespaces_dir())? {
            let mut records = self.records()?.sound;
            records.retain(|record| record.holder.netns().is(netns));
            return Ok(records);
        }
        self.records_of(netns, parsed_names(&self.namespace_dir(netns), "")?)
    }

    /// Returns the readable records of those of `containers` that are in `netns`.
    pub(crate) fn records_of(
        &self,
        netns: &Netns,
        containers: impl IntoIterator<Item = ContainerId>,
    ) -> Result<Vec<Record>> {
        // An unreadable record must not keep another container from starting.
        let mut records = self.read_records(containers)?.sound;
        records.retain(|record| record.holder.netns().is(netns));
        Ok(records)
    }

    /// Returns the record with the links that the container of `record` shares, if they are not its own.
    pub(crate) fn shared_by(&self, record: &Record) -> Result<Option<Record>> {
        record.shared_with().map_or(Ok(None), |first| self.record(first))
    }

    /// Returns the index links of containers without a record.
    pub(super) fn stray_namespace_links(&self) -> Result<Vec<PathBuf>> {
        let mut stray = Vec::new();
        for folder in entries(&self.namespaces_dir())? {
            for link in entries(&folder)? {
                let id = link.file_name().and_then(|name| name.to_str()?.parse::<ContainerId>().ok());
                let is_known = id.is_some_and(|id| file::exists(&self.record_path(&id)).unwrap_or(true));
                stray.extend((!is_known).then_some(link));
            }
        }
        Ok(stray)
    }
}

impl Locked<'_> {
    /// Makes the index, if a version without it has made the state folder.
    pub(crate) fn index_namespaces(&self) -> Result<()> {
        if file::exists(&self.store.namespaces_dir())? {
            return Ok(());
        }
        self.store.make_namespaces_dir()?;
        self.store.records()?.sound.iter().try_for_each(|record| self.enter_namespace(record))
    }

    /// Adds the container of `record` to the index, if others can join its namespace.
    pub(super) fn enter_namespace(&self, record: &Record) -> Result<()> {
        let Some(link) = self.store.namespace_link(record) else { return Ok(()) };
        let target = lease_target(&record.container);
        let mut made = symlink(&target, &link);
        if made.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            self.index_namespaces()?;
            file::make_subfolder(&self.store.namespace_dir(record.holder.netns()), 0o700)?;
            made = symlink(&target, &link);
        }
        file::ignoring(&[ErrorKind::AlreadyExists], "create", &link, made)
    }

    /// Removes the container of `record` from the index.
    pub(super) fn leave_namespace(&self, record: &Record) -> Result<()> {
        let Some(link) = self.store.namespace_link(record) else { return Ok(()) };
        remove(&link)?;
        // The folder may not be empty: other containers are in the namespace.
        let _ = link.parent().map(fs::remove_dir);
        Ok(())
    }
}

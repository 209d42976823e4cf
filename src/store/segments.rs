//! The ledger by segments: what is leased on the link of each, and by whom.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Holding, Locked, Store, entries, remove};
use crate::error::Result;
use crate::record::Record;

impl Store {
    /// The ifindexes of all segments that have been used.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn segments(&self) -> Result<Vec<u32>> {
        let paths = entries(&self.state_dir.join("segments"))?;
        Ok(paths.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
    }

    /// The addresses that are leased on `segment`.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn held(&self, segment: u32) -> Result<Vec<IpAddr>> {
        let paths = entries(&self.segment_dir(segment))?;
        Ok(paths.iter().filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect())
    }
}

impl Locked<'_> {
    /// The leases on `segment` that are nobody's, and the records of the containers that hold the others.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn leases(&self, segment: u32) -> Result<(Vec<PathBuf>, Vec<Record>)> {
        let mut orphans = Vec::new();
        let mut holders = BTreeMap::new();
        for path in entries(&self.store.segment_dir(segment))? {
            match self.store.holding(segment, &path) {
                Some(Holding::Nobody) => orphans.push(path),
                Some(Holding::Container(record)) => {
                    holders.insert(record.container.clone(), *record);
                }
                None => {}
            }
        }
        Ok((orphans, holders.into_values().collect()))
    }

    /// Removes a lease that is nobody's.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn sweep(&self, orphan: &Path) -> Result<()> {
        remove(orphan)
    }
}

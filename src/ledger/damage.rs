//! Unreadable files of the ledger.

use super::{Store, names_in};
use crate::error::{Error, Result};
use crate::net::name::ContainerId;

impl Store {
    /// Returns the error of each unreadable file of the ledger.
    pub(crate) fn damaged(&self) -> Result<Vec<Error>> {
        let containers = names_in::<ContainerId>(&self.containers_dir())?;
        let mut damaged: Vec<Error> = containers.iter().filter_map(|id| self.record(id).err()).collect();
        damaged.extend(self.made_parents()?.iter().filter_map(|name| self.made_parent(name).err()));
        damaged.extend(self.host_links()?.iter().filter_map(|network| self.host_link(network).err()));
        let segment = |segment: &u32| self.segment(*segment).err();
        damaged.extend(self.segments()?.iter().filter_map(segment));
        Ok(damaged)
    }
}

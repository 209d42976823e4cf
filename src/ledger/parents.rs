//! Records of parents that underlay has made: `parents/NAME.json`.

use std::path::PathBuf;

use super::{Locked, Store, names_in, remove, write_state};
use crate::config::network::Network;
use crate::error::Result;
use crate::ledger::record::Record;
use crate::net::name::IfName;
use crate::net::parent::{MadeParent, ParentSpec};

impl Store {
    /// Returns the record of the parent `name`, if underlay has made it.
    pub(crate) fn made_parent(&self, name: &IfName) -> Result<Option<MadeParent>> {
        self.read_state(&self.parent_path(name))
    }

    /// Returns the names of all parents that underlay has made.
    pub(crate) fn made_parents(&self) -> Result<Vec<IfName>> {
        names_in(&self.parents_dir())
    }

    /// Returns true if a network, or a container whose record `counts`, needs the parent `name` or a link
    /// above it.
    pub(crate) fn needs_parent(&self, name: &IfName, counts: impl Fn(&Record) -> bool) -> Result<bool> {
        let stands_on = |network: &Network| {
            let base = network.recipe().ok().flatten().and_then(|recipe| recipe.base().cloned());
            self.stands_on(&network.parent, name) || base.is_some_and(|base| self.stands_on(&base, name))
        };
        if self.network_names()?.iter().any(|network| self.may_be(network, stands_on)) {
            return Ok(true);
        }
        let of_docker = self.docker_networks()?;
        if of_docker.iter().any(|network| network.network(self).is_ok_and(|network| stands_on(&network))) {
            return Ok(true);
        }
        let records = self.records()?;
        // An unreadable record may refer to the parent: keep it.
        if !records.unknown.is_empty() {
            return Ok(true);
        }
        let counted = records.sound.iter().filter(|record| counts(record));
        Ok(counted.flat_map(|record| record.attachments()).any(|a| self.stands_on(&a.parent, name)))
    }

    /// Returns true if `parent` is the link `base`, or a VLAN above it.
    fn stands_on(&self, parent: &IfName, base: &IfName) -> bool {
        self.below(parent).any(|link| link == *base)
    }

    /// Returns the number of links in the stack of the parent `name`, as far as it is known.
    pub(crate) fn height(&self, name: &IfName) -> usize {
        self.below(name).count()
    }

    /// Returns the parent `name` and the links below it: by its record, else by its name.
    fn below(&self, name: &IfName) -> impl Iterator<Item = IfName> {
        let base = |name: &IfName| {
            let made = self.made_parent(name).ok().flatten().map(|parent| parent.recipe);
            let recipe = made.or_else(|| ParentSpec::of_name(name).ok().flatten())?;
            recipe.base().cloned()
        };
        // The kernel stacks eight links at most (MAX_NEST_DEV), whatever a damaged file says.
        std::iter::successors(Some(name.clone()), base).take(8)
    }

    pub(super) fn parents_dir(&self) -> PathBuf {
        self.state_dir.join("parents")
    }

    pub(crate) fn parent_path(&self, name: &IfName) -> PathBuf {
        self.parents_dir().join(format!("{name}.json"))
    }
}

impl Locked<'_> {
    pub(crate) fn write_parent(&self, parent: &MadeParent) -> Result<()> {
        write_state(&self.store.parent_path(&parent.name), parent)
    }

    pub(crate) fn forget_parent(&self, name: &IfName) -> Result<()> {
        remove(&self.store.parent_path(name))
    }
}

//! Leases while they are made: those of one container, or of one link of the host, all of them or none.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::fs::file::remove;
use crate::ledger::record::Record;
use crate::ledger::{Holding, Locked, Store};
use crate::net::lease_key::LeaseKey;

/// Leases that are made, or that would be.
pub(crate) struct LeaseTable<'a> {
    pub(crate) store: &'a Store,
    mode: Mode<'a>,
    made: Vec<PathBuf>,
}

enum Mode<'a> {
    /// With the lock they are made.
    Real(&'a Locked<'a>),
    /// Without it they are only looked at; and whether a holder, or nobody, would have to give way.
    Preview(&'a dyn Fn(Option<&Record>) -> bool),
}

impl<'a> LeaseTable<'a> {
    pub(crate) fn real(locked: &'a Locked<'a>) -> Self {
        Self { store: locked.store(), mode: Mode::Real(locked), made: Vec::new() }
    }

    pub(crate) fn preview(store: &'a Store, gives_way: &'a dyn Fn(Option<&Record>) -> bool) -> Self {
        Self { store, mode: Mode::Preview(gives_way), made: Vec::new() }
    }

    /// The lock, if anything is to be written.
    pub(crate) fn locked(&self) -> Option<&'a Locked<'a>> {
        match self.mode {
            Mode::Real(locked) => Some(locked),
            Mode::Preview(_) => None,
        }
    }

    /// Leases `claim`, by a link to `target`, if nobody holds it.
    ///
    /// # Errors
    /// When that cannot be told.
    pub(crate) fn lease(&mut self, segment: u32, claim: LeaseKey, target: &Path) -> Result<bool> {
        let path = self.store.lease_path(segment, claim);
        match self.mode {
            Mode::Real(_) => match symlink(target, &path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                Err(error) => return Err(Error::io("create", &path, &error)),
            },
            Mode::Preview(gives_way) => {
                if self.made.contains(&path) || !self.would_be_free(segment, claim, gives_way)? {
                    return Ok(false);
                }
            }
        }
        self.made.push(path);
        Ok(true)
    }

    fn would_be_free(
        &self,
        segment: u32,
        claim: LeaseKey,
        gives_way: &dyn Fn(Option<&Record>) -> bool,
    ) -> Result<bool> {
        if fs::symlink_metadata(self.store.lease_path(segment, claim)).is_err() {
            return Ok(true);
        }
        Ok(match self.store.holding(segment, claim)? {
            Holding::Container(record) => gives_way(Some(&record)),
            Holding::Nobody => gives_way(None),
            Holding::Unknown(_) | Holding::Host(_) => false,
        })
    }

    /// Whether `claim` is one of these.
    pub(crate) fn has_made(&self, segment: u32, claim: LeaseKey) -> bool {
        self.made.contains(&self.store.lease_path(segment, claim))
    }

    /// Removes the leases that were made for nothing.
    pub(crate) fn give_back(&self) {
        for lease in self.made.iter().filter(|_| self.locked().is_some()) {
            // Else it is nobody's, and swept when it is needed.
            if let Err(error) = remove(lease) {
                ::log::warn!("{error}");
            }
        }
    }
}

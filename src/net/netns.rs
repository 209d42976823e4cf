//! The identity of a network namespace.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A network namespace by identity, and by path if something other than the process keeps it alive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Netns {
    /// Device of the namespace file.
    pub device: u64,
    /// Inode of the namespace file.
    pub inode: u64,
    /// The path config.json names, if the namespace was made before the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl Netns {
    /// Its device and inode.
    pub(crate) fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Whether it is the same namespace as `other`, by whatever path.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "network namespace {}", path.display()),
            None => write!(f, "network namespace net:[{}]", self.inode),
        }
    }
}

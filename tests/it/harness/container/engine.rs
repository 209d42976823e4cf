//! Engines that start containers.

use std::fmt;
use std::sync::OnceLock;

use crate::harness::need;

/// What starts a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A process in a namespace of its own; the hook is called as a runtime would.
    Bare,
    Crun,
    Runc,
    Podman,
}

impl Engine {
    /// The engines people use.
    pub const REAL: [Self; 3] = [Self::Crun, Self::Runc, Self::Podman];
    pub const ALL: [Self; 4] = [Self::Bare, Self::Crun, Self::Runc, Self::Podman];

    pub fn program(self) -> &'static str {
        match self {
            Self::Bare => "unshare",
            Self::Crun => "crun",
            Self::Runc => "runc",
            Self::Podman => "podman",
        }
    }

    /// Why this engine starts no containers here, if it does not.
    pub fn missing(self) -> Option<String> {
        static KNOWN: [OnceLock<Option<String>>; 4] = [const { OnceLock::new() }; 4];
        KNOWN[self as usize].get_or_init(|| need::engine_works(self)).clone()
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            _ => self.program(),
        })
    }
}

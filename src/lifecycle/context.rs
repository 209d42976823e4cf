//! The context of each operation: files, settings, and the host's network namespace.

use std::cell::OnceCell;

use crate::config::settings::Settings;
use crate::error::Result;
use crate::kernel::NetnsFile;
use crate::ledger::{Locked, Store};
use crate::netlink::Socket;

/// Files, settings, and access to the host's network namespace.
pub(crate) struct Context<'a> {
    pub store: &'a Store,
    pub settings: Settings,
    pub host_netns: HostNetns,
    /// A netlink socket in the host's network namespace.
    pub host_netlink: Socket,
}

/// The host's network namespace, opened on first use.
#[derive(Default)]
pub(crate) struct HostNetns(OnceCell<NetnsFile>);

impl HostNetns {
    /// Returns the host's network namespace: that of the thread that calls this first.
    pub(crate) fn get(&self) -> Result<&NetnsFile> {
        match self.0.get() {
            Some(netns) => Ok(netns),
            None => NetnsFile::own().map(|netns| self.0.get_or_init(|| netns)),
        }
    }
}

impl<'a> Context<'a> {
    /// Returns the context of the calling thread, which is in the host's network namespace.
    pub(crate) fn new(store: &'a Store) -> Result<Self> {
        Ok(Self::with(store, store.settings()?))
    }

    /// As [`Context::new`], with the defaults if the settings cannot be read. Wrong settings stop the next
    /// attach, but they must not keep links and leases of ended containers.
    pub(crate) fn for_removal(store: &'a Store) -> Self {
        let settings = store.settings().unwrap_or_else(|error| {
            log::warn!("{error}");
            Settings::default()
        });
        Self::with(store, settings)
    }

    fn with(store: &'a Store, settings: Settings) -> Self {
        Self { store, settings, host_netns: HostNetns::default(), host_netlink: Socket::when_needed() }
    }

    pub(crate) fn lock(&self) -> Result<Locked<'a>> {
        self.store.lock(self.settings.lock_timeout())
    }
}

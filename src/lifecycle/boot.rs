//! The story of a boot: what of the networks lies on the host is made again, before the first container asks for it.
//!
//! Nothing depends on it: an attach makes what it misses. But a service of the host's may want an address or a
//! sub-interface earlier than that, and an operator wants to hear of a parent that is missing.

use crate::config::settings::Settings;
use crate::error::{Error, Result};
use crate::kernel::NetnsFile;
use crate::ledger::Store;
use crate::lifecycle::gc;
use crate::lifecycle::host_access;
use crate::lifecycle::parents;
use crate::lifecycle::repair;
use crate::net::name::NetworkName;
use crate::netlink::Socket;

/// What a boot came to.
#[derive(Debug, Default)]
pub(crate) struct Boot {
    /// What was done, as commands that do the same.
    pub done: Vec<String>,
    /// What was not, of one network each; the others are as they should be.
    pub failed: Vec<Error>,
}

/// Makes the parents of all networks that have to be made, VLANs and dummies, as the first attach would; has the host's
/// own links that need no container stay ([`host_access::keep`]); and collects the garbage, which makes these links too.
///
/// # Errors
/// When settings, networks or kernel cannot be read at all. What is wrong with one network is among what failed.
pub(crate) fn boot(store: &Store) -> Result<Boot> {
    let settings = store.settings()?;
    let mut host = Socket::open()?;
    // What is made by a ledger that knows of no container would take the place of what they need.
    repair::recover(store, &settings, &NetnsFile::own()?, &mut host)?;
    let mut boot = Boot::default();
    for name in store.network_names()? {
        match prepare(store, &settings, &name, &mut host) {
            Ok(steps) => boot.done.extend(steps),
            Err(error) => boot.failed.push(error),
        }
    }
    match gc::gc(store, false, false) {
        Ok(collected) => {
            boot.done.extend(collected.done);
            boot.failed.extend(collected.failed);
        }
        Err(error) => boot.failed.push(error),
    }
    Ok(boot)
}

fn prepare(store: &Store, settings: &Settings, name: &NetworkName, host: &mut Socket) -> Result<Vec<String>> {
    let network = store.network(name)?;
    // As an attach does: a parent that is there must be fit, too.
    parents::find(&network, host)?;
    host_access::refuse_foreign(&network, host)?;
    let locked = store.lock(settings.lock_timeout())?;
    let (_, steps) = parents::foresee(&network, host)?;
    let parent = parents::ensure(&locked, &network, host)?;
    host_access::keep(&locked, &network, &parent)?;
    Ok(steps.iter().map(ToString::to_string).collect())
}

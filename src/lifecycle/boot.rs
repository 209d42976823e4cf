//! The story of a boot: what of the networks lies on the host is made again, before the first container asks for it.
//!
//! Nothing depends on it: an attach makes what it misses. But a service of the host's may want an address or a
//! sub-interface earlier than that, and an operator wants to hear of a parent that is missing.

use crate::error::{Error, Result};
use crate::ledger::Store;
use crate::lifecycle::context::Context;
use crate::lifecycle::gc;
use crate::lifecycle::host_access;
use crate::lifecycle::parents;
use crate::lifecycle::repair;
use crate::net::name::NetworkName;

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
    let mut context = Context::new(store)?;
    // What is made by a ledger that knows of no container would take the place of what they need.
    repair::recover(&mut context)?;
    let mut boot = Boot::default();
    for name in store.network_names()? {
        match prepare(&mut context, &name) {
            Ok(steps) => boot.done.extend(steps),
            Err(error) => boot.failed.push(error),
        }
    }
    match gc::gc(&mut context, false, false) {
        Ok(collected) => {
            boot.done.extend(collected.done);
            boot.failed.extend(collected.failed);
        }
        Err(error) => boot.failed.push(error),
    }
    Ok(boot)
}

fn prepare(context: &mut Context<'_>, name: &NetworkName) -> Result<Vec<String>> {
    let network = context.store.network(name)?;
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    // As an attach does: a parent that is there must be fit, too.
    parents::find(&network, host)?;
    host_access::refuse_foreign(&network, host)?;
    let (_, steps) = parents::preview(&network, host)?;
    let parent = parents::ensure(&locked, &network, host)?;
    host_access::keep(&locked, &network, &parent)?;
    Ok(steps.iter().map(ToString::to_string).collect())
}

//! Boot: recreates parents and the host's own links after a reboot, before the first container needs them.
//!
//! Nothing depends on it, because an attach creates what is missing. But a service of the host may need an
//! address or a sub-interface earlier, and the operator learns of a missing parent.

use crate::error::{Error, Result};
use crate::ledger::Store;
use crate::lifecycle::context::Context;
use crate::lifecycle::gc;
use crate::lifecycle::host_access;
use crate::lifecycle::parents;
use crate::lifecycle::repair;
use crate::net::name::NetworkName;

/// The outcome of a boot.
#[derive(Debug, Default)]
pub(crate) struct Boot {
    /// The changes, as equivalent commands.
    pub done: Vec<String>,
    /// One error for each network that failed.
    pub failed: Vec<Error>,
}

/// Makes the parents of all networks, VLANs and dummies, as the first attach would. Marks the host's own
/// links with fixed addresses as kept ([`host_access::keep`]). Then collects the garbage, which also makes
/// these links.
///
/// # Errors
/// Settings, networks or kernel cannot be read at all. An error of one network is in [`Boot::failed`].
pub(crate) fn boot(store: &Store) -> Result<Boot> {
    let mut context = Context::new(store)?;
    // First: links made from a ledger that has lost its containers would take the place of the links they
    // use.
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
    let network = context.settings.complete(context.store.network(name)?);
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    // As an attach does: an existing parent must be usable, too.
    parents::find(&network, host)?;
    host_access::refuse_foreign(&network, host)?;
    let (_, steps) = parents::preview(&network, host)?;
    let parent = parents::ensure(&locked, &network, host)?;
    host_access::keep(&locked, &network, &parent)?;
    Ok(steps.iter().map(ToString::to_string).collect())
}

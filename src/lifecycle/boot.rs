//! Boot: recreates parents and the host's own links after a reboot, before the first container needs them.
//!
//! Nothing depends on it, because an attach creates what is missing. But a service of the host may need an
//! address or a sub-interface earlier, and the operator learns of a missing parent.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::escape::shell::Line;
use crate::ipam::previous;
use crate::ledger::Store;
use crate::lifecycle::context::Context;
use crate::lifecycle::gc::{self, Collected};
use crate::lifecycle::host_access;
use crate::lifecycle::parents::{self, Parent};
use crate::lifecycle::repair;
use crate::net::name::NetworkName;
use crate::plan::host::HostOp;

/// Makes the parents of all networks, VLANs and dummies, as the first attach would. Marks the host's own
/// links with fixed addresses as kept ([`host_access::keep`]). Then collects the garbage, which also makes
/// these links.
///
/// # Errors
/// Settings, networks or kernel cannot be read at all. An error of one network is in [`Collected::failed`].
pub(crate) fn boot(store: &Store) -> Result<Collected> {
    let mut context = Context::new(store)?;
    // First: links made from a ledger that has lost its containers would take the place of the links they
    // use.
    repair::recover(&mut context)?;
    let mut boot = Collected::default();
    for name in store.network_names()? {
        match prepare(&mut context, &name) {
            Ok(steps) => boot.done.extend(steps.iter().map(ToString::to_string)),
            Err(error) => boot.failed.push(error),
        }
    }
    match known_by_name(store) {
        Ok(made) => boot.done.extend(made),
        Err(error) => boot.failed.push(error),
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

/// Makes the files with the name servers of identities that had addresses by DHCP: their containers may mount them. Returns what
/// was done.
fn known_by_name(store: &Store) -> Result<Vec<String>> {
    let mut by_dhcp = BTreeSet::new();
    for name in store.network_names()? {
        // A network that cannot be read is told of already.
        let has_dhcp = store.network(&name).is_ok_and(|network| network.file.dhcp.is_some());
        by_dhcp.extend(has_dhcp.then_some(name));
    }
    let mut made = Vec::new();
    if by_dhcp.is_empty() {
        return Ok(made);
    }
    for (identity, text) in store.known_identities()? {
        let previous = previous::read(&text).unwrap_or_default();
        if previous.iter().any(|(network, _)| by_dhcp.contains(network)) {
            let path = store.make_resolv_conf(&identity)?;
            made.push(Line::of("touch").path(&path).to_string());
        }
    }
    Ok(made)
}

/// Makes the parent of the network `name`, and returns what was done.
fn prepare(context: &mut Context<'_>, name: &NetworkName) -> Result<Vec<HostOp>> {
    let network = context.store.network(name)?;
    let locked = context.lock()?;
    let host = &mut context.host_netlink;
    // As an attach does: an existing parent must be usable, too.
    let Parent { steps, .. } = parents::find(&network, host)?;
    host_access::refuse_foreign(&network, host)?;
    let parent = parents::ensure(&locked, &network, host)?;
    host_access::keep(&locked, &network, &parent)?;
    Ok(steps)
}

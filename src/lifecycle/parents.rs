//! Lifecycle of parents: they are found on the host, made if their name says how, and deleted when unused.
//!
//! Parents are made and deleted under the ledger's lock: the users of a parent are read from the ledger and
//! must not change in between.

use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::kernel;
use crate::ledger::record::VERSION;
use crate::ledger::{Locked, Store};
use crate::net::driver::Kind as Driver;
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::net::parent::{MadeParent, ParentSpec};
use crate::netlink::Socket;
use crate::plan::host::HostOp;

/// The parent of a network.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    /// The link, as it is or is going to be made.
    pub link: Link,
    /// What makes it, and missing links below it, if it is missing.
    pub steps: Vec<HostOp>,
}

/// Returns the parent of `network`, verified, as it is or as [`ensure`] would make it.
pub(crate) fn find(network: &Network, host: &mut Socket) -> Result<Parent> {
    let mut steps = Vec::new();
    let link = preview(&network.parent, network.recipe(), &mut steps, host)
        .map_err(|error| error.within(format!("network {}", network.name)))?;
    if let (Ok(Some(recipe)), true) = (network.recipe(), steps.is_empty()) {
        verify(&recipe, &link, host)?;
    }
    network.check_parent(&link)?;
    if network.driver.kind() == Driver::Macvlan && kernel::is_wireless(&link) {
        return Err(Error::input(format!("parent {} is a wireless link", network.parent)).hint(
            "a wireless network takes frames of one MAC address only: use driver ipvlan, or, on an access point, a \
             bridge that it is a port of",
        ));
    }
    Ok(Parent { link, steps })
}

/// Returns the link `name` as it is, or as it is going to be made by `recipe` and `steps`.
fn preview(
    name: &IfName,
    recipe: Result<Option<ParentSpec>>,
    steps: &mut Vec<HostOp>,
    host: &mut Socket,
) -> Result<Link> {
    // An invalid VLAN name is an ordinary name if the link exists.
    if let Some(link) = host.link(name)? {
        return Ok(link);
    }
    let recipe = recipe?.ok_or_else(|| missing(name))?;
    let base = recipe.base().map(|base| preview(base, ParentSpec::of_name(base), steps, host)).transpose()?;
    steps.push(HostOp::MakeParent { name: name.clone(), recipe: recipe.clone() });
    Ok(recipe.link(name, base.as_ref()))
}

/// Returns an error if `link` is not what `recipe` makes.
fn verify(recipe: &ParentSpec, link: &Link, host: &mut Socket) -> Result<()> {
    let base = recipe.base().map(|base| host.link(base)).transpose()?.flatten();
    recipe.verify(link, base.as_ref())
}

/// Returns the parent of `network`, and makes it if it is missing.
///
/// # Errors
/// Links that were made for it before the error are left for [`delete_unused_of`].
pub(crate) fn ensure(locked: &Locked<'_>, network: &Network, host: &mut Socket) -> Result<Link> {
    let made = make(locked, &network.parent, network.recipe()?, host);
    let link = made.map_err(|error| error.within(format!("network {}", network.name)))?;
    network.check_parent(&link)?;
    Ok(link)
}

/// Deletes the unused parents of `network` that underlay has made: the network was removed, or an attach
/// failed. One that cannot be deleted stays in the ledger.
pub(crate) fn delete_unused_of(locked: &Locked<'_>, network: &Network, host: &mut Socket) -> Result<()> {
    delete_unused(locked, &network.parent, host)?;
    // A shortened name does not say which base a VLAN has, so the definition says it.
    let recipe = network.recipe().ok().flatten();
    let base = recipe.as_ref().and_then(ParentSpec::base);
    base.map_or(Ok(()), |base| delete_unused(locked, base, host))
}

/// Deletes the parent `name` and those below it, as far as underlay has made them and they are unused. One
/// that cannot be deleted stays in the ledger.
pub(crate) fn delete_unused(locked: &Locked<'_>, name: &IfName, host: &mut Socket) -> Result<()> {
    let store = locked.store();
    let mut next = Some(name.clone());
    while let Some(name) = next {
        let recipe = match known(store, &name)? {
            Some(_) if store.is_in_doubt()? || store.needs_parent(&name, |_| true)? => return Ok(()),
            Some(parent) => {
                kernel::delete_parent(&parent, host)?;
                locked.forget_parent(&name)?;
                Some(parent.recipe)
            }
            // The parent may have failed after its base was made.
            None => ParentSpec::of_name(&name).ok().flatten(),
        };
        next = recipe.as_ref().and_then(ParentSpec::base).cloned();
    }
    Ok(())
}

/// Returns the record of the parent `name`, if a killed process has left a half-made link of it.
pub(crate) fn half_made(store: &Store, name: &IfName, host: &mut Socket) -> Result<Option<MadeParent>> {
    let Some(parent) = known(store, name)? else { return Ok(None) };
    let left = host.link(&parent.born_as)?;
    Ok(left.is_some_and(|left| parent.has_left(&left)).then_some(parent))
}

/// Returns the link `name`. If it is missing, makes it by `recipe`, with the links below it.
fn make(locked: &Locked<'_>, name: &IfName, recipe: Option<ParentSpec>, host: &mut Socket) -> Result<Link> {
    let found = host.link(name)?;
    let Some(recipe) = recipe else { return found.ok_or_else(|| missing(name)) };
    if let Some(link) = found {
        verify(&recipe, &link, host)?;
        let is_left_alone =
            || locked.store().made_parent(name).is_err_and(|error| error.kind().is_left_alone());
        if link.is_made_parent() && !is_left_alone() {
            // The state folder may have been emptied: the mark says that underlay has made it.
            record(locked, name, recipe, Some(link.ifindex))?;
        }
        return Ok(link);
    }
    let base = recipe.base().map(|base| make(locked, base, ParentSpec::of_name(base)?, host)).transpose()?;
    let parent = record(locked, name, recipe, None)?;
    let made = kernel::make_parent(&parent, base.as_ref(), host).and_then(|link| {
        locked.write_parent(&MadeParent { ifindex: Some(link.ifindex), ..parent.clone() })?;
        Ok(link)
    });
    if made.is_err() {
        kernel::delete_parent(&parent, host)?;
        locked.forget_parent(name)?;
    }
    made
}

/// Writes the record of a parent of ours, unless it is there.
fn record(
    locked: &Locked<'_>,
    name: &IfName,
    recipe: ParentSpec,
    ifindex: Option<u32>,
) -> Result<MadeParent> {
    let known = known(locked.store(), name)?;
    if let Some(known) = known.filter(|known| known.recipe == recipe && known.ifindex == ifindex) {
        return Ok(known);
    }
    let born_as = IfName::temporary(std::process::id());
    let parent = MadeParent { version: VERSION, name: name.clone(), recipe, born_as, ifindex };
    // An unreadable record may be a folder, which a file cannot replace.
    locked.forget_parent(name)?;
    locked.write_parent(&parent)?;
    Ok(parent)
}

/// Returns the record of a parent of ours. An unreadable one counts as missing: the next `gc` rebuilds it
/// from the mark.
fn known(store: &Store, name: &IfName) -> Result<Option<MadeParent>> {
    match store.made_parent(name) {
        Err(error) if error.kind().is_of_one_file() => {
            log::warn!("{error}");
            Ok(None)
        }
        known => known,
    }
}

fn missing(name: &IfName) -> Error {
    Error::new(Kind::NotFound, format!("parent {name} does not exist on this host"))
        .hint("see the host's links with `ip link`; a name like eth0.50 makes VLAN 50 of eth0")
}

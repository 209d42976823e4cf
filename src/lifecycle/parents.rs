//! The story of the parents: found on the host, made where their name says how, and deleted when nobody needs
//! them any more.
//!
//! Making and deleting one is the only kernel work done under the ledger's lock: who needs a parent is read from
//! the ledger, and must not change meanwhile.

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

/// The parent of `network`, verified; `None` if it is missing, and [`ensure`] makes it.
pub(crate) fn find(network: &Network, host: &mut Socket) -> Result<Option<Link>> {
    match host.link(&network.parent)? {
        Some(link) => {
            verify(network, &link, host)?;
            Ok(Some(link))
        }
        None => {
            let recipe = network.recipe()?;
            let makeable = can_make(&network.parent, recipe, host);
            makeable.map_err(|error| error.within(format!("network {}", network.name)))?;
            Ok(None)
        }
    }
}

/// Whether `recipe`, that of the parent `name`, ends at a link that is there.
fn can_make(name: &IfName, recipe: Option<ParentSpec>, host: &mut Socket) -> Result<()> {
    match recipe {
        None => Err(missing(name)),
        Some(ParentSpec::Dummy) => Ok(()),
        Some(ParentSpec::Vlan { base, .. }) if host.link(&base)?.is_some() => Ok(()),
        Some(ParentSpec::Vlan { base, .. }) => can_make(&base, ParentSpec::of_name(&base)?, host),
    }
}

/// The parent of `network`, made where it is missing.
///
/// # Errors
/// As [`find`]; or when it cannot be made: what it was to stand on is left for [`delete_unused_of`].
pub(crate) fn ensure(locked: &Locked<'_>, network: &Network, host: &mut Socket) -> Result<Link> {
    let made = make(locked, &network.parent, network.recipe()?, host);
    let link = made.map_err(|error| error.within(format!("network {}", network.name)))?;
    network.check_parent(&link)?;
    Ok(link)
}

/// The parent of `network` as it would be, and what would make it where it is missing.
pub(crate) fn preview(network: &Network, host: &mut Socket) -> Result<(Link, Vec<HostOp>)> {
    let mut steps = Vec::new();
    let link = preview_link(&network.parent, network.recipe()?, &mut steps, host)?;
    network.check_parent(&link)?;
    Ok((link, steps))
}

fn preview_link(
    name: &IfName,
    recipe: Option<ParentSpec>,
    steps: &mut Vec<HostOp>,
    host: &mut Socket,
) -> Result<Link> {
    if let Some(link) = host.link(name)? {
        return Ok(link);
    }
    let recipe = recipe.ok_or_else(|| missing(name))?;
    let base = match recipe.base() {
        Some(base) => Some(preview_link(base, ParentSpec::of_name(base)?, steps, host)?),
        None => None,
    };
    steps.push(HostOp::MakeParent { name: name.clone(), recipe: recipe.clone() });
    Ok(recipe.link(name, base.as_ref()))
}

/// Deletes the parents of `network`, which is gone or could not be attached to, as far as underlay has made them and
/// nobody needs them.
///
/// # Errors
/// When one cannot be deleted: it stays in the ledger.
pub(crate) fn delete_unused_of(locked: &Locked<'_>, network: &Network, host: &mut Socket) -> Result<()> {
    delete_unused(locked, &network.parent, host)?;
    // A name that was made short does not tell what a link was to stand on that could not be made.
    let recipe = network.recipe().ok().flatten();
    let base = recipe.as_ref().and_then(ParentSpec::base);
    base.map_or(Ok(()), |base| delete_unused(locked, base, host))
}

/// Deletes the parent `name` and those it stands on, as far as underlay has made them and nobody needs them.
///
/// # Errors
/// When one cannot be deleted: it stays in the ledger.
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
            // It may be one that could not be made, on one that was.
            None => ParentSpec::of_name(&name).ok().flatten(),
        };
        next = recipe.as_ref().and_then(ParentSpec::base).cloned();
    }
    Ok(())
}

/// What a killed process has left of the parent `name`, which stays: the name it bears.
pub(crate) fn leftover(store: &Store, name: &IfName, host: &mut Socket) -> Result<Option<IfName>> {
    let Some(parent) = known(store, name)? else { return Ok(None) };
    let left = host.link(&parent.born_as)?.filter(|left| parent.has_left(left));
    Ok(left.map(|_| parent.born_as))
}

/// Deletes what a killed process has left of the parent `name`; the lock keeps others from making it meanwhile.
pub(crate) fn delete_leftover(locked: &Locked<'_>, name: &IfName, host: &mut Socket) -> Result<()> {
    known(locked.store(), name)?.map_or(Ok(()), |parent| kernel::delete_leftover(&parent, host))
}

fn verify(network: &Network, link: &Link, host: &mut Socket) -> Result<()> {
    // A name that is nearly a VLAN's is a name like any other once the link is there.
    if let Ok(Some(recipe)) = network.recipe() {
        let base = recipe.base().map(|base| host.link(base)).transpose()?.flatten();
        recipe.verify(link, base.as_ref())?;
    }
    network.check_parent(link)?;
    if network.driver.kind() == Driver::Macvlan && kernel::is_wireless(link) {
        return Err(Error::input(format!("parent {} is a wireless link", network.parent)).hint(
            "a wireless network takes frames of one MAC address only: use driver ipvlan, or, on an access point, a \
             bridge that it is a port of",
        ));
    }
    Ok(())
}

/// The link `name`, made by `recipe` where it is missing, with what it stands on.
fn make(locked: &Locked<'_>, name: &IfName, recipe: Option<ParentSpec>, host: &mut Socket) -> Result<Link> {
    let found = host.link(name)?;
    let recipe = match (recipe, &found) {
        (Some(recipe), _) => recipe,
        (None, Some(link)) => return Ok(link.clone()),
        (None, None) => return Err(missing(name)),
    };
    let base = match recipe.base() {
        Some(base) if found.is_none() => Some(make(locked, base, ParentSpec::of_name(base)?, host)?),
        Some(base) => host.link(base)?,
        None => None,
    };
    if let Some(link) = found {
        recipe.verify(&link, base.as_ref())?;
        let is_left_alone =
            || locked.store().made_parent(name).is_err_and(|error| error.kind().is_left_alone());
        if link.is_made_parent() && !is_left_alone() {
            // The state folder may have been emptied: the mark tells.
            record(locked, name, recipe, Some(link.ifindex))?;
        }
        return Ok(link);
    }
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

/// Writes down a parent of ours, unless it is written down already.
fn record(
    locked: &Locked<'_>,
    name: &IfName,
    recipe: ParentSpec,
    ifindex: Option<u32>,
) -> Result<MadeParent> {
    if let Some(known) =
        known(locked.store(), name)?.filter(|known| known.recipe == recipe && known.ifindex == ifindex)
    {
        return Ok(known);
    }
    let born_as = IfName::temporary(std::process::id());
    let parent = MadeParent { version: VERSION, name: name.clone(), recipe, born_as, ifindex };
    // What cannot be read may be a folder, whose place a file does not take.
    locked.forget_parent(name)?;
    locked.write_parent(&parent)?;
    Ok(parent)
}

/// What is written of a parent of ours; nothing, if that cannot be read: the next `gc` tells by the mark.
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

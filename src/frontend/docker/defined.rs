//! Networks: Docker tells of their creation and removal, each once.

use super::ipam::on_two_parents;
use super::network::{self, Defined};
use super::pool::Pool;
use super::protocol::{CreateNetwork, OfNetwork};
use crate::error::{Error, Kind, Result};
use crate::ledger::docker::{DockerNetwork, VERSION};
use crate::lifecycle::context::Context;
use crate::lifecycle::parents;
use crate::lifecycle::repair;
use crate::net::name::ContainerId;

/// Creates a network, unless that is done already. `asked` are the pools that were asked for lately, one of them for each of its
/// subnets.
///
/// # Errors
/// When the operator does not permit it, or containers of Docker could have no links of it.
pub(super) fn create(context: &mut Context<'_>, asked: &[Pool], call: &CreateNetwork) -> Result<()> {
    let of_settings = |error: Error| error.within(context.store.settings_path().display());
    let Defined { network, definition } = Defined::read(call)?;
    let id: ContainerId = call.network.parse()?;
    let mut new = DockerNetwork { version: VERSION, id, network, definition, pools: Vec::new() };
    let network = new.network(context.store)?;
    match &new.network {
        Some(name) => context.settings.allow_network(name).map_err(of_settings)?,
        None => context.settings.allow_docker_network(&network).map_err(of_settings)?,
    }
    network::check(&network)?;
    if new.network.is_some() {
        network::agree(&new.definition, &network)?;
    }
    let mut pools = Vec::new();
    for file in &mut new.definition.subnets {
        // The last one: of Docker's calls for one network none is missing, except if this process was started between them.
        let is_its =
            |pool: &&Pool| pool.subnet == file.subnet && pool.suits(new.network.as_ref(), &network.parent);
        let pool = asked.iter().rev().find(is_its).cloned().unwrap_or_else(|| Pool::plain(file.subnet));
        if let (Some(name), Some(range)) = (&new.network, pool.range) {
            let known = network.subnets.iter().find(|subnet| subnet.net() == file.subnet);
            if !known.is_some_and(|known| known.has_pool(range)) {
                let text = format!("--ip-range {range} is not in the addresses of network {name}");
                return Err(
                    Error::input(text).hint(format!("`underlay network inspect {name}` shows its ip_range"))
                );
            }
        }
        file.ip_range = pool.range.map(|range| range.to_string());
        new.pools.push(pool.to_string());
        pools.push(pool);
    }
    parents::find(&network, &mut context.host_netlink)?;
    repair::recover(context)?;
    let locked = context.lock()?;
    for known in context.store.docker_networks()?.iter().filter(|known| known.id != new.id) {
        let shared = pools.iter().find(|pool| known.pools.contains(&pool.to_string()));
        let other = shared.and_then(|pool| Some((pool, known.network(context.store).ok()?)));
        if let Some((pool, other)) = other.filter(|(_, other)| other.parent != network.parent) {
            return Err(on_two_parents(pool, &other, &network));
        }
    }
    locked.write_docker_network(&new)?;
    let host = &mut context.host_netlink;
    if let Err(error) = parents::ensure(&locked, &network, host) {
        locked.remove_docker_network(&new.id)?;
        parents::delete_unused_of(&locked, &network, host)?;
        return Err(error);
    }
    Ok(())
}

/// Removes a network, and its parent if nothing else needs that. One that is not known is removed already.
///
/// # Errors
/// When its file is still there, or its parent cannot be deleted.
pub(super) fn delete(context: &mut Context<'_>, call: &OfNetwork) -> Result<()> {
    let id: ContainerId = call.network.parse()?;
    let locked = context.lock()?;
    let known = context.store.docker_network(&id);
    locked.remove_docker_network(&id)?;
    let known = match known {
        Ok(Some(known)) => known,
        Ok(None) => return Ok(()),
        // Its parent stays, until gc finds that nothing needs it.
        Err(error) => {
            log::warn!("{error}");
            return Ok(());
        }
    };
    match known.network(context.store) {
        Ok(network) => parents::delete_unused_of(&locked, &network, &mut context.host_netlink),
        // The network of underlay is removed, with its parent.
        Err(error) if error.kind() == Kind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

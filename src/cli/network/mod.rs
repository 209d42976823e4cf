//! `underlay network`: definitions of networks, with the subcommands of `docker network`.

mod conflicts;
pub(super) mod create;
mod import;
pub(super) mod inspect;
mod reserve;

use std::path::Path;

use clap::Subcommand;

use super::argument::hinted;
use super::cdi;
use super::output::{self, Format, Listing};
use crate::config::network::Network;
use crate::error::{Error, Kind, Result};
use crate::ledger::record::Record;
use crate::ledger::{Records, Store};
use crate::lifecycle::context::Context;
use crate::lifecycle::host_access;
use crate::lifecycle::parents;
use crate::lifecycle::release;
use crate::lifecycle::repair;
use crate::net::name::{ContainerId, NetworkName};

/// Where podman keeps its networks.
const PODMAN: &str = "/etc/containers/networks";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a network
    Create(Box<create::Create>),
    /// Recreate the macvlan and ipvlan networks of podman and Docker
    Import(import::Import),
    /// List the networks
    #[command(visible_alias = "list")]
    Ls {
        /// Print names only
        #[arg(short, long)]
        quiet: bool,
        #[command(flatten)]
        listing: Listing,
    },
    /// Show networks as JSON: definition, parent, addresses in use and free, containers
    Inspect {
        /// Names of the networks
        #[arg(required = true, value_parser = hinted::<NetworkName>)]
        names: Vec<NetworkName>,
        /// How to print it
        #[arg(long, value_parser = ["json"], default_value = "json")]
        format: String,
    },
    /// Remove networks that no running container uses
    #[command(visible_alias = "remove")]
    Rm {
        /// No error if it does not exist; remove it although a container that was not found may use it
        #[arg(short, long)]
        force: bool,
        /// Names of the networks
        #[arg(required = true, value_parser = hinted::<NetworkName>)]
        names: Vec<NetworkName>,
    },
}

pub(super) fn run(store: &Store, command: Command) -> Result<()> {
    match command {
        Command::Create(options) if options.may_exist() && store.has_network(&options.name)? => {
            output::line(options.name.as_str())
        }
        Command::Create(options) => {
            refuse_podmans(store, &options.name)?;
            create::create(store, &create::network(&options)?)
        }
        Command::Import(options) => import::import(store, &options),
        Command::Ls { quiet, listing } => list(store, quiet, listing.format),
        Command::Inspect { names, .. } => inspect::inspect(store, &names),
        Command::Rm { force, names } => remove(store, &names, force),
    }
}

/// Refuses the name of a network that podman has with driver underlay: its containers would not start.
fn refuse_podmans(store: &Store, name: &NetworkName) -> Result<()> {
    let file = Path::new(PODMAN).join(format!("{name}.json"));
    if store.has_podman_network(name) && file.exists() {
        let text = format!("podman has a network {name} with driver underlay ({})", file.display());
        return Err(
            Error::new(Kind::Taken, text).hint("choose another name: both have their addresses under it")
        );
    }
    Ok(())
}

fn list(store: &Store, quiet: bool, format: Format) -> Result<()> {
    let names = store.network_names()?;
    if quiet {
        return names.iter().try_for_each(|name| output::line(name.as_str()));
    }
    let networks = names.iter().filter_map(|name| store.network(name).inspect_err(output::error).ok());
    let networks: Vec<Network> = networks.collect();
    if format == Format::Json {
        let files: Vec<_> = networks.iter().map(|network| &network.file).collect();
        return output::json(&files);
    }
    let row = |network: &Network| {
        let dhcp = network.file.dhcp.iter().map(|_| "dhcp".to_owned());
        let subnets = network.subnets.iter().map(|subnet| subnet.net().to_string());
        let subnets: Vec<_> = dhcp.chain(subnets).collect();
        [network.name.to_string(), network.driver.to_string(), network.parent.to_string(), subnets.join(",")]
    };
    output::table(["NAME", "DRIVER", "PARENT", "SUBNETS"], &networks.iter().map(row).collect::<Vec<_>>())
}

/// Removes each network that can be removed. Returns the last failure, and prints the others.
fn remove(store: &Store, names: &[NetworkName], force: bool) -> Result<()> {
    output::last_failure(names.iter().map(|name| match remove_one(store, name, force) {
        Err(error) if force && error.kind() == Kind::NotFound => Ok(()),
        removed => removed.and_then(|()| output::line(name.as_str())),
    }))
}

/// Removes a network that no running container uses, what dead containers hold in it, and its parent if underlay has made that
/// and nothing else needs it.
fn remove_one(store: &Store, name: &NetworkName, force: bool) -> Result<()> {
    let mut context = Context::new(store)?;
    // The records of containers that use it may be lost.
    repair::recover(&mut context)?;
    loop {
        let locked = context.lock()?;
        if !store.has_network(name)? {
            // A command that was killed may have removed the network only.
            cdi::renew(&locked);
            // Returns the error for a network that does not exist, with its hint.
            return store.network(name).map(drop);
        }
        let Records { sound: records, unknown } = store.records()?;
        if let Some((container, kind)) = unknown.first() {
            return Err(unreadable(name, container, *kind));
        }
        let uses = |record: &&Record| record.attachments().iter().any(|attached| attached.network == *name);
        let users: Vec<&Record> = records.iter().filter(uses).collect();
        let Some(&user) = users.first() else {
            if store.is_in_doubt()? && !force {
                return Err(not_found(name));
            }
            // The parent of a definition that cannot be read is not known.
            let network = store.network(name).ok();
            let of_docker = store.docker_networks()?;
            if let Some(user) = of_docker.iter().find(|known| known.network.as_ref() == Some(name) && !force)
            {
                return Err(Error::new(
                    Kind::Taken,
                    format!("network {name} is network {} of Docker", user.id),
                )
                .hint("`docker network rm` it first"));
            }
            locked.remove_network(name)?;
            cdi::renew(&locked);
            host_access::delete_unused(&locked, name, &mut context.host_netlink)?;
            return network.map_or(Ok(()), |network| {
                parents::delete_unused_of(&locked, &network, &mut context.host_netlink)
            });
        };
        if let Some(user) = users.into_iter().find(|user| release::is_in_use(&mut context, user)) {
            let text = format!("network {name} is in use by container {}", user.container);
            return Err(
                Error::new(Kind::Taken, text).hint("stop it first; `underlay ps` shows what is attached")
            );
        }
        let dead = user.clone();
        drop(locked);
        release::reclaim(&mut context, &dead)?;
    }
}

/// Returns the error if running containers may not have been found: they may use any network.
fn not_found(name: &NetworkName) -> Error {
    let text =
        format!("network {name} may be in use: after a loss of the ledger not all containers are found");
    Error::new(Kind::Taken, text)
        .hint("`underlay gc` says why, and looks again; `-f` removes it all the same")
}

/// Returns the error for a record that cannot be read: its container may use any network.
fn unreadable(name: &NetworkName, container: &ContainerId, kind: Kind) -> Error {
    let text = format!("network {name} may be in use by container {container}, whose record cannot be read");
    Error::new(Kind::Taken, text).hint(match kind {
        Kind::Newer => {
            "a newer underlay has written it: stop the container, or remove the network by that version"
        }
        Kind::Unreadable => "see why with `underlay check`, and try again",
        _ => "`underlay gc` repairs it, or removes it if it is of no use",
    })
}

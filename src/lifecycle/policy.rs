//! The story before an attach: what a container asks for, whether it may have that, and what there is on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::network::Network;
use crate::config::settings::Settings;
use crate::error::{Error, Kind, Result};
use crate::ledger::record::Record;
use crate::ledger::{Store, no_such_network};
use crate::lifecycle::parents;
use crate::net::link::Link;
use crate::net::name::{IfName, NetworkName};
use crate::net::neighbour::Neighbour;
use crate::net::subnet::Subnet;
use crate::net::ways::Ways;
use crate::netlink::Socket;
use crate::oci::annotation_set::Asked;
use crate::oci::annotations::{self, Request};

/// What is asked for and the definitions of its networks, as far as the operator permits it. Nothing is looked up
/// for a container before that is known, so that a refusal tells nothing but its own rule.
pub(crate) fn permitted(
    store: &Store,
    settings: &Settings,
    asked: Asked<'_>,
) -> Result<(Request, Vec<Network>)> {
    let of_settings = |error: Error| error.within(store.settings_path().display());
    asked.check_size(settings).map_err(of_settings)?;
    let request = asked.read()?;
    let count = request.attachments.len();
    settings.allow_count("annotations and devices are", count).map_err(of_settings)?;
    let mut names = request.attachments.iter().map(|asked| &asked.network);
    names.try_for_each(|name| settings.allow_network(name)).map_err(of_settings)?;
    request.inline.values().try_for_each(|network| settings.allow_inline(network)).map_err(of_settings)?;
    let networks = request.attachments.iter().map(|attachment| {
        let (name, vlan) = (&attachment.network, attachment.vlan);
        let Some(inline) = request.inline.get(name) else {
            return defined(store, settings, asked, name)?.on_vlan(vlan);
        };
        let inline = inline.clone().on_vlan(vlan)?;
        settings.allow_inline(&inline).map_err(of_settings)?;
        let annotation = format!("annotation {}{name}", annotations::NETWORK_PREFIX);
        if store.has_network(name)? {
            return Err(Error::new(Kind::Taken, format!("{annotation} defines a network that exists"))
                .hint("give it another name, or remove the annotation to use the existing network"));
        }
        inline.admit(asked.annotations()).map_err(|error| error.within(annotation))?;
        Ok(inline)
    });
    let networks = networks.map(|network| network.map(|network| settings.complete(network)));
    let networks = networks.collect::<Result<Vec<_>>>()?;
    request.attachments.iter().zip(&networks).try_for_each(|(asked, network)| asked.check(network))?;
    Ok((request, networks))
}

/// The definition of the network `name`, if the container may use it. Where there is none, the container hears of
/// those it may use.
fn defined(store: &Store, settings: &Settings, asked: Asked<'_>, name: &NetworkName) -> Result<Network> {
    let admits = |name: &NetworkName| {
        settings.allow_network(name).is_ok()
            && store.network(name).is_ok_and(|network| network.admit(asked.annotations()).is_ok())
    };
    match store.network(name) {
        Ok(network) => match network.admit(asked.annotations()) {
            Ok(()) => Ok(network),
            Err(error) => Err(error.within(store.network_path(name).display())),
        },
        Err(error) if error.kind() == Kind::NotFound => {
            let others: Vec<_> = store.network_names()?.into_iter().filter(admits).collect();
            Err(no_such_network(name, &others))
        }
        Err(error) => Err(error),
    }
}

/// What is said to a container whose id has another, in `old`.
pub(crate) fn attached_already(old: &Record) -> Error {
    let text = format!("container id {} is attached already, with pid {}", old.container, old.holder.pid);
    Error::new(Kind::Taken, text).hint("two runtimes use the same id: rename one container")
}

/// What is said to a container that has a record of its own which was never confirmed.
pub(crate) fn cut_short(old: &Record) -> Error {
    let text = format!("an earlier attach of container {} was killed, or has not ended yet", old.container);
    Error::new(Kind::Taken, text)
        .hint("stop the container and start it again: what was half made is taken back when it is gone")
}

/// The parents of `networks` that are there, each fit for its network.
pub(crate) fn parents(networks: &[Network], host: &mut Socket) -> Result<BTreeMap<IfName, Link>> {
    let mut parents: BTreeMap<IfName, Link> = BTreeMap::new();
    for network in networks {
        match parents.get(&network.parent) {
            Some(parent) => network.check_parent(parent)?,
            None => {
                let found = parents::find(network, host)?;
                parents.extend(found.map(|link| (network.parent.clone(), link)));
            }
        }
    }
    Ok(parents)
}

/// The addresses that no container can have, for the host has them, or is to have them.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn on_host(networks: &[Network], host: &mut Socket) -> Result<BTreeSet<IpAddr>> {
    let mut on_host: BTreeSet<IpAddr> = host.addresses()?.into_iter().collect();
    let named = networks.iter().filter_map(|network| network.host_access.as_ref());
    on_host.extend(named.flat_map(|access| &access.addresses));
    Ok(on_host)
}

/// The ways of the host, where it is to get routes to containers.
///
/// # Errors
/// When the kernel does not tell.
pub(crate) fn ways(networks: &[Network], host: &mut Socket) -> Result<Ways> {
    let reached = networks.iter().filter(|network| network.host_access.is_some());
    let subnets: Vec<_> = reached.flat_map(|network| &network.subnets).map(Subnet::net).collect();
    if subnets.is_empty() {
        return Ok(Ways::default());
    }
    Ok(host.ways()?.about(&subnets))
}

/// Who is known on the parents where addresses are probed for.
pub(crate) fn neighbours(
    networks: &[Network],
    parents: &BTreeMap<IfName, Link>,
    host: &mut Socket,
) -> Result<BTreeMap<(u32, IpAddr), Neighbour>> {
    let mut neighbours = BTreeMap::new();
    for (name, parent) in parents {
        let probes = |network: &Network| network.parent == *name && network.detection_on(parent).is_some();
        if networks.iter().any(probes) {
            let known = host.neighbours(parent.ifindex)?;
            neighbours.extend(known.into_iter().map(|known| ((parent.ifindex, known.address), known)));
        }
    }
    Ok(neighbours)
}

//! Host facts that an attach depends on: parents, addresses, routes, neighbours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::error::Result;
use crate::lifecycle::parents;
use crate::lifecycle::target::AttachmentRequest;
use crate::net::link::Link;
use crate::net::name::IfName;
use crate::net::neighbour::Neighbour;
use crate::net::subnet::Subnet;
use crate::net::ways::Ways;
use crate::netlink::Socket;

/// Returns the existing parents of the networks of `requests`, each verified.
pub(crate) fn parents(requests: &[AttachmentRequest], host: &mut Socket) -> Result<BTreeMap<IfName, Link>> {
    let mut parents: BTreeMap<IfName, Link> = BTreeMap::new();
    for AttachmentRequest { network, .. } in requests {
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

/// Returns the addresses that no container can have, because the host has them or will get them.
pub(crate) fn on_host(requests: &[AttachmentRequest], host: &mut Socket) -> Result<BTreeSet<IpAddr>> {
    let mut on_host: BTreeSet<IpAddr> = host.addresses()?.into_iter().collect();
    let named = requests.iter().filter_map(|request| request.network.file.host_access.as_ref());
    on_host.extend(named.flat_map(|access| &access.addresses));
    Ok(on_host)
}

/// Returns the host's routes that overlap subnets with host access.
pub(crate) fn ways(requests: &[AttachmentRequest], host: &mut Socket) -> Result<Ways> {
    let networks = requests.iter().map(|request| &request.network);
    let reached = networks.filter(|network| network.file.host_access.is_some());
    let subnets: Vec<_> = reached.flat_map(|network| &network.subnets).map(Subnet::net).collect();
    if subnets.is_empty() {
        return Ok(Ways::default());
    }
    Ok(host.ways()?.about(&subnets))
}

/// Returns the neighbour tables of parents with conflict detection.
pub(crate) fn neighbours(
    requests: &[AttachmentRequest],
    parents: &BTreeMap<IfName, Link>,
    host: &mut Socket,
) -> Result<BTreeMap<(u32, IpAddr), Neighbour>> {
    let mut neighbours = BTreeMap::new();
    for (name, parent) in parents {
        let probes = |request: &AttachmentRequest| {
            let is_detected = request.network.detection_on(parent).is_some();
            request.network.parent == *name && is_detected && parent.is_connected()
        };
        if requests.iter().any(probes) {
            let known = host.neighbours(parent.ifindex)?;
            neighbours.extend(known.into_iter().map(|known| ((parent.ifindex, known.address), known)));
        }
    }
    Ok(neighbours)
}

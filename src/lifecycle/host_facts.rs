//! What an attach and its dry run have to know of the host: parents, addresses, routes, neighbours.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::ipam::assign::{self, ResolvedAttachment};
use crate::ipam::previous;
use crate::ipam::reserve::HostFacts;
use crate::ledger::Store;
use crate::lifecycle::affinity::Affinity;
use crate::lifecycle::parents::{self, Parent};
use crate::lifecycle::target::AttachmentRequest;
use crate::net::host_routing::HostRouting;
use crate::net::route::DefaultRoutes;
use crate::net::subnet::Subnet;
use crate::netlink::Socket;

/// Returns the parent of each of `requests`, verified.
pub(crate) fn parents(requests: &[AttachmentRequest], host: &mut Socket) -> Result<Vec<Parent>> {
    requests.iter().map(|request| parents::find(&request.network, host)).collect()
}

/// Returns `requests` with their parents, with names beside the `used` ones, and with what the identity had before.
pub(crate) fn resolve(
    requests: &[AttachmentRequest],
    parents: Vec<Parent>,
    used: &BTreeSet<String>,
    affinity: &Affinity,
) -> Result<Vec<ResolvedAttachment>> {
    let options = || requests.iter().map(|request| &request.options);
    let names = assign::names(options(), used)?;
    let previous = previous::of(options(), &affinity.previous);
    let all = requests.iter().zip(parents).zip(names.into_iter().zip(previous));
    let resolved = all.map(|((AttachmentRequest { options, network, .. }, parent), (ifname, previous))| {
        let (request, network) = (options.clone(), network.clone());
        ResolvedAttachment { request, network, parent: parent.link, ifname, previous }
    });
    Ok(resolved.collect())
}

/// Returns what the host has that matters to `wanted`. The container's namespace has `default_routes`.
pub(crate) fn read(
    store: &Store,
    wanted: &[ResolvedAttachment],
    default_routes: DefaultRoutes,
    host: &mut Socket,
) -> Result<HostFacts> {
    let mut on_host: BTreeSet<_> = host.addresses()?.into_iter().collect();
    let mut reached = Vec::new();
    for ResolvedAttachment { network, .. } in wanted {
        if let Some(access) = &network.file.host_access {
            // The host will get them.
            on_host.extend(&access.addresses);
            reached.extend(network.subnets.iter().map(Subnet::net));
        }
    }
    let routing =
        if reached.is_empty() { HostRouting::default() } else { host.host_routing()?.about(&reached) };
    let probed = wanted.iter().filter(|wanted| {
        wanted.network.detection_on(&wanted.parent).is_some() && wanted.parent.is_connected()
    });
    // A parent that is going to be made has no number and no neighbours.
    let probed: BTreeSet<_> =
        probed.map(|wanted| wanted.parent.ifindex).filter(|&ifindex| ifindex != 0).collect();
    let mut neighbours = BTreeMap::new();
    for parent in probed {
        neighbours.extend(host.neighbours(parent)?.into_iter().map(|known| ((parent, known.address), known)));
    }
    let beside = store.networks_beside(wanted.iter().map(|wanted| &wanted.network))?;
    Ok(HostFacts { on_host, routing, neighbours, default_routes, beside })
}

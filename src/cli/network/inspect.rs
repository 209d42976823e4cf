//! `underlay network inspect`: a definition, and what has become of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::cli::output;
use crate::error::Result;
use crate::kernel::{self, Socket};
use crate::link::Link;
use crate::mac::MacAddr;
use crate::name::{ContainerId, IfName, NetworkName};
use crate::network::Network;
use crate::network_file::NetworkFile;
use crate::record::Record;
use crate::store::Store;
use crate::subnet::Usage;

/// What is shown of a network.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    definition: NetworkFile,
    parent_link: ParentLink<'a>,
    usage: Vec<SubnetUsage>,
    containers: Vec<User<'a>>,
}

/// The parent as it is now.
#[derive(Serialize)]
struct ParentLink<'a> {
    name: &'a IfName,
    /// `missing`, `down` or `up`.
    state: &'static str,
    /// Whether underlay has made it, and deletes it with the last network that needs it.
    made_by_underlay: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

/// How full a subnet is, counting what other networks of the same parent, and the host, hold of it.
#[derive(Serialize)]
struct SubnetUsage {
    subnet: IpNet,
    #[serde(flatten)]
    usage: Usage,
}

/// An attachment, seen from its network.
#[derive(Serialize)]
struct User<'a> {
    container: &'a ContainerId,
    ifname: &'a IfName,
    addresses: &'a [IpNet],
    mac: Option<MacAddr>,
    alive: bool,
}

pub(super) fn inspect(store: &Store, names: &[NetworkName]) -> Result<()> {
    let networks = names.iter().map(|name| store.network(name)).collect::<Result<Vec<_>>>()?;
    let records = store.records()?.sound;
    let mut host = Socket::open()?;
    let on_host: BTreeSet<IpAddr> = host.addresses()?.into_iter().collect();
    let mut inspected = Vec::new();
    for network in &networks {
        let link = host.link(&network.parent)?;
        let mut held = on_host.clone();
        if let Some(link) = &link {
            held.extend(store.held(link.segment())?);
        }
        let usage = network.subnets.iter();
        inspected.push(Inspected {
            definition: network.to_file(),
            parent_link: parent_link(network, link.as_ref()),
            usage: usage
                .map(|subnet| SubnetUsage { subnet: subnet.net(), usage: subnet.usage(&held) })
                .collect(),
            containers: records.iter().flat_map(|record| users(record, &network.name)).collect(),
        });
    }
    output::json(&inspected)
}

fn parent_link<'a>(network: &'a Network, link: Option<&Link>) -> ParentLink<'a> {
    ParentLink {
        name: &network.parent,
        state: match link {
            None => "missing",
            Some(link) if link.up => "up",
            Some(_) => "down",
        },
        made_by_underlay: link.is_some_and(Link::is_made_parent),
        mtu: link.map(|link| link.mtu),
    }
}

fn users<'a>(record: &'a Record, name: &'a NetworkName) -> impl Iterator<Item = User<'a>> {
    let alive = kernel::lives(&record.holder);
    record.attachments.iter().filter(move |attached| attached.network == *name).map(move |attached| User {
        container: &record.container,
        ifname: &attached.ifname,
        addresses: &attached.addresses,
        mac: attached.mac,
        alive,
    })
}

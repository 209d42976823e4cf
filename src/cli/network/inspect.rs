//! `underlay network inspect`: a definition, and what has become of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::claim::Claim;
use crate::cli::output;
use crate::error::Result;
use crate::host_link;
use crate::kernel::{self, Socket};
use crate::link::Link;
use crate::mac::MacAddr;
use crate::name::{ContainerId, IfName, NetworkName};
use crate::network::Network;
use crate::network_file::NetworkFile;
use crate::parents;
use crate::record::Record;
use crate::store::Store;
use crate::subnet::{Subnet, Usage};

/// What is shown of a network.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    definition: NetworkFile,
    parent_link: ParentLink<'a>,
    /// Why the parent takes no container now.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_link: Option<HostSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Vec<SubnetUsage>>,
    /// The VLANs that containers have asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlans_in_use: Vec<VlanInUse<'a>>,
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

/// A VLAN that containers have asked for: a segment of its own.
#[derive(Serialize)]
struct VlanInUse<'a> {
    parent_link: ParentLink<'a>,
    usage: Vec<SubnetUsage>,
}

/// The host's own link of the network as it is now.
#[derive(Serialize)]
struct HostSide {
    name: IfName,
    /// `missing` while there is no container, `down` or `up`.
    state: &'static str,
    /// What the host is to be reached at; none until the first container has come.
    addresses: Vec<IpAddr>,
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
    /// Where it is not the network's: the VLAN it has asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<&'a IfName>,
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
        let host_link = host_link(store, network, &mut host)?;
        let problem = parents::find(network, &mut host).err().map(|error| error.to_string());
        let mut look_at = |parent| {
            let link = host.link(parent)?;
            Ok((usage(store, network, link.as_ref(), &on_host)?, parent_link(parent, link.as_ref())))
        };
        let (usage, parent_link) = look_at(&network.parent)?;
        let containers: Vec<_> = records.iter().flat_map(|record| users(record, network)).collect();
        let vlans: BTreeSet<_> = containers.iter().filter_map(|user| user.parent).collect();
        let vlans = vlans.into_iter().map(|parent| {
            let (usage, parent_link) = look_at(parent)?;
            Ok(VlanInUse { parent_link, usage })
        });
        inspected.push(Inspected {
            definition: network.to_file(),
            parent_link,
            problem,
            host_link,
            // Nobody has addresses on the link that carries many VLANs.
            usage: (!network.is_of_many_vlans()).then_some(usage),
            vlans_in_use: vlans.collect::<Result<_>>()?,
            containers,
        });
    }
    output::json(&inspected)
}

/// How full the subnets of `network` are on `link`.
fn usage(
    store: &Store,
    network: &Network,
    link: Option<&Link>,
    on_host: &BTreeSet<IpAddr>,
) -> Result<Vec<SubnetUsage>> {
    let mut held = on_host.clone();
    held.extend(network.reservations.addresses().map(|(address, _)| address));
    if let Some(link) = link {
        held.extend(store.held(link.segment())?.into_iter().filter_map(Claim::address));
    }
    let usage = |subnet: &Subnet| SubnetUsage { subnet: subnet.net(), usage: subnet.usage(&held) };
    Ok(network.subnets.iter().map(usage).collect())
}

fn parent_link<'a>(name: &'a IfName, link: Option<&Link>) -> ParentLink<'a> {
    ParentLink {
        name,
        state: state(link),
        made_by_underlay: link.is_some_and(Link::is_made_parent),
        mtu: link.map(|link| link.mtu),
    }
}

fn state(link: Option<&Link>) -> &'static str {
    match link {
        None => "missing",
        Some(link) if link.up => "up",
        Some(_) => "down",
    }
}

fn host_link(store: &Store, network: &Network, host: &mut Socket) -> Result<Option<HostSide>> {
    if network.host_access.is_none() {
        return Ok(None);
    }
    let known = store.host_link(&network.name)?;
    let name = host_link::name(&network.name);
    let mark = host_link::mark(&network.name);
    let link = host.link(&name)?.filter(|link| link.alias.as_ref() == Some(&mark));
    Ok(Some(HostSide {
        name,
        state: state(link.as_ref()),
        addresses: known.map(|known| known.addresses).unwrap_or_default(),
    }))
}

fn users<'a>(record: &'a Record, network: &'a Network) -> impl Iterator<Item = User<'a>> {
    let alive = kernel::lives(&record.holder);
    record.attachments.iter().filter(move |attached| attached.network == network.name).map(move |attached| {
        User {
            container: &record.container,
            ifname: &attached.ifname,
            parent: Some(&attached.parent).filter(|parent| **parent != network.parent),
            addresses: &attached.addresses,
            mac: attached.mac,
            alive,
        }
    })
}

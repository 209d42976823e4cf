//! `underlay network inspect`: a definition, and the state of its links, addresses and containers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use ipnet::IpNet;
use serde::Serialize;

use crate::cli::output;
use crate::config::network::Network;
use crate::config::network_file::NetworkFile;
use crate::error::Result;
use crate::kernel;
use crate::ledger::Store;
use crate::ledger::host_link;
use crate::ledger::quarantine::{Quarantined, by_host};
use crate::ledger::record::Record;
use crate::lifecycle::parents;
use crate::net::lease_key::LeaseKey;
use crate::net::link::Link;
use crate::net::mac::MacAddr;
use crate::net::name::{ContainerId, IfName, NetworkName};
use crate::net::subnet::{Subnet, Usage};
use crate::netlink::Socket;

/// A network as it is shown.
#[derive(Serialize)]
struct Inspected<'a> {
    #[serde(flatten)]
    definition: &'a NetworkFile,
    #[serde(flatten)]
    own: OnSegment<'a>,
    /// Why the parent takes no container now.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_link: Option<HostLink>,
    /// The VLANs that containers have asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlans_in_use: Vec<OnSegment<'a>>,
    containers: Vec<User<'a>>,
}

#[derive(Serialize)]
pub(in crate::cli) struct ParentLink<'a> {
    pub(in crate::cli) name: &'a IfName,
    /// `missing`, `down` or `up`.
    state: &'static str,
    /// True if underlay has made it, and deletes it with the last network that needs it.
    made_by_underlay: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

/// A layer-2 segment that containers of the network are on.
#[derive(Serialize)]
pub(in crate::cli) struct OnSegment<'a> {
    pub(in crate::cli) parent_link: ParentLink<'a>,
    /// `None` if the parent carries many VLANs: then it has no addresses of containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) usage: Option<Vec<SubnetUsage>>,
    /// Addresses that are not allocated for a while, because another host on the LAN answered for them.
    pub(in crate::cli) quarantine: Vec<Quarantine>,
    /// How many of these each host has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    quarantined_by: BTreeMap<MacAddr, usize>,
}

/// The host's own link of the network.
#[derive(Serialize)]
struct HostLink {
    name: IfName,
    /// `missing` while there is no container, `down` or `up`.
    state: &'static str,
    /// The host's addresses; none before the first container.
    addresses: Vec<IpAddr>,
}

/// How full a subnet is. Addresses of the host and of other networks on the same parent count too.
#[derive(Serialize)]
pub(in crate::cli) struct SubnetUsage {
    pub(in crate::cli) subnet: IpNet,
    #[serde(flatten)]
    pub(in crate::cli) usage: Usage,
}

/// An address in quarantine.
#[derive(Serialize)]
pub(in crate::cli) struct Quarantine {
    address: IpAddr,
    /// The host that has it.
    mac: MacAddr,
    /// When it may be allocated again (RFC 3339).
    until: String,
}

/// An attachment of the network.
#[derive(Serialize)]
struct User<'a> {
    container: &'a ContainerId,
    ifname: &'a IfName,
    /// The VLAN that the container asked for, if the network has many.
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
        let (own, vlans_in_use) = segments(store, network, &records, &on_host, &mut host)?;
        inspected.push(Inspected {
            definition: &network.file,
            own,
            problem,
            host_link,
            vlans_in_use,
            containers: records.iter().flat_map(|record| users(record, network)).collect(),
        });
    }
    output::json(&inspected)
}

/// Returns what `network` has on the segment of its parent, and on those of the VLANs that containers have asked for.
pub(in crate::cli) fn segments<'a>(
    store: &Store,
    network: &'a Network,
    records: &'a [Record],
    on_host: &BTreeSet<IpAddr>,
    host: &mut Socket,
) -> Result<(OnSegment<'a>, Vec<OnSegment<'a>>)> {
    let mut on_segment = |name: &'a IfName| {
        let link = host.link(name)?;
        let carries_vlans = network.is_of_many_vlans() && *name == network.parent;
        let (mut held, mut quarantine) = (on_host.clone(), Vec::new());
        held.extend(network.reservations.addresses().map(|(address, _)| address));
        if let Some(link) = &link {
            held.extend(store.held(link.segment())?.into_iter().filter_map(LeaseKey::address));
            quarantine = store.quarantined(link.segment());
            quarantine.retain(|(address, _)| network.subnet_of(*address).is_some());
            held.extend(quarantine.iter().map(|(address, _)| *address));
        }
        let usage = |subnet: &Subnet| SubnetUsage { subnet: subnet.net(), usage: subnet.usage(&held) };
        let shown = |(address, Quarantined { mac, until }): (IpAddr, Quarantined)| {
            let until = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(until));
            Quarantine { address, mac, until: until.to_string() }
        };
        Ok(OnSegment {
            parent_link: ParentLink {
                name,
                state: link_state(link.as_ref()),
                made_by_underlay: link.as_ref().is_some_and(Link::is_made_parent),
                mtu: link.as_ref().map(|link| link.mtu),
            },
            usage: (!carries_vlans).then(|| network.subnets.iter().map(usage).collect()),
            quarantined_by: by_host(quarantine.iter().map(|(_, entry)| entry)),
            quarantine: quarantine.into_iter().map(shown).collect(),
        })
    };
    let own = on_segment(&network.parent)?;
    let users = records.iter().flat_map(|record| users(record, network));
    let vlans: BTreeSet<_> = users.filter_map(|user| user.parent).collect();
    Ok((own, vlans.into_iter().map(on_segment).collect::<Result<_>>()?))
}

fn link_state(link: Option<&Link>) -> &'static str {
    match link {
        None => "missing",
        Some(link) if link.up => "up",
        Some(_) => "down",
    }
}

fn host_link(store: &Store, network: &Network, host: &mut Socket) -> Result<Option<HostLink>> {
    if network.file.host_access.is_none() {
        return Ok(None);
    }
    let addresses = store.host_link(&network.name)?.map(|known| known.addresses).unwrap_or_default();
    let (name, mark) = (host_link::name(&network.name), host_link::mark(&network.name));
    let link = host.link(&name)?.filter(|link| link.alias.as_ref() == Some(&mark));
    Ok(Some(HostLink { state: link_state(link.as_ref()), name, addresses }))
}

fn users<'a>(record: &'a Record, network: &'a Network) -> impl Iterator<Item = User<'a>> {
    let alive = kernel::is_alive(&record.holder);
    let attachments = record.attachments().iter().filter(|attached| attached.network == network.name);
    attachments.map(move |attached| User {
        container: &record.container,
        ifname: &attached.ifname,
        parent: Some(&attached.parent).filter(|parent| **parent != network.parent),
        addresses: &attached.addresses,
        mac: attached.mac,
        alive,
    })
}

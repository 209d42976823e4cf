//! `underlay network inspect`: a definition, and what has become of it.

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
    /// Addresses that somebody else on the LAN was seen to have, and that are not picked for a while.
    quarantine: Vec<Quarantine>,
    /// How many of these each host has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    quarantined_by: BTreeMap<MacAddr, usize>,
    /// The VLANs that containers have asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    vlans_in_use: Vec<OnSegment<'a>>,
    containers: Vec<User<'a>>,
}

/// The parent as it is now.
#[derive(Serialize)]
pub(in crate::cli) struct ParentLink<'a> {
    pub(in crate::cli) name: &'a IfName,
    /// `missing`, `down` or `up`.
    state: &'static str,
    /// Whether underlay has made it, and deletes it with the last network that needs it.
    made_by_underlay: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
}

/// A layer-2 segment that containers of the network are on.
#[derive(Serialize)]
pub(in crate::cli) struct OnSegment<'a> {
    pub(in crate::cli) parent_link: ParentLink<'a>,
    pub(in crate::cli) usage: Vec<SubnetUsage>,
    pub(in crate::cli) quarantine: Vec<Quarantine>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    quarantined_by: BTreeMap<MacAddr, usize>,
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
pub(in crate::cli) struct SubnetUsage {
    pub(in crate::cli) subnet: IpNet,
    #[serde(flatten)]
    pub(in crate::cli) usage: Usage,
}

/// An address that is set aside.
#[derive(Serialize)]
pub(in crate::cli) struct Quarantine {
    address: IpAddr,
    /// Who has it.
    mac: MacAddr,
    /// When it may be picked again (RFC 3339).
    until: String,
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
        let (own, vlans_in_use) = segments(store, network, &records, &on_host, &mut host)?;
        inspected.push(Inspected {
            definition: network.file.clone(),
            parent_link: own.parent_link,
            problem,
            host_link,
            // Nobody has addresses on the link that carries many VLANs.
            usage: (!network.is_of_many_vlans()).then_some(own.usage),
            quarantine: own.quarantine,
            quarantined_by: own.quarantined_by,
            vlans_in_use,
            containers: records.iter().flat_map(|record| users(record, network)).collect(),
        });
    }
    output::json(&inspected)
}

/// What of `network` is on the segment of its parent, and on those of the VLANs that containers have asked for.
pub(in crate::cli) fn segments<'a>(
    store: &Store,
    network: &'a Network,
    records: &'a [Record],
    on_host: &BTreeSet<IpAddr>,
    host: &mut Socket,
) -> Result<(OnSegment<'a>, Vec<OnSegment<'a>>)> {
    let mut look_at = |parent| {
        let link = host.link(parent)?;
        on_segment(store, network, parent, link.as_ref(), on_host)
    };
    let own = look_at(&network.parent)?;
    let users = records.iter().flat_map(|record| users(record, network));
    let vlans: BTreeSet<_> = users.filter_map(|user| user.parent).collect();
    Ok((own, vlans.into_iter().map(look_at).collect::<Result<_>>()?))
}

/// What of `network` is on the segment of its parent, or of the VLAN `parent`, which is `link`.
fn on_segment<'a>(
    store: &Store,
    network: &Network,
    parent: &'a IfName,
    link: Option<&Link>,
    on_host: &BTreeSet<IpAddr>,
) -> Result<OnSegment<'a>> {
    let (mut held, mut quarantine) = (on_host.clone(), Vec::new());
    held.extend(network.reservations.addresses().map(|(address, _)| address));
    if let Some(link) = link {
        held.extend(store.held(link.segment())?.into_iter().filter_map(LeaseKey::address));
        let set_aside = store.quarantined(link.segment()).into_iter();
        quarantine.extend(set_aside.filter(|(address, _)| network.subnet_of(*address).is_some()));
        held.extend(quarantine.iter().map(|(address, _)| *address));
    }
    let usage = |subnet: &Subnet| SubnetUsage { subnet: subnet.net(), usage: subnet.usage(&held) };
    let usage = network.subnets.iter().map(usage).collect();
    let quarantined_by = by_host(quarantine.iter().map(|(_, entry)| entry));
    let quarantine = quarantine.into_iter().map(shown).collect();
    Ok(OnSegment { parent_link: parent_link(parent, link), usage, quarantine, quarantined_by })
}

fn shown((address, Quarantined { mac, until }): (IpAddr, Quarantined)) -> Quarantine {
    let until = UNIX_EPOCH + Duration::from_secs(until);
    Quarantine { address, mac, until: humantime::format_rfc3339_seconds(until).to_string() }
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
    if network.file.host_access.is_none() {
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
    record.attachments().iter().filter(move |attached| attached.network == network.name).map(
        move |attached| User {
            container: &record.container,
            ifname: &attached.ifname,
            parent: Some(&attached.parent).filter(|parent| **parent != network.parent),
            addresses: &attached.addresses,
            mac: attached.mac,
            alive,
        },
    )
}

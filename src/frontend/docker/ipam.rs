//! Pools and addresses: what Docker asks of an IPAM driver.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::pool::Pool;
use super::protocol::{ADDRESS_TYPE, GATEWAY, ReleaseAddress, RequestAddress, RequestPool};
use crate::config::conflict_detection::Detection;
use crate::config::network::Network;
use crate::config::network_file::SubnetFile;
use crate::error::{Error, Kind, Result};
use crate::ledger::Store;
use crate::ledger::docker::DockerNetwork;
use crate::lifecycle::context::Context;
use crate::lifecycle::endpoint;

/// Returns the pool that is asked for, and the gateway of its subnet if a network of underlay says that.
///
/// # Errors
/// When no subnet is named: of a pool that overlaps another Docker would ask for one after the other without end.
pub(super) fn request_pool(store: &Store, call: &RequestPool) -> Result<(Pool, Option<IpNet>)> {
    let named = match Pool::network_of(&call.options)? {
        Some(name) => Some(store.network(&name)?),
        None => None,
    };
    if call.pool.is_empty() {
        return Err(without_subnet(named.as_ref(), call.v6));
    }
    let pool = Pool::new(&call.pool, &call.sub_pool, &call.options)?;
    let Some(network) = named else { return Ok((pool, None)) };
    let file = network.file.subnets.iter().find(|file| file.subnet == pool.subnet).ok_or_else(|| {
        Error::input(format!("network {} has no subnet {}", network.name, pool.subnet))
            .hint(subnets_of(&network))
    })?;
    let gateway = file.gateway.filter(|gateway| file.subnet.contains(gateway));
    Ok((pool, gateway.map(|gateway| in_subnet(file.subnet, gateway))))
}

/// The error for a pool of which Docker leaves all to us.
fn without_subnet(named: Option<&Network>, v6: bool) -> Error {
    let (family, example) = if v6 { ("an IPv6", "2001:db8::/64") } else { ("a", "192.0.2.0/24") };
    let error = Error::input(format!("the network needs {family} subnet"));
    match named {
        Some(network) => error.hint(subnets_of(network)),
        None => error.hint(format!(
            "give --subnet {example}, that of the LAN; or for addresses by DHCP use --ipam-driver null with -o dhcp=true"
        )),
    }
}

/// What can be asked for of a network of underlay.
fn subnets_of(network: &Network) -> String {
    let subnets: Vec<_> =
        network.file.subnets.iter().map(|file| format!("--subnet {}", file.subnet)).collect();
    let name = &network.name;
    match &network.file.dhcp {
        Some(_) => {
            format!("{name} has addresses by DHCP: use --ipam-driver null, without --ipam-opt and --subnet")
        }
        None if subnets.is_empty() => format!("{name} has no subnets: Docker has no use for it"),
        None => format!("give {}, as {name} has it", subnets.join(" ")),
    }
}

/// The answer to `RequestAddress`. The pool `is_new` if it was asked for just now, as for a network that is being created.
///
/// # Errors
/// When the address cannot be had.
pub(super) fn request_address(
    context: &mut Context<'_>,
    call: &RequestAddress,
    is_new: bool,
) -> Result<Value> {
    let pool: Pool = call.pool.parse()?;
    let subnet = pool.subnet;
    let address = Some(call.address.as_str()).filter(|text| !text.is_empty()).map(parse).transpose()?;
    if let Some(address) = address.filter(|address| !subnet.contains(address)) {
        return Err(Error::input(format!("address {address} is outside of subnet {subnet}")));
    }
    let networks = bound(context, &pool)?;
    let is_reserved = |address| {
        networks.iter().flat_map(|network| &network.subnets).any(|subnet| subnet.is_reserved(address))
    };
    let is_gateway = call.options.get(ADDRESS_TYPE).is_some_and(|kind| kind == GATEWAY);
    let found = match (address, networks.is_empty()) {
        (Some(address), _) if is_gateway => in_subnet(subnet, address),
        // Docker before 28 wants one for each subnet; a network without one does not use it.
        (None, _) if is_gateway => {
            let plain = SubnetFile { subnet, ..SubnetFile::default() }.check()?;
            let first = plain.candidates(None).next();
            first.ok_or_else(|| Error::input(format!("subnet {subnet} has no address for a gateway")))?
        }
        // Before the network is created, aux addresses are all that is asked for.
        (Some(address), true) if is_new => in_subnet(subnet, address),
        (_, true) => {
            return Err(Error::new(Kind::NotFound, format!("pool {pool} belongs to no network of driver underlay"))
                .hint("remove the network in Docker, and create it again, with -d underlay beside --ipam-driver underlay"));
        }
        // The gateway or an aux address of one of them: asked for again after each start of Docker. Whether an endpoint of another
        // one can have it is decided when that is created.
        (Some(address), false) if is_reserved(address) => in_subnet(subnet, address),
        (Some(address), false) => {
            endpoint::expect(context, careful(networks)?, address)?;
            in_subnet(subnet, address)
        }
        (None, false) => endpoint::pick(context, careful(networks)?)?,
    };
    Ok(json!({ "Address": found, "Data": {} }))
}

/// Gives back what no endpoint has.
///
/// # Errors
/// When networks or the ledger cannot be read or written. Docker logs it, and goes on: `gc` releases the address after a minute.
pub(super) fn release_address(context: &mut Context<'_>, call: &ReleaseAddress) -> Result<()> {
    let (Ok(pool), Ok(address)) = (call.pool.parse::<Pool>(), parse(&call.address)) else { return Ok(()) };
    // Without any, the network was removed, here or there.
    let networks = bound(context, &pool)?;
    networks.first().map_or(Ok(()), |network| endpoint::release_address(context, network, address))
}

/// Returns the networks that have `pool`, each with that alone as its subnet: all of them are on one LAN. None has it before the
/// first one is created.
///
/// # Errors
/// When networks on several parents have it.
fn bound(context: &Context<'_>, pool: &Pool) -> Result<Vec<Network>> {
    let (store, id) = (context.store, pool.to_string());
    let has_subnet =
        |known: &DockerNetwork| known.definition.subnets.iter().any(|file| file.subnet == pool.subnet);
    let mut found = Vec::new();
    for known in store.docker_networks()?.into_iter().filter(has_subnet) {
        match known.network(store) {
            Ok(network) => found.push((known, network)),
            Err(error) => log::warn!("{error}"),
        }
    }
    found.retain(|(known, network)| pool.suits(known.network.as_ref(), &network.parent));
    let is_its = |(known, _): &(DockerNetwork, Network)| known.pools.contains(&id);
    if found.iter().any(is_its) {
        found.retain(is_its);
    }
    if let Some((_, network)) = found.first() {
        if let Some((_, other)) = found.iter().find(|(_, other)| other.parent != network.parent) {
            return Err(on_two_parents(pool, network, other));
        }
    }
    found.into_iter().map(|(_, network)| with_pool(context, network, pool)).collect()
}

/// `network` with the subnet of `pool` alone.
fn with_pool(context: &Context<'_>, network: Network, pool: &Pool) -> Result<Network> {
    let file = network.file.subnets.iter().find(|file| file.subnet == pool.subnet).cloned();
    let file = file.ok_or_else(|| Error::bug(format!("network {} has lost a subnet", network.name)))?;
    let ip_range = pool.range.map(|range| range.to_string()).or(file.ip_range.clone());
    let next_hops = network.file.routes.iter().filter_map(|route| route.via);
    let subnet = SubnetFile { ip_range, ..file }.check()?.with_next_hops(next_hops);
    Ok(Network { subnets: vec![subnet], ..context.settings.complete(network) })
}

/// The one of `networks` by which an address is chosen: that which asks the LAN, if any does. What the others set aside is left out in
/// any case.
fn careful(networks: Vec<Network>) -> Result<Network> {
    let asks = |network: &Network| network.file.conflict_detection.is_some_and(|how| how != Detection::Off);
    let best = networks.into_iter().max_by_key(asks);
    best.ok_or_else(|| Error::bug("a pool belongs to no network"))
}

/// The error for networks on two LANs that Docker tells apart by nothing.
pub(super) fn on_two_parents(pool: &Pool, one: &Network, other: &Network) -> Error {
    let (subnet, first, second) = (pool.subnet, &one.parent, &other.parent);
    Error::new(Kind::Taken, format!("subnet {subnet} is on parent {first} and on parent {second}")).hint(format!(
        "create the second network with --ipam-opt parent={second}: it tells the addresses of the two apart"
    ))
}

fn parse(text: &str) -> Result<IpAddr> {
    let address = text.parse().or_else(|_| text.parse::<IpNet>().map(|net| net.addr()));
    address.map_err(|_| Error::input(format!("address {text:?} is not usable")))
}

/// `address` with the prefix length of `subnet`.
fn in_subnet(subnet: IpNet, address: IpAddr) -> IpNet {
    IpNet::new(address, subnet.prefix_len()).unwrap_or(subnet)
}
